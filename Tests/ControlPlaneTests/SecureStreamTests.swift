import Glibc
import Model
import NIOCore
import NIOPosix
import NIOSSL
import Testing

@testable import ControlPlane

/// A listener with a log, for tests.
struct TestServer: Sendable {
    let control: ControlLoop
    let log = LogCapture()
    let frames = Recorder<[UInt8]>()
    let ends = Recorder<SecureSessionEnd>()
    let sessions = Recorder<Endpoint>()
    let failures: NIOLoopBound<AuthenticationFailures>
    let listener: NIOLoopBound<SecureListener>
    let endpoint: Endpoint

    /// - Parameter echoes: Whether every frame is sent back.
    init(
        _ control: ControlLoop,
        bind: Endpoint = loopback,
        key: UInt8 = 1,
        parameters: SecureStreamParameters = SecureStreamParameters(),
        echoes: Bool = true
    ) async throws {
        self.control = control
        let (log, frames, ends, sessions) = (log, frames, ends, sessions)
        let failures = try await control.make { AuthenticationFailures(logger: log.logger) }
        let loop = control.loop
        let listener = try await control.make {
            try SecureListener(
                bind: bind, on: loop, key: try testKey(key), parameters: parameters, failures: failures.value,
                logger: log.logger
            ) { session in
                sessions.append(session.peer)
                session.onFrame = { [unowned session] body in
                    frames.append(body)
                    if echoes { session.send(body) }
                }
                session.onClosed = { ends.append($0) }
            }
        }
        self.failures = failures
        self.listener = listener
        endpoint = try await control.run { listener.value.localEndpoint }
    }

    func count(_ cause: AuthenticationFailureCause) async throws -> UInt64 {
        try await control.run { failures.value.count(cause) }
    }

    func nonZero() async throws -> [String] {
        try await control.run { failures.value.nonZero.map { "\($0.cause.name) \($0.count)" } }
    }

    func close() async throws { try await control.run { listener.value.close() } }
}

/// A connector with a log, for tests.
struct TestClient: Sendable {
    let control: ControlLoop
    let log = LogCapture()
    let frames = Recorder<[UInt8]>()
    let ends = Recorder<SecureSessionEnd>()
    let sessions = Recorder<Endpoint>()
    let failures: NIOLoopBound<AuthenticationFailures>
    let connector: NIOLoopBound<SecureConnector>

    init(
        _ control: ControlLoop,
        to peer: Endpoint,
        from local: IPAddress? = nil,
        key: UInt8 = 1,
        parameters: SecureStreamParameters = SecureStreamParameters(),
        hello: [UInt8]? = nil
    ) async throws {
        self.control = control
        let (log, frames, ends, sessions) = (log, frames, ends, sessions)
        let failures = try await control.make { AuthenticationFailures(logger: log.logger) }
        let loop = control.loop
        let connector = try await control.make {
            var random = TestRandom(seed: 9)
            let connector = try SecureConnector(
                to: peer, from: local, on: loop, key: try testKey(key), parameters: parameters,
                failures: failures.value, logger: log.logger, random: { random.next() }
            ) { session in
                sessions.append(session.local)
                session.onFrame = { frames.append($0) }
                session.onClosed = { ends.append($0) }
                if let hello { session.send(hello) }
            }
            connector.start()
            return connector
        }
        self.failures = failures
        self.connector = connector
    }

    func send(_ body: [UInt8]) async throws -> Bool {
        try await control.run { connector.value.session?.send(body) ?? false }
    }

    func count(_ cause: AuthenticationFailureCause) async throws -> UInt64 {
        try await control.run { failures.value.count(cause) }
    }

    func stop() async throws { try await control.run { connector.value.stop() } }
}

