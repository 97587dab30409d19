import Glibc
import Model
import NIOCore
import NIOPosix
import NIOSSL
import Testing

@testable import ControlPlane

/// What peers do that have no key, or no good will.
@Suite(.serialized) struct SecureStreamHostileTests {
    private static let chaCha: UInt16 = 0xCCAC

    @Test func wrongKeyIsRefusedAtBothEnds() async throws {
        let control = ControlLoop()
        let server = try await TestServer(control)
        let stranger = try await TestClient(control, to: server.endpoint, key: 2)
        #expect(try await eventually { try await server.count(.handshakeWrongKey) >= 3 })
        #expect(try await eventually { try await stranger.count(.handshakeWrongKey) >= 3 })
        #expect(server.sessions.count == 0)
        #expect(stranger.sessions.count == 0)
        #expect(server.log.count(containing: "handshake-wrong-key, from 127.0.0.1") == 1)
        #expect(stranger.log.count(containing: "handshake-wrong-key, from \(server.endpoint)") == 1)
        #expect(stranger.log.count(containing: "trying on") == 1)
        for line in server.log.lines.all + stranger.log.lines.all { print("logged:", line) }
        // The right key comes in nevertheless.
        let good = try await TestClient(control, to: server.endpoint)
        #expect(try await eventually { good.sessions.count == 1 })
        try await stranger.stop()
        try await good.stop()
        try await server.close()
    }

