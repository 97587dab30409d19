import Glibc
import Model
import NIOCore
import NIOPosix
import Testing

@testable import HealthKit

/// Each kind of check against a server of the loopback that is right, and ones that are not.
@Suite("Checks", .serialized)
struct CheckTests {
    private static let nobody = Endpoint(address: Servers.loopback, port: 9)

    @Test("tcp: who takes connections passes")
    func tcp() async throws {
        let (channel, endpoint) = try await Servers.stream(nil)
        #expect(try await Servers.attempt(TCPCheck(), endpoint) == nil)
        try await channel.close().get()
        #expect(try await Servers.attempt(TCPCheck(), endpoint) != nil)
    }

    private static let page = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall is well, load 7\n"

    @Test("http: status, text and expression")
    func http() async throws {
        let (channel, endpoint) = try await Servers.stream(Self.page)
        defer { channel.close(promise: nil) }
        func check(
            statuses: [ClosedRange<Int>] = [200...399], text: String? = nil, pattern: String? = nil
        ) async throws -> String? {
            let expectation = HTTPCheck.Expectation(
                statuses: statuses, text: text.map { Array($0.utf8) }, pattern: pattern.flatMap(TextPattern.init))
            return try await Servers.attempt(HTTPCheck(expectation), endpoint)
        }
        #expect(try await check() == nil)
        #expect(try await check(statuses: [100...199, 200...200]) == nil)
        #expect(try await check(statuses: [201...299, 500...500]) == "the status is 200")
        #expect(try await check(text: "is well") == nil)
        #expect(try await check(text: "is ill") == "the body lacks the text")
        #expect(try await check(text: "text/plain") == "the body lacks the text", "that is in the head")
        #expect(try await check(pattern: "load [0-9]+$") == "the body does not match", "a line end follows")
        #expect(try await check(pattern: "^all .* load [0-9]+") == nil)
        #expect(try await Servers.attempt(HTTPCheck(.init()), Self.nobody) != nil)
    }

    @Test("http: silence and another protocol fail")
    func notHTTP() async throws {
        for (text, cause) in [("SSH-2.0-x\r\n", "the answer is not HTTP/1"), (nil, "timeout")] as [(String?, String)] {
            let (channel, endpoint) = try await Servers.stream(text)
            let failure = try await Servers.attempt(HTTPCheck(.init()), endpoint, timeout: .milliseconds(200))
            #expect(failure == cause)
            try await channel.close().get()
        }
    }

    // MARK: TLS

    private func authorities() throws -> String {
        let path = "/tmp/bth-\(getpid())-\(UInt32.random(in: 0 ... .max)).pem"
        let file = try #require(fopen(path, "w"))
        fputs(Servers.certificateText + "\n", file)
        fclose(file)
        return path
    }