@Suite(.serialized) struct SecureStreamTests {
    @Test(arguments: [loopback, loopbackV6])
    func framesGoBothWays(bind: Endpoint) async throws {
        let control = ControlLoop()
        let server = try await TestServer(control, bind: bind)
        let client = try await TestClient(control, to: server.endpoint)
        #expect(try await eventually { client.sessions.count == 1 && server.sessions.count == 1 })
        #expect(client.sessions.all == server.sessions.all, "both ends name the client's address alike")
        var random = TestRandom(seed: 5)
        let bodies = [1, 4, 5, 1000, 16_384, 65_536, Limits.controlMessageBytes].map { random.bytes($0) }
        for body in bodies { #expect(try await client.send(body)) }
        #expect(try await eventually { client.frames.count == bodies.count })
        #expect(server.frames.all == bodies)
        #expect(client.frames.all == bodies)
        #expect(try await !client.send([]))
        #expect(try await !client.send([UInt8](repeating: 0, count: Limits.controlMessageBytes + 1)))
        #expect(try await control.run { server.listener.value.sessions.count } == 1)
        try await client.stop()
        #expect(try await eventually { server.ends.count == 1 && client.ends.count == 1 })
        #expect(client.ends.all == [.closedHere])
        #expect(try await control.run { server.listener.value.sessions.count } == 0)
        #expect(try await server.nonZero() == [])
        try await server.close()
    }

    @Test func connectorComesFromTheAddressAskedFor() async throws {
        let control = ControlLoop()
        let server = try await TestServer(control)
        let local = try #require(IPAddress("127.0.0.9"))
        let client = try await TestClient(control, to: server.endpoint, from: local)
        #expect(try await eventually { server.sessions.count == 1 })
        #expect(server.sessions.all.first?.address == local)
        try await client.stop()
        try await server.close()
    }

    @Test func closingTheListenerEndsItsSessions() async throws {
        let control = ControlLoop()
        let server = try await TestServer(control)
        let client = try await TestClient(control, to: server.endpoint)
        #expect(try await eventually { server.sessions.count == 1 && client.sessions.count == 1 })
        try await server.close()
        #expect(try await eventually { client.ends.count == 1 && server.ends.count == 1 })
        #expect(server.ends.all == [.closedHere])
        let reconnecting = try await control.run { client.connector.value.session == nil }
        #expect(reconnecting)
        try await client.stop()
    }

    @Test func connectorComesBackAfterItsServer() async throws {
        let control = ControlLoop()
        let first = try await TestServer(control)
        let endpoint = first.endpoint
        let client = try await TestClient(control, to: endpoint, hello: [1])
        #expect(try await eventually { first.frames.count == 1 })
        try await first.close()
        #expect(try await eventually { client.ends.count == 1 })
        try await Task.sleep(for: .milliseconds(600))
        let attempts = try await control.run { client.connector.value.attempts }
        #expect((2...12).contains(attempts), "\(attempts) attempts in 600 ms without a server")
        #expect(client.log.count(containing: "Connection refused; trying on") == 1)
        let second = try await TestServer(control, bind: endpoint)
        #expect(try await eventually { second.frames.count == 1 })
        #expect(client.sessions.count == 2)
        #expect(try await client.send([2]))
        #expect(try await eventually { second.frames.all == [[1], [2]] })
        #expect(
            try await control.run { client.failures.value.total } == 0, "nobody there is no failure of authentication")
        try await client.stop()
        try await second.close()
        // Stopped: it must not come back.
        let third = try await TestServer(control, bind: endpoint)
        try await Task.sleep(for: .milliseconds(300))
        #expect(third.sessions.count == 0)
        try await third.close()
    }

    @Test func connectorStoppedAtAnyMomentStaysStoppedAndCanStartAgain() async throws {
        let control = ControlLoop()
        let server = try await TestServer(control)
        let client = try await TestClient(control, to: server.endpoint)
        for pause in 0..<40 {
            try await Task.sleep(for: .microseconds(pause * 200))
            try await control.run {
                client.connector.value.stop()
                client.connector.value.start()
            }
        }
        #expect(try await eventually { try await client.send([7]) })
        #expect(try await eventually { client.frames.count >= 1 })
        #expect(try await eventually { try await control.run { server.listener.value.sessions.count } == 1 })
        #expect(try await control.run { server.listener.value.handshakeCount } == 0)
        try await client.stop()
        #expect(try await eventually { try await control.run { server.listener.value.sessions.count } == 0 })
        try await server.close()
    }