    @Test func plainTLSClientIsRefused() async throws {
        let control = ControlLoop()
        let server = try await TestServer(control)
        for version in [TLSVersion.tlsv12, .tlsv13] {
            var configuration = TLSConfiguration.makeClientConfiguration()
            configuration.certificateVerification = .none
            configuration.maximumTLSVersion = version
            configuration.minimumTLSVersion = version
            let context = try NIOSSLContext(configuration: configuration)
            let channel = try await ClientBootstrap(group: control.loop)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let tls = try NIOSSLClientHandler(context: context, serverHostname: nil)
                        try channel.pipeline.syncOperations.addHandler(tls)
                    }
                }
                .connect(to: server.endpoint.socketAddress()).get()
            try await channel.closeFuture.get()
        }
        #expect(try await eventually { try await server.count(.handshakeWithoutKey) == 2 })
        #expect(try await server.nonZero() == ["handshake-without-key 2"])
        #expect(server.log.count(containing: "handshake-without-key") == 1)
        #expect(server.sessions.count == 0)
        try await server.close()
    }

    struct PlainText: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let text: String
        let cause: AuthenticationFailureCause
    }

    @Test(arguments: [
        PlainText(testDescription: "HTTP", text: "GET / HTTP/1.1\r\nHost: director\r\n\r\n", cause: .handshakeNotTLS),
        PlainText(testDescription: "SSH", text: "SSH-2.0-OpenSSH_9.2\r\n", cause: .handshakeNotTLS),
        PlainText(
            testDescription: "JSON",
            text: String(repeating: #"{"command":"status"}"#, count: 1000),
            cause: .handshakeNotTLS
        ),
        PlainText(testDescription: "nothing", text: "", cause: .handshakeAbandoned),
        PlainText(testDescription: "half a record", text: "\u{16}\u{03}\u{01}", cause: .handshakeAbandoned),
    ])
    func plainTextIsRefused(plain: PlainText) async throws {
        let (text, cause) = (plain.text, plain.cause)
        let control = ControlLoop()
        let server = try await TestServer(control)
        let endpoint = server.endpoint
        let ended = try await onThread {
            let raw = try RawSocket(connectingTo: endpoint)
            raw.write(Array(text.utf8))
            shutdown(raw.descriptor, CInt(SHUT_WR))
            return raw.isEndedByPeer()
        }
        #expect(ended)
        #expect(try await eventually { try await server.count(cause) == 1 }, "\(server.log.lines.all)")
        #expect(server.sessions.count == 0)
        try await server.close()
    }

    @Test func unfinishedHandshakeIsClosedInTime() async throws {
        let control = ControlLoop()
        var quick = SecureStreamParameters()
        quick.handshakeTimeout = .milliseconds(200)
        let server = try await TestServer(control, parameters: quick)
        let endpoint = server.endpoint
        let start = ContinuousClock.now
        let ended = try await onThread { try RawSocket(connectingTo: endpoint).isEndedByPeer() }
        #expect(ended)
        #expect(ContinuousClock.now - start < .seconds(2))
        #expect(try await server.count(.handshakeTimedOut) == 1)
        #expect(try await control.run { server.listener.value.handshakeCount } == 0)
        #expect(SecureStreamParameters().handshakeTimeout == .seconds(2))
        try await server.close()
    }

    @Test func waitingConnectionsDoNotLockAGoodPeerOut() async throws {
        let control = ControlLoop()
        var patient = SecureStreamParameters()
        patient.handshakeTimeout = .seconds(60)
        let server = try await TestServer(control, parameters: patient)
        let endpoint = server.endpoint
        let crowd = try await onThread {
            try (0..<200).map { _ in
                let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
                let result = endpoint.withSocketAddress(family: AF_INET) { connect(descriptor, $0, $1) }
                if result != 0 { throw SocketError(errorText(errno)) }
                return descriptor
            }
        }
        #expect(try await eventually { try await server.count(.handshakeCrowdedOut) == 136 })
        #expect(try await control.run { server.listener.value.handshakeCount } == 64)
        let good = try await TestClient(control, to: endpoint)
        #expect(try await eventually { server.sessions.count == 1 })
        #expect(try await control.run { good.connector.value.attempts } == 1)
        #expect(server.log.count(containing: "handshake-crowded-out") == 1)
        for descriptor in crowd { close(descriptor) }
        try await good.stop()
        try await server.close()
    }

    /// All 65,536 suites but the one: whatever is offered (NULL, anonymous, PSK without ECDHE, ...), none is taken.
    @Test func noOtherSuiteIsTaken() async throws {
        let control = ControlLoop()
        let server = try await TestServer(control)
        let endpoint = server.endpoint
        let offers = stride(from: 0, to: 65_536, by: 4096).map { start in
            (start..<start + 4096).map { UInt16($0) }.filter { $0 != Self.chaCha }
        }
        let answers = try await onThread {
            try offers.map { suites in
                let raw = try RawSocket(connectingTo: endpoint)
                raw.write(Self.clientHello(suites: suites))
                return raw.readAll()
            }
        }
        for answer in answers {
            // An alert record: fatal, handshake_failure (RFC 5246 7.2).
            #expect(answer == [21, 3, 3, 0, 2, 2, 40] || answer == [21, 3, 1, 0, 2, 2, 40], "\(answer.prefix(80))")
        }
        #expect(try await server.count(.handshakeWithoutKey) == 16)
        try await server.close()
    }

    /// The hello of the test above is a right one: with the one suite in it, the server goes on.
    @Test func theOneSuiteIsTaken() async throws {
        let control = ControlLoop()
        let server = try await TestServer(control)
        let endpoint = server.endpoint
        let answer = try await onThread {
            let raw = try RawSocket(connectingTo: endpoint)
            raw.write(Self.clientHello(suites: [0x0000, 0x0034, 0x002C, 0x00A8, Self.chaCha, 0xC035]))
            return raw.read() ?? []
        }
        // Record header 5, handshake header 4, version 2, random 32, session id of no bytes 1: the suite.
        try #require(answer.count > 46 && answer[0] == 22 && answer[5] == 2)
        let suite = 44 + Int(answer[43])
        #expect(Array(answer[9...10]) == [3, 3])
        #expect(Array(answer[suite...suite + 1]) == [0xCC, 0xAC])
        try await server.close()
    }

    @Test(arguments: [0x0300, 0x0301, 0x0302] as [UInt16])
    func olderVersionsAreRefused(version: UInt16) async throws {
        let control = ControlLoop()
        let server = try await TestServer(control)
        let endpoint = server.endpoint
        let answer = try await onThread {
            let raw = try RawSocket(connectingTo: endpoint)
            raw.write(Self.clientHello(suites: [Self.chaCha], version: version))
            return raw.readAll()
        }
        #expect(answer.first == 21 && answer.suffix(2) == [2, 70], "alert protocol_version, not \(answer)")
        #expect(try await server.count(.handshakeWithoutKey) == 1)
        try await server.close()
    }

    /// The client offers the one suite alone and takes no other, whatever a false server chooses.
    @Test(arguments: [0x0000, 0x0001, 0x0034, 0x002C, 0x00A8, 0xC035, 0xC018, 0x002F, 0xCCAB, 0x1301] as [UInt16])
    func clientTakesNoOtherSuite(suite: UInt16) async throws {
        let control = ControlLoop()
        let listener = try BoundSocket.listener(loopback)
        defer { close(listener) }
        let endpoint = try #require(Endpoint(localAddressOf: listener))
        let client = try await TestClient(control, to: endpoint)
        let (hello, answer) = try await onThread {
            let raw = try RawSocket.accepting(on: listener)
            let hello = raw.read() ?? []
            raw.write(Self.serverHello(suite: suite))
            return (hello, raw.readAll())
        }
        #expect(Self.offeredSuites(hello) == [Self.chaCha])
        #expect(answer.first == 21 && answer.count == 7 && answer[5] == 2, "a fatal alert, not \(answer)")
        #expect(try await eventually { try await client.count(.handshakeWithoutKey) == 1 }, "\(client.log.lines.all)")
        #expect(client.sessions.count == 0)
        try await client.stop()
    }

    @Test func falseServersAreRefusedAndLoggedOnce() async throws {
        let control = ControlLoop()
        let listener = try BoundSocket.listener(loopback)
        defer { close(listener) }
        let endpoint = try #require(Endpoint(localAddressOf: listener))
        let client = try await TestClient(control, to: endpoint)
        try await onThread {
            var random = TestRandom(seed: 6)
            for _ in 0..<6 {
                let raw = try RawSocket.accepting(on: listener)
                _ = raw.read()
                raw.write(random.bytes(500))
                _ = raw.isEndedByPeer()
            }
        }
        #expect(try await eventually { try await control.run { client.failures.value.total } >= 6 })
        #expect(client.sessions.count == 0)
        #expect(client.log.lines.count <= 4, "\(client.log.lines.all)")
        try await client.stop()
    }

    @Test func randomBytesForASecondDoNoHarm() async throws {
        let control = ControlLoop()
        let server = try await TestServer(control)
        let good = try await TestClient(control, to: server.endpoint)
        #expect(try await eventually { good.sessions.count == 1 })
        let endpoint = server.endpoint
        let pinged = Recorder<Bool>()
        let pings = try await control.make {
            control.loop.scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(10)) { _ in
                if good.connector.value.session?.send([1, 2, 3]) == true { pinged.append(true) }
            }
        }
        let connections = try await onThread {
            var random = TestRandom(seed: 7)
            let end = ContinuousClock.now + .seconds(1)
            var connections = 0
            while ContinuousClock.now < end {
                let raw = try RawSocket(connectingTo: endpoint)
                connections += 1
                var bytes = Self.clientHello(suites: [0xCCAC])
                switch random.next() % 4 {
                case 0: bytes = random.bytes(Int(random.next() % 4000))
                case 1: bytes = Array(bytes.prefix(Int(random.next() % 60))) + random.bytes(Int(random.next() % 100))
                case 2: bytes[Int(random.next() % UInt64(bytes.count))] ^= UInt8(random.next() % 255 + 1)
                default: bytes += [22, 3, 3, 0, 50] + random.bytes(50) + [20, 3, 3, 0, 1, 1] + random.bytes(64)
                }
                raw.write(bytes)
            }
            return connections
        }
        try await control.run { pings.value.cancel() }
        let refused = try await eventually {
            try await control.run { server.failures.value.total } == UInt64(connections)
        }
        #expect(refused)
        let figures = try await server.nonZero()
        for line in server.log.lines.all { print("logged:", line) }
        print("TLS flood: \(connections) connections, \(figures); \(good.frames.count) frames echoed meanwhile")
        #expect(connections > 50)
        #expect(good.ends.count == 0, "the good session lives")
        #expect(pinged.count > 0)
        #expect(try await good.send([9]))
        #expect(try await eventually { good.frames.all.last == [9] })
        #expect(good.frames.count == pinged.count + 1, "every frame came back")
        #expect(server.log.lines.count <= 8, "\(server.log.lines.all)")
        #expect(server.sessions.count == 1)
        try await good.stop()
        try await server.close()
    }

    /// Bytes changed on the way within a session end it; they are not delivered.
    @Test func changedRecordsEndTheSession() async throws {
        let control = ControlLoop()
        let server = try await TestServer(control)
        let relay = try await Relay(control, to: server.endpoint)
        let client = try await TestClient(control, to: relay.endpoint)
        #expect(try await eventually { try await client.send([1, 2, 3]) })
        #expect(try await eventually { client.frames.count == 1 })
        relay.corrupts.append(true)
        #expect(try await client.send([4, 5, 6]))
        #expect(try await eventually { server.ends.count == 1 })
        #expect(server.frames.all == [[1, 2, 3]])
        #expect(try await server.count(.recordForged) == 1, "\(server.log.lines.all)")
        try await client.stop()
        try await relay.close()
        try await server.close()
    }

    // MARK: TLS by hand (RFC 5246 7.4.1)

    private static func sixteen(_ value: Int) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }

    static func record(_ kind: UInt8, _ body: [UInt8]) -> [UInt8] {
        let handshake = [kind, 0] + sixteen(body.count) + body
        return [22, 3, 1] + sixteen(handshake.count) + handshake
    }

    static func clientHello(suites: [UInt16], version: UInt16 = 0x0303) -> [UInt8] {
        let extensions: [UInt8] =
            [0, 10, 0, 6, 0, 4, 0, 29, 0, 23]  // groups: x25519, secp256r1
            + [0, 11, 0, 2, 1, 0]  // point formats: uncompressed
            + [0, 13, 0, 6, 0, 4, 4, 3, 8, 4]  // signature algorithms
            + [255, 1, 0, 1, 0]  // renegotiation info
        var body = sixteen(Int(version)) + [UInt8](repeating: 7, count: 32) + [0]
        body += sixteen(suites.count * 2) + suites.flatMap { sixteen(Int($0)) }
        body += [1, 0] + sixteen(extensions.count) + extensions
        return record(1, body)
    }

    static func serverHello(suite: UInt16) -> [UInt8] {
        let body =
            [3, 3] + [UInt8](repeating: 9, count: 32) + [0] + sixteen(Int(suite)) + [0] + [0, 5, 255, 1, 0, 1, 0]
        return record(2, body)
    }

    static func offeredSuites(_ hello: [UInt8]) -> [UInt16] {
        guard hello.count > 46, hello[0] == 22, hello[5] == 1 else { return [] }
        let start = 44 + Int(hello[43])
        let count = Int(hello[start]) << 8 | Int(hello[start + 1])
        return stride(from: start + 2, to: start + 2 + count, by: 2).map {
            UInt16(hello[$0]) << 8 | UInt16(hello[$0 + 1])
        }
    }
}

