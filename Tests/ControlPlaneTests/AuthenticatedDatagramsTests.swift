import Glibc
import Model
import NIOCore
import Testing

@testable import ControlPlane

@Suite(.serialized) struct AuthenticatedDatagramsTests {
    /// A socket with everything around it that a test looks at.
    private struct Node: Sendable {
        let control: ControlLoop
        let log: LogCapture
        let received: Recorder<String>
        let failures: NIOLoopBound<AuthenticationFailures>
        let socket: NIOLoopBound<AuthenticatedDatagrams>
        let endpoint: Endpoint

        init(
            _ control: ControlLoop,
            bind: Endpoint = loopback,
            key: UInt8 = 1,
            echoes: Bool = false,
            recovery: TimeAmount = .zero
        ) async throws {
            self.control = control
            let log = LogCapture()
            let received = Recorder<String>()
            let failures = try await control.make { AuthenticationFailures(logger: log.logger) }
            let loop = control.loop
            let socket = try await control.make {
                let box = NIOLoopBoundBox<AuthenticatedDatagrams?>(nil, eventLoop: loop)
                let socket = try AuthenticatedDatagrams(
                    bind: bind, on: loop, key: try testKey(key), use: .datagrams, failures: failures.value,
                    logger: log.logger, recovery: recovery
                ) { body, from in
                    if echoes {
                        box.value?.send(body: body, to: from)
                    } else {
                        received.append(String(decoding: body, as: UTF8.self) + " from \(from)")
                    }
                }
                box.value = socket
                return socket
            }
            self.log = log
            self.received = received
            self.failures = failures
            self.socket = socket
            endpoint = try await control.run { socket.value.localEndpoint }
        }

        func send(_ text: String, to peer: Endpoint) async throws -> Bool {
            try await control.run { socket.value.send(body: Array(text.utf8), to: peer) }
        }

        func count(_ cause: AuthenticationFailureCause) async throws -> UInt64 {
            try await control.run { failures.value.count(cause) }
        }

        func close() async throws { try await control.run { socket.value.close() } }
    }

    @Test(arguments: [loopback, loopbackV6])
    func bodiesGoBothWays(bind: Endpoint) async throws {
        let control = ControlLoop()
        let left = try await Node(control, bind: bind)
        let right = try await Node(control, bind: bind)
        #expect(left.endpoint.port != 0)
        #expect(try await left.send("ping", to: right.endpoint))
        #expect(try await right.send("pong", to: left.endpoint))
        #expect(try await eventually { left.received.count == 1 && right.received.count == 1 })
        #expect(right.received.all == ["ping from \(left.endpoint)"])
        #expect(left.received.all == ["pong from \(right.endpoint)"])
        try await left.close()
        try await right.close()
    }

    @Test func ipv4PeersReachASocketOfAllAddresses() async throws {
        let control = ControlLoop()
        let all = try await Node(control, bind: Endpoint(address: IPAddress(high: 0, low: 0), port: 0))
        let four = try await Node(control)
        let target = Endpoint(address: four.endpoint.address, port: all.endpoint.port)
        #expect(try await four.send("in", to: target))
        #expect(try await eventually { all.received.all == ["in from \(four.endpoint)"] })
        #expect(try await all.send("out", to: four.endpoint))
        #expect(try await eventually { four.received.all == ["out from \(target)"] })
        try await all.close()
        try await four.close()
    }

