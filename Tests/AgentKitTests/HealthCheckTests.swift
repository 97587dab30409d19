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

    private func configuration(_ check: AgentConfiguration.Check) -> AgentConfiguration {
        AgentConfiguration(
            interface: "lo", name: "web1", director: Endpoint(address: IPAddress(ipv4: 0x7f00_0001), port: 7400),
            services: [.init(name: "web", check: check)])
    }

    /// The first reports on one service; nil: the options of a SYN-ACK.
    private func reports(
        _ count: Int,
        _ endpoint: Endpoint,
        _ check: AgentConfiguration.Check,
        isListening: @escaping @Sendable (Endpoint) -> Bool = { _ in false }
    ) async throws -> [Bool?] {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let done = loop.makePromise(of: [Bool?].self)
        let timer = loop.scheduleTask(in: .seconds(5)) { done.fail(CheckFailure.noAnswer) }
        let seen = NIOLoopBoundBox.makeBoxSendingValue([Bool?](), eventLoop: loop)
        let checks = HealthChecks(
            configuration(check), control: loop, logger: Logger(label: "test"), isListening: isListening
        ) { report in
            switch report {
            case .ended(let service, let passed): seen.value.append(service == "web" ? passed : nil)
            case .handshake: seen.value.append(nil)
            }
            if seen.value.count == count { done.succeed(seen.value) }
        }
        defer { checks.stop() }
        try checks.set([("web", endpoint)])
        let result = try await done.futureResult.get()
        timer.cancel()
        return result
    }

    /// The outcomes of the first checks of one service.
    private func outcomes(
        _ count: Int,
        _ endpoint: Endpoint,
        _ check: AgentConfiguration.Check,
        isListening: @escaping @Sendable (Endpoint) -> Bool = { _ in false }
    ) async throws -> [Bool] {
        var all = count
        while true {
            let outcomes = try await reports(all, endpoint, check, isListening: isListening).compactMap { $0 }
            if outcomes.count >= count { return Array(outcomes.prefix(count)) }
            all *= 2
        }
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
        check.statuses = [status]
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

    @Test("a connection that opens shows the SYN-ACK's options, before its outcome")
    func handshake() async throws {
        let application = try Application(.silent)
        #expect(try await reports(4, application.endpoint, check(.tcp)) == [nil, true, nil, true])
    }

    @Test("the body decides too, by a text or an expression")
    func body() async throws {
        let application = try Application(.answering("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nload 7, all is well"))
        for (text, regex, passes) in [("all is well", nil, true), ("all is lost", nil, false), (nil, "load [0-9],", true),
            (nil, "load [a-z]", false)] as [(String?, String?, Bool)]
        {
            var check = check(.http)
            check.body = text
            check.regex = regex
            #expect(try await outcomes(1, application.endpoint, check) == [passes], "\(text ?? regex ?? "")")
        }
    }

    @Test("tls and https: who speaks something else fails; authorities that are not there are refused")
    func tls() async throws {
        let application = try Application(.answering(Self.ok))
        #expect(try await outcomes(1, application.endpoint, check(.tls)) == [false])
        #expect(try await outcomes(1, application.endpoint, check(.https)) == [false])
        var wrong = check(.tls)
        wrong.verify = true
        wrong.authorities = "/nowhere/ca.pem"
        let configuration = configuration(wrong)
        #expect(throws: CheckRefusal.self) { try HealthChecks.validate(configuration) }
    }

    @Test("command: by its exit status; it is told what to check")
    func command() async throws {
        let endpoint = Endpoint(address: IPAddress(ipv4: 0x7f00_0001), port: 9)
        let script = "test $BATON_SERVICE-$BATON_BACKEND-$BATON_ADDRESS-$BATON_PORT = web-web1-127.0.0.1-9"
        var check = AgentConfiguration.Check(kind: .command, interval: .seconds(2), timeout: .seconds(2))
        check.command = ["/bin/sh", "-c", script]
        #expect(try await outcomes(1, endpoint, check) == [true])
        check.command = ["/bin/sh", "-c", "! " + script]
        #expect(try await outcomes(1, endpoint, check) == [false])
    }

    @Test("a port of its own is asked instead of the service's, and without any nothing is")
    func port() async throws {
        let application = try Application(.silent)
        var check = check(.tcp)
        let nobody = Endpoint(address: application.endpoint.address, port: 9)
        #expect(try await outcomes(1, nobody, check) == [false])
        check.port = application.endpoint.port
        #expect(try await outcomes(1, nobody, check) == [true])
        // A service that is forwarded only.
        let none = Endpoint(address: application.endpoint.address, port: 0)
        #expect(try await outcomes(1, none, check) == [true])
        check.port = nil
        #expect(try await outcomes(2, none, check) == [true, true])
        application.stop()
        check.port = application.endpoint.port
        #expect(try await outcomes(1, none, check) == [false])
    }
}