    @Test("tls: a handshake suffices; with verification the certificate and its name must be right")
    func tls() async throws {
        let (channel, endpoint) = try await Servers.stream(nil, tls: true)
        defer { channel.close(promise: nil) }
        let trusted = try authorities()
        defer { unlink(trusted) }
        func check(_ name: String?, verifies: Bool, _ authorities: String? = nil) async throws -> String? {
            let tls = try CheckTLS(serverName: name, verifies: verifies, authorities: authorities)
            return try await Servers.attempt(TLSCheck(tls), endpoint)
        }
        #expect(try await check(nil, verifies: false) == nil)
        #expect(try await check("web.example", verifies: false) == nil)
        #expect(try await check("web.example", verifies: true, trusted) == nil)
        #expect(try await check(nil, verifies: true, trusted) == nil)
        #expect(try await check("other.example", verifies: true, trusted) != nil, "another name")
        #expect(try await check("web.example", verifies: true) != nil, "nobody trusted has signed it")
        #expect(throws: (any Error).self) {
            try CheckTLS(serverName: nil, verifies: true, authorities: "/nonexistent/ca.pem")
        }
    }

    @Test("tls: a server that does not speak it fails; https asks within it")
    func withinTLS() async throws {
        let (plain, plainEndpoint) = try await Servers.stream("no TLS here\n")
        defer { plain.close(promise: nil) }
        let tls = try CheckTLS(serverName: "web.example", verifies: false, authorities: nil)
        #expect(try await Servers.attempt(TLSCheck(tls), plainEndpoint) != nil)
        let (channel, endpoint) = try await Servers.stream(Self.page, tls: true)
        defer { channel.close(promise: nil) }
        let good = HTTPCheck.Expectation(text: Array("well".utf8))
        #expect(try await Servers.attempt(HTTPCheck(good, tls: tls), endpoint) == nil)
        let bad = HTTPCheck.Expectation(statuses: [404...404])
        #expect(try await Servers.attempt(HTTPCheck(bad, tls: tls), endpoint) == "the status is 200")
    }

    // MARK: Datagrams

    @Test("ping: the loopback answers; an address that nobody has does not")
    func ping() async throws {
        try #require(geteuid() == 0, "raw sockets need root")
        #expect(try await Servers.attempt(PingCheck(), Endpoint(address: Servers.loopback, port: 0)) == nil)
        let far = Endpoint(address: IPAddress(ipv4: 0xf000_0001), port: 0)
        #expect(try await Servers.attempt(PingCheck(), far, timeout: .milliseconds(200)) != nil)
    }

    @Test("dns: the code decides, and the address where one is expected")
    func dns() async throws {
        let question = DNSQuestion(name: "www.example.com", type: .a)
        let (channel, endpoint) = try await Servers.datagrams { query in
            DNSAnswers.answer(query, addresses: [[192, 0, 2, 1], [192, 0, 2, 7]])
        }
        defer { channel.close(promise: nil) }
        #expect(try await Servers.attempt(DNSCheck(question), endpoint) == nil)
        let right = IPAddress(ipv4: 0xc000_0207)
        #expect(try await Servers.attempt(DNSCheck(question, expected: right), endpoint) == nil)
        let wrong = IPAddress(ipv4: 0xc000_0208)
        let failure = try await Servers.attempt(DNSCheck(question, expected: wrong), endpoint)
        #expect(failure == "192.0.2.8 is not among the answers")
        let (refusing, place) = try await Servers.datagrams { DNSAnswers.answer($0, code: 5, addresses: []) }
        defer { refusing.close(promise: nil) }
        #expect(try await Servers.attempt(DNSCheck(question), place) == "the answer's code is REFUSED")
        // Nobody there: told by ICMP.
        #expect(try await Servers.attempt(DNSCheck(question), Self.nobody) != nil)
    }

    // MARK: Commands

    private func command(_ script: String, timeout: TimeAmount = .seconds(5)) async throws -> String? {
        try await Servers.attempt(
            CommandCheck(["/bin/sh", "-c", script]), Endpoint(address: Servers.loopback, port: 8080), timeout: timeout)
    }

    @Test("command: the exit status decides; the environment says what to check")
    func commands() async throws {
        #expect(try await command("exit 0") == nil)
        #expect(try await command("exit 3") == "/bin/sh: exit status 3")
        #expect(try await command("kill -9 $$") == "/bin/sh: ended by signal 9")
        let test = "test $BATON_SERVICE.$BATON_BACKEND.$BATON_ADDRESS.$BATON_PORT = web.web1.127.0.0.1.8080"
        #expect(try await command(test) == nil)
        #expect(try await command("test -n \"$PATH\"") == nil, "the daemon's own environment is there too")
        #expect(try await Servers.attempt(CommandCheck(["/nonexistent"]), Self.nobody) != nil)
    }

    @Test("command: one that hangs is killed with all that it has started")
    func hangingCommand() async throws {
        let path = "/tmp/bth-\(getpid())-\(UInt32.random(in: 0 ... .max)).pid"
        defer { unlink(path) }
        let failure = try await command("sleep 60 & echo $! > \(path); wait", timeout: .milliseconds(300))
        #expect(failure == "timeout")
        let file = try #require(fopen(path, "r"))
        var line = [CChar](repeating: 0, count: 32)
        fgets(&line, 32, file)
        fclose(file)
        let child = pid_t(atoi(line))
        try #require(child > 1)
        for _ in 0..<200 where isRunning(child) { usleep(10_000) }
        #expect(!isRunning(child), "the child \(child) is there still")
    }

    /// A zombie, whose parent is gone, runs no more.
    private func isRunning(_ process: pid_t) -> Bool {
        guard let file = fopen("/proc/\(process)/stat", "r") else { return false }
        defer { fclose(file) }
        var text = [CChar](repeating: 0, count: 256)
        guard fgets(&text, 256, file) != nil else { return false }
        let line = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return !line.contains(") Z ") && !line.contains(") X ")
    }
}
