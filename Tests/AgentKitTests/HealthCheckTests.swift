import Configuration
import Glibc
import HealthKit
import Logging
import Model
import NIOCore
import NIOPosix
import Testing

@testable import AgentKit

/// Health checks against real sockets of the loopback.
@Suite("Health checks", .serialized)
struct HealthCheckTests {
    /// A server that answers every request in the same way; port of its own.
    private final class Application {
        let descriptor: Int32
        let endpoint: Endpoint
        private var thread: pthread_t = 0

        enum Manner: Sendable {
            case silent
            case closing
            case answering(String)
        }

        init(_ manner: Manner) throws {
            let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let code = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer -> CInt in
                    guard bind(listener, pointer, length) == 0, listen(listener, 16) == 0 else { return -1 }
                    return getsockname(listener, pointer, &length)
                }
            }
            descriptor = listener
            endpoint = Endpoint(address: IPAddress(ipv4: 0x7f00_0001), port: UInt16(bigEndian: address.sin_port))
            try #require(code == 0)
            pthreadStart { HealthCheckTests.serve(listener, manner) }
        }

        func stop() { shutdown(descriptor, Int32(SHUT_RDWR)) }

        deinit {
            stop()
            close(descriptor)
        }

        private func pthreadStart(_ body: @escaping @Sendable () -> Void) {
            let box = Unmanaged.passRetained(Box(body))
            let code = pthread_create(
                &thread, nil,
                { pointer in
                    if let pointer { Unmanaged<Box>.fromOpaque(pointer).takeRetainedValue().body() }
                    return nil
                }, box.toOpaque())
            if code == 0 { pthread_detach(thread) }
        }

        private final class Box: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
    }

    private static func serve(_ listener: Int32, _ manner: Application.Manner) {
        var open: [Int32] = []
        while true {
            let connection = accept(listener, nil, nil)
            guard connection >= 0 else { break }
            switch manner {
            case .silent:
                open.append(connection)
                continue
            case .closing: break
            case .answering(let text):
                var request = [UInt8](repeating: 0, count: 4096)
                _ = read(connection, &request, request.count)
                let bytes = Array(text.utf8)
                _ = send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            }
            close(connection)
        }
        for connection in open { close(connection) }
    }

    /// The outcomes of the first checks of one service.
    private func outcomes(
        _ count: Int,
        _ endpoint: Endpoint,
        _ check: AgentConfiguration.Check,
        isListening: @escaping @Sendable (Endpoint) -> Bool = { _ in false }
    ) async throws -> [Bool] {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let done = loop.makePromise(of: [Bool].self)
        let timer = loop.scheduleTask(in: .seconds(5)) { done.fail(CheckFailure.noAnswer) }
        let checks = try await loop.submit {
            let seen = NIOLoopBoundBox([Bool](), eventLoop: loop)
            let checks = HealthChecks(loop: loop, logger: Logger(label: "test"), isListening: isListening) {
                service, passed, _ in
                guard service == "web" else { return }
                seen.value.append(passed)
                if seen.value.count == count { done.succeed(seen.value) }
            }
            checks.set([("web", endpoint, check)])
            return NIOLoopBound(checks, eventLoop: loop)
        }.get()
        let result = try await done.futureResult.get()
        timer.cancel()
        try await loop.submit { checks.value.stop() }.get()
        return result
    }

    private func check(_ kind: AgentConfiguration.CheckKind) -> AgentConfiguration.Check {
        AgentConfiguration.Check(kind: kind, interval: .milliseconds(60), timeout: .milliseconds(50))
    }

    private static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    @Test("tcp: who accepts passes, whatever it says; who does not listen fails")
    func tcp() async throws {
        let application = try Application(.silent)
        #expect(try await outcomes(2, application.endpoint, check(.tcp)) == [true, true])
        application.stop()
        #expect(try await outcomes(2, application.endpoint, check(.tcp)) == [false, false])
    }

    private static let manners: [(Application.Manner, ClosedRange<Int>, Bool)] = [
        (.answering(ok), 200...399, true),
        (.answering(ok), 204...204, false),
        (.answering("HTTP/1.1 503 Service Unavailable\r\n\r\n"), 200...399, false),
        (.answering("HTTP/1.1 503 Service Unavailable\r\n\r\n"), 503...503, true),
        (.answering("SSH-2.0-x\r\n"), 200...399, false),
        (.answering("HTTP/1.1 20"), 200...399, false),
        (.closing, 200...399, false),
        (.silent, 200...399, false),
    ]

    @Test("http: the status decides; silence, a close and another protocol fail", arguments: 0..<8)
    func http(number: Int) async throws {
        let (manner, status, passes) = Self.manners[number]
        let application = try Application(manner)
        var check = check(.http)
        check.status = status
        #expect(try await outcomes(2, application.endpoint, check) == [passes, passes], "\(manner)")
        application.stop()
        #expect(try await outcomes(1, application.endpoint, check) == [false])
    }

    @Test("process and none: nobody is connected to")
    func withoutConnection() async throws {
        let nobody = Endpoint(address: IPAddress(ipv4: 0x7f00_0001), port: 9)
        #expect(try await outcomes(2, nobody, check(.process)) == [false, false])
        #expect(try await outcomes(2, nobody, check(.process), isListening: { $0 == nobody }) == [true, true])
        #expect(try await outcomes(2, nobody, check(.none)) == [true, true])
    }
}