    @Test func silentPeerIsNoticedByTheIdleTime() async throws {
        let control = ControlLoop()
        var quick = SecureStreamParameters()
        quick.idleTimeout = .milliseconds(300)
        quick.keepaliveInterval = .milliseconds(50)
        let server = try await TestServer(control, parameters: quick)
        // This client sends no keepalive for a long time, as one that is frozen.
        var frozen = SecureStreamParameters()
        frozen.keepaliveInterval = .seconds(60)
        let silent = try await TestClient(control, to: server.endpoint, parameters: frozen)
        let lively = try await TestClient(control, to: server.endpoint, parameters: quick)
        #expect(try await eventually { server.ends.all.contains(.idle) })
        try await silent.stop()
        try await Task.sleep(for: .milliseconds(700))
        #expect(lively.ends.count == 0, "keepalives hold the other session")
        #expect(lively.frames.count == 0, "and are no frames")
        try await lively.stop()
        try await server.close()
    }

    /// A process that was stopped must not take its own silence for its peer's.
    @Test func sessionOutlivesAStopOfThisProcess() async throws {
        let control = ControlLoop()
        var quick = SecureStreamParameters()
        quick.idleTimeout = .milliseconds(400)
        quick.keepaliveInterval = .milliseconds(50)
        var talkative = quick
        talkative.idleTimeout = .seconds(60)
        let server = try await TestServer(control, parameters: quick)
        let client = try await TestClient(ControlLoop(), to: server.endpoint, parameters: talkative)
        #expect(try await eventually { try await client.send([1]) })
        try await control.run { _ = usleep(1_000_000) }
        #expect(try await client.send([2]))
        #expect(try await eventually { server.frames.all == [[1], [2]] })
        #expect(server.ends.all == [])
        try await client.stop()
        try await server.close()
    }

    @Test func peerThatTakesNothingIsGivenUp() async throws {
        let control = ControlLoop()
        let reader = ControlLoop()
        var small = SecureStreamParameters()
        small.sendQueueLimit = 1 << 20
        let server = try await TestServer(control, parameters: small)
        let client = try await TestClient(reader, to: server.endpoint)
        #expect(try await eventually { try await control.run { server.listener.value.sessions.count } == 1 })
        let stopReading = try await reader.make { client.connector.value.session }
        try await reader.run { stopReading.value?.setReading(false) }
        let block = [UInt8](repeating: 1, count: 256 * 1024)
        let sent = try await control.run {
            let session = server.listener.value.sessions[0]
            for count in 0..<200 where !session.send(block) { return count }
            return 200
        }
        #expect(sent < 200, "the queue is bounded")
        #expect(server.ends.all == [.sendQueueFull])
        try await client.stop()
        try await server.close()
    }

    @Test func frameAboveTheBoundEndsTheSession() async throws {
        let control = ControlLoop()
        var small = SecureStreamParameters()
        small.frameLimit = 1000
        let server = try await TestServer(control, parameters: small)
        let client = try await TestClient(control, to: server.endpoint)
        #expect(try await eventually { try await client.send([UInt8](repeating: 1, count: 1000)) })
        #expect(try await eventually { server.frames.count == 1 })
        #expect(try await client.send([UInt8](repeating: 1, count: 1001)))
        #expect(try await eventually { server.ends.count == 1 })
        #expect(server.ends.all == [.frameTooLong])
        #expect(try await server.count(.frameTooLong) == 1)
        #expect(server.frames.count == 1)
        try await client.stop()
        try await server.close()
    }

    @Test func sessionsAreBounded() async throws {
        let control = ControlLoop()
        var small = SecureStreamParameters()
        small.sessionLimit = 3
        let server = try await TestServer(control, parameters: small)
        var clients: [TestClient] = []
        for _ in 0..<3 { clients.append(try await TestClient(control, to: server.endpoint)) }
        #expect(try await eventually { server.sessions.count == 3 })
        let late = try await TestClient(control, to: server.endpoint)
        #expect(try await eventually { try await server.count(.sessionsTooMany) > 0 })
        #expect(server.sessions.count == 3)
        try await clients[0].stop()
        #expect(try await eventually { server.sessions.count == 4 }, "a place that is free is given")
        for client in clients + [late] { try await client.stop() }
        try await server.close()
    }
}
