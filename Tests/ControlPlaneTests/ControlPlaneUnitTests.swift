import Glibc
import Model
import NIOCore
import Testing

@testable import ControlPlane

@Suite struct FrameAssemblerTests {
    private func frame(_ body: [UInt8]) -> [UInt8] {
        let count = UInt32(body.count)
        return [UInt8(count >> 24), UInt8(count >> 16 & 255), UInt8(count >> 8 & 255), UInt8(count & 255)] + body
    }

    @Test(arguments: [1, 2, 3, 4, 5, 7, 64, 1000])
    func piecesOfAnySizeGiveTheSameFrames(piece: Int) {
        var random = TestRandom(seed: UInt64(piece))
        let bodies = [0, 1, 5, 0, 300, 2, 1024].map { random.bytes($0) }
        let stream = bodies.flatMap { frame($0) }
        var assembler = FrameAssembler(limit: 1024)
        var seen: [FrameAssembler.Step] = []
        for start in stride(from: 0, to: stream.count, by: piece) {
            var bytes = ByteBuffer(bytes: stream[start..<min(start + piece, stream.count)])
            assembler.append(&bytes)
            while true {
                let step = assembler.next()
                if step == .wait { break }
                seen.append(step)
            }
        }
        #expect(seen == bodies.map { $0.isEmpty ? .keepalive : .frame($0) })
    }

    @Test func lengthAboveTheLimitIsSaidBeforeTheBodyComes() {
        for (length, expected) in [
            (1024, FrameAssembler.Step.wait), (1025, .tooLong(1025)), (Int(UInt32.max), .tooLong(Int(UInt32.max))),
        ] {
            var assembler = FrameAssembler(limit: 1024)
            var bytes = ByteBuffer(integer: UInt32(length))
            assembler.append(&bytes)
            #expect(assembler.next() == expected)
        }
    }
}

@Suite struct ReconnectBackoffTests {
    @Test func delaysDoubleWithinTheirBoundsAndStartAgain() {
        var parameters = SecureStreamParameters()
        parameters.reconnectMinimum = .milliseconds(50)
        parameters.reconnectMaximum = .seconds(1)
        var backoff = ReconnectBackoff(parameters)
        var random = TestRandom(seed: 3)
        for _ in 0..<3 {
            for ceiling in [50, 100, 200, 400, 800, 1000, 1000, 1000] as [Int64] {
                let delay = backoff.next(random: random.next()).nanoseconds
                #expect((ceiling * 500_000...ceiling * 1_000_000).contains(delay))
            }
            backoff.reset()
        }
    }

    @Test func jitterUsesTheWholeUpperHalf() {
        let parameters = SecureStreamParameters()
        var low = ReconnectBackoff(parameters)
        var high = ReconnectBackoff(parameters)
        #expect(low.next(random: 0) == .milliseconds(25))
        #expect(high.next(random: 25_000_000) == .milliseconds(50))
    }
}

@Suite struct AuthenticationFailuresTests {
    @Test func onePairOfPeerAndCauseIsLoggedOnce() {
        let log = LogCapture()
        let failures = AuthenticationFailures(logger: log.logger)
        let first = Endpoint(address: IPAddress(ipv4: 0x0a00_0001), port: 1)
        let samePeerOtherPort = Endpoint(address: IPAddress(ipv4: 0x0a00_0001), port: 2)
        let second = Endpoint(address: IPAddress(ipv4: 0x0a00_0002), port: 1)
        for _ in 0..<10 {
            failures.record(.datagramForged, from: first)
            failures.record(.datagramForged, from: samePeerOtherPort)
            failures.record(.datagramTooShort, from: first)
            failures.record(.datagramForged, from: second, detail: "why")
        }
        #expect(log.lines.count == 3)
        #expect(log.count(containing: "datagram-forged, from 10.0.0.2:1: why (") == 1)
        #expect(failures.count(.datagramForged) == 30)
        #expect(failures.count(.datagramTooShort) == 10)
        #expect(failures.total == 40)
        #expect(failures.nonZero.map(\.cause) == [.datagramTooShort, .datagramForged])
        #expect(failures.nonZero.map(\.count) == [10, 30])
    }

    @Test func forgedAddressesDoNotGrowTheTable() {
        let log = LogCapture()
        let failures = AuthenticationFailures(logger: log.logger)
        for address in 0..<5000 as Range<UInt32> {
            failures.record(.datagramForged, from: Endpoint(address: IPAddress(ipv4: address), port: 1))
        }
        #expect(failures.rememberedCount == 1024)
        #expect(failures.count(.datagramForged) == 5000)
        #expect(log.lines.count == 1025)
    }

    @Test func causesHaveNumbersAndNamesOfTheirOwn() {
        let all = AuthenticationFailureCause.allCases
        #expect(all.map { Int($0.rawValue) } == Array(0..<all.count))
        #expect(Set(all.map(\.name)).count == all.count)
    }
}

@Suite struct SocketAddressTests {
    @Test(arguments: ["127.0.0.1:1", "10.1.2.3:65535", "[2001:db8::1:2]:443", "[::1]:80"])
    func endpointsComeBackFromSocketAddresses(text: String) throws {
        let endpoint = try #require(Endpoint(text))
        #expect(Endpoint(try endpoint.socketAddress()) == endpoint)
        #expect("\(try endpoint.socketAddress())".contains(":\(endpoint.port)"))
        let raw = endpoint.withSocketAddress(family: endpoint.family) { pointer, length in
            Endpoint(socketAddress: UnsafeRawBufferPointer(start: pointer, count: Int(length)))
        }
        #expect(raw == .some(.some(endpoint)))
    }

    @Test func familiesAreMappedWhereTheyCanBe() throws {
        let four = try #require(Endpoint("10.0.0.1:9"))
        let six = try #require(Endpoint("[2001:db8::1]:9"))
        let mapped = four.withSocketAddress(family: AF_INET6) { pointer, length in
            Endpoint(socketAddress: UnsafeRawBufferPointer(start: pointer, count: Int(length)))
        }
        #expect(mapped == .some(.some(four)))
        #expect(six.withSocketAddress(family: AF_INET) { _, _ in true } == nil)
    }

    @Test func unixAddressIsNoEndpoint() throws {
        #expect(Endpoint(try SocketAddress(unixDomainSocketPath: "/tmp/x")) == nil)
        #expect(Endpoint(nil as SocketAddress?) == nil)
        #expect(Endpoint(socketAddress: UnsafeRawBufferPointer(start: nil, count: 0)) == nil)
    }
}
