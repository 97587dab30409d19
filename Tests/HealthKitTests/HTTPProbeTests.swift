import Model
import Testing

@testable import HealthKit

@Suite("Requests of checks")
struct HTTPProbeTests {
    @Test("The request names path and host; the service's address is the default")
    func request() throws {
        let service = try #require(Endpoint("10.0.0.1:80"))
        func text(_ endpoint: Endpoint, path: String = "/", host: String? = nil) -> String {
            String(decoding: HTTPProbe.request(endpoint, path: path, host: host, agent: "x"), as: UTF8.self)
        }
        #expect(text(service).hasPrefix("GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n"))
        #expect(text(service).hasSuffix("\r\nConnection: close\r\n\r\n"))
        #expect(text(try #require(Endpoint("10.0.0.1:8080"))).contains("\r\nHost: 10.0.0.1:8080\r\n"))
        #expect(text(try #require(Endpoint("[2001:db8::1]:80"))).contains("\r\nHost: [2001:db8::1]\r\n"))
        let named = text(service, path: "/health?full=1", host: "api.example")
        #expect(named.hasPrefix("GET /health?full=1 HTTP/1.1\r\nHost: api.example\r\n"))
    }

    private static let answers: [(String, HTTPProbe.Answer)] = [
        ("", .more),
        ("HTTP", .more),
        ("HTTP/1.1 200 OK", .more),
        ("HTTP/1.1 200 OK\r\n", .status(200)),
        ("HTTP/1.0 503\n", .status(503)),
        ("HTTP/1.1 404 Not Found\r\nServer: x\r\n\r\nbody", .status(404)),
        ("HTTP/1.1 100 Continue\r\n", .more),
        ("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\n", .status(204)),
        ("HTTP/1.1 101 Switching Protocols\r\n", .status(101)),
        ("SSH-2.0-OpenSSH", .malformed),
        ("HTTP/2 200\r\n", .malformed),
        ("HTTP/1.1 20 OK\r\n", .malformed),
        ("HTTP/1.1 2000 OK\r\n", .malformed),
        ("HTTP/1.1  200 OK\r\n", .malformed),
        ("\r\nHTTP/1.1 200 OK\r\n", .malformed),
        (String(repeating: "HTTP/1.1 100 Continue\r\n\r\n", count: 700), .malformed),
    ]

    @Test("Answers, whole and in parts", arguments: 0..<16)
    func answers(number: Int) {
        let (text, expected) = Self.answers[number]
        let bytes = Array(text.utf8)
        #expect(HTTPProbe.read(bytes) == expected, "\(text.prefix(60))")
        // No part of a good answer is malformed, and none says another status.
        guard case .status = expected else { return }
        for end in bytes.indices {
            let part = HTTPProbe.read(Array(bytes[..<end]))
            #expect(part == .more || part == expected, "\(end) bytes of \(text.prefix(60))")
        }
    }
}