/// A TCP relay that can change what it passes on.
private struct Relay: Sendable {
    let corrupts = Recorder<Bool>()
    let endpoint: Endpoint
    private let channel: any Channel

    init(_ control: ControlLoop, to server: Endpoint) async throws {
        let corrupts = corrupts
        channel = try await ServerBootstrap(group: control.loop, childGroup: control.loop)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { child in
                do {
                    return ClientBootstrap(group: control.loop)
                        .channelInitializer { upstream in
                            upstream.eventLoop.makeCompletedFuture {
                                try upstream.pipeline.syncOperations.addHandler(Pump(to: child, corrupts: nil))
                            }
                        }
                        .connect(to: try server.socketAddress())
                        .flatMapThrowing { upstream in
                            try child.pipeline.syncOperations.addHandler(Pump(to: upstream, corrupts: corrupts))
                            _ = child.setOption(.autoRead, value: true)
                        }
                } catch { return child.eventLoop.makeFailedFuture(error) }
            }
            .bind(to: loopback.socketAddress()).get()
        endpoint = try #require(Endpoint(channel.localAddress))
    }

    func close() async throws { try await channel.close() }

    private final class Pump: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let target: any Channel
        private let corrupts: Recorder<Bool>?

        init(to target: any Channel, corrupts: Recorder<Bool>?) {
            self.target = target
            self.corrupts = corrupts
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var bytes = unwrapInboundIn(data)
            if let corrupts, corrupts.count > 0, let last = bytes.getInteger(at: bytes.writerIndex - 1, as: UInt8.self)
            {
                bytes.setInteger(last ^ 1, at: bytes.writerIndex - 1)
            }
            target.writeAndFlush(bytes, promise: nil)
        }

        func channelInactive(context: ChannelHandlerContext) { target.close(promise: nil) }
    }
}