    @Test func otherKeysAreCountedAndLoggedOnce() async throws {
        let control = ControlLoop()
        let good = try await Node(control)
        let receiver = try await Node(control)
        let stranger = try await Node(control, key: 2)
        for _ in 0..<50 { #expect(try await stranger.send("let me in", to: receiver.endpoint)) }
        #expect(try await good.send("mine", to: receiver.endpoint))
        #expect(try await eventually { receiver.received.count == 1 })
        #expect(receiver.received.all == ["mine from \(good.endpoint)"])
        #expect(try await receiver.count(.datagramForged) == 50)
        #expect(receiver.log.count(containing: "datagram-forged") == 1)
        for node in [good, receiver, stranger] { try await node.close() }
    }

    @Test func lengthsAreCountedByCause() async throws {
        let control = ControlLoop()
        let node = try await Node(control)
        let raw = try RawSocket(datagramFrom: loopback)
        for count in [0, 1, 32, 33, 1400, 1401, 2048, 2049, 9000, 60_000] {
            raw.write([UInt8](repeating: 1, count: count), to: node.endpoint)
        }
        let arrived = try await eventually {
            try await control.run { node.failures.value.total } == 10
        }
        #expect(arrived)
        #expect(try await node.count(.datagramTooShort) == 3)
        #expect(try await node.count(.datagramForged) == 2)
        #expect(try await node.count(.datagramTooLong) == 5)
        try await node.close()
    }

    @Test func whatTheKernelRefusesIsCountedAndTheSocketGoesOn() async throws {
        let control = ControlLoop()
        let node = try await Node(control)
        let peer = try await Node(control)
        // A socket bound to loopback cannot send elsewhere (EINVAL), nor to a broadcast address (EACCES), nor to IPv6.
        let unreachable = ["198.51.100.1:9", "255.255.255.255:9", "[2001:db8::1]:9"].compactMap { Endpoint($0) }
        for target in unreachable {
            for _ in 0..<3 { #expect(try await !node.send("lost", to: target)) }
        }
        // Nobody there: the ICMP error must not end the socket either.
        for _ in 0..<20 { _ = try await node.send("nobody", to: Endpoint(address: loopback.address, port: 1)) }
        let tooLong = [UInt8](repeating: 1, count: DatagramSeal.bodyLimit + 1)
        #expect(try await !control.run { node.socket.value.send(body: tooLong, to: peer.endpoint) })
        #expect(try await node.send("still here", to: peer.endpoint))
        #expect(try await eventually { peer.received.count == 1 })
        #expect(try await peer.send("answer", to: node.endpoint))
        #expect(try await eventually { node.received.count == 1 })
        let counters = try await control.run { node.socket.value.counters }
        #expect(counters.sendFailed == 10)
        #expect(counters.received == 1)
        #expect(node.log.count(containing: "not sent") == 4, "once for each of four peers")
        #expect(node.log.count(containing: "sent again") == 1)
        try await node.close()
        try await peer.close()
    }

    @Test func failuresThatComeAndGoAreLoggedOnce() async throws {
        let control = ControlLoop()
        let node = try await Node(control, recovery: .seconds(60))
        let peer = try await Node(control)
        let tooLong = [UInt8](repeating: 1, count: DatagramSeal.bodyLimit + 1)
        for _ in 0..<3 {
            #expect(try await !control.run { node.socket.value.send(body: tooLong, to: peer.endpoint) })
            #expect(try await node.send("goes", to: peer.endpoint))
        }
        #expect(node.log.count(containing: "not sent") == 1)
        #expect(node.log.count(containing: "sent again") == 0)
        try await node.close()
        try await peer.close()
    }

    @Test func addressesThatCannotBeBoundAreErrorsAtOnce() async throws {
        let control = ControlLoop()
        let node = try await Node(control)
        for (bind, text) in [(node.endpoint, "another daemon"), (Endpoint("198.51.100.1:9")!, "no interface has")] {
            let error = await #expect(throws: SocketError.self) { _ = try await Node(control, bind: bind) }
            #expect(error?.description.contains(text) == true)
        }
        try await node.close()
    }

    @Test func closedSocketSendsNothingAndFreesItsPort() async throws {
        let control = ControlLoop()
        let node = try await Node(control)
        try await node.close()
        try await node.close()
        #expect(try await !node.send("x", to: node.endpoint))
        let again = try await eventually {
            do {
                try await Node(control, bind: node.endpoint).close()
                return true
            } catch is SocketError { return false }
        }
        #expect(again)
    }

    @Test func randomDatagramsForASecondDoNoHarm() async throws {
        let control = ControlLoop()
        let node = try await Node(control, echoes: true)
        let good = try await Node(control)
        let endpoint = node.endpoint
        let recorded = try #require(DatagramSeal(key: try testKey(3), use: .datagrams).seal([1, 2, 3]))
        let pings = try await control.make {
            control.loop.scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(10)) { _ in
                good.socket.value.send(body: [1], to: endpoint)
            }
        }
        let sent = try await onThread {
            let raw = try RawSocket(datagramFrom: loopback)
            var random = TestRandom(seed: 4)
            let end = ContinuousClock.now + .seconds(1)
            var sent = 0
            while ContinuousClock.now < end {
                let length = random.next() % 8 == 0 ? Int(random.next() % 3000) : Int(random.next() % 200)
                let bytes = random.next() % 16 == 0 ? recorded : random.bytes(length)
                if raw.write(bytes, to: endpoint) >= 0 { sent += 1 }
            }
            return sent
        }
        let pinged = try await control.run {
            pings.value.cancel()
            return Int(good.socket.value.counters.sent)
        }
        #expect(try await eventually { good.received.count >= pinged / 2 }, "\(good.received.count) of \(pinged)")
        let total = try await control.run { node.failures.value.total }
        print("datagram flood: \(sent) sent, \(total) refused, \(good.received.count) of \(pinged) echoes came back")
        #expect(total > 1000)
        #expect(node.log.lines.count <= 3)
        try await node.close()
        try await good.close()
    }

    /// Only printed: the figures are for people.
    @Test func roundTripTimes() async throws {
        let control = ControlLoop()
        let other = ControlLoop()
        let echo = try await Node(other, echoes: true)
        let times = Recorder<Double>()
        let loop = control.loop
        let rounds = 5000
        let pinger = try await control.make {
            let box = NIOLoopBoundBox<(AuthenticatedDatagrams?, NIODeadline)>((nil, .now()), eventLoop: loop)
            let body = [UInt8](repeating: 5, count: 100)
            let socket = try AuthenticatedDatagrams(
                bind: loopback, on: loop, key: try testKey(), use: .datagrams,
                failures: AuthenticationFailures(logger: LogCapture().logger), logger: LogCapture().logger
            ) { _, from in
                let now = NIODeadline.now()
                times.append(Double((now - box.value.1).nanoseconds) / 1000)
                if times.count < rounds {
                    box.value.1 = .now()
                    box.value.0?.send(body: body, to: from)
                }
            }
            box.value = (socket, .now())
            socket.send(body: body, to: echo.endpoint)
            return socket
        }
        #expect(try await eventually(within: 20) { times.count >= rounds })
        let sorted = times.all.sorted()
        print(
            "datagram round trip of 100 bytes, two loops, µs:",
            "min \(Int(sorted[0])) median \(Int(sorted[rounds / 2])) p99 \(Int(sorted[rounds * 99 / 100]))",
            "max \(Int(sorted[rounds - 1]))"
        )
        try await control.run { pinger.value.close() }
        try await echo.close()
    }
}
