import CContract
import LinuxBPF
import Model
import Testing

/// `agent_ingress`: which frames are those of a connection, which are nobody's, and which must not get past it.
@Suite struct AgentFrameTests {
    @Test func otherFramesPassUntouched() throws {
        let fixture = try AgentFixture()
        try fixture.install(BATON_CONNECTION_ADOPTING)
        var frames: [(String, [UInt8])] = []
        func add(_ name: String, _ change: (inout AgentPacket) -> Void) {
            var packet = fixture.acknowledgment(12_000)
            change(&packet)
            frames.append((name, packet.bytes()))
        }
        add("another client's port") { $0.clientPort = 40001 }
        add("another port of the service") { $0.servicePort = 81 }
        add("another client") { $0.client = IPAddress(ipv4: 0x0800_0065) }
        add("another service") { $0.service = IPAddress(ipv4: 0x0a00_0002) }
        add("the other direction") { $0.direction = .fromService }
        frames.append(("ARP", Array(repeating: 0xff, count: 12) + [8, 6] + Array(repeating: 0, count: 46)))
        var udp = fixture.acknowledgment(12_000).bytes()
        udp[23] = 17
        frames.append(("UDP", udp))
        for (name, frame) in frames {
            let outcome = try fixture.run(fixture.ingress, frame)
            #expect(outcome.verdict == .pass && outcome.bytes == frame, "\(name)")
        }
        #expect(try fixture.entry.snd_una == 10_000)
    }

    /// A service of UDP takes them; no TCP socket can be met by what the first fragment says is UDP.
    @Test func fragmentsOfDatagramsPass() throws {
        let fixture = try AgentFixture(isIPv6: true)
        var fragment = fixture.acknowledgment(12_000)
        fragment.firstHeader = 44
        for (name, offset) in [("the first", [0, 1]), ("a later one", [0, 17])] as [(String, [UInt8])] {
            fragment.extensions = [17, 0] + offset + [0, 0, 0, 9]
            let frame = fragment.bytes()
            let outcome = try fixture.run(fixture.ingress, frame)
            #expect(outcome.verdict == .pass && outcome.bytes == frame, "\(name)")
            fragment.extensions[0] = 6
            #expect(try fixture.run(fixture.ingress, fragment.bytes()).verdict == .drop, "\(name), of TCP")
        }
    }

    /// TCP of a VIP that cannot be read here could reach a socket past all that this program holds back: a SYN in
    /// fragments, say, would make the listener answer in the middle of an adoption. What the stack itself would drop
    /// is dropped too.
    @Test func unreadableTCPOfAVIPIsDropped() throws {
        for isIPv6 in [false, true] {
            let fixture = try AgentFixture(isIPv6: isIPv6)
            let header = isIPv6 ? 54 : 34
            let whole = fixture.acknowledgment(12_000).bytes()
            var frames: [(String, [UInt8])] = [("cut", Array(whole[..<(header + 19)]))]
            func add(_ name: String, _ at: Int, _ value: UInt8) {
                var frame = whole
                frame[at] = value
                frames.append((name, frame))
            }
            add("a TCP header of sixteen bytes", header + 12, 0x40)
            add("a TCP header longer than the packet", header + 12, 0xf0)
            add("more bytes than the frame has", isIPv6 ? 19 : 17, 255)
            if isIPv6 {
                add("a fragment header", 20, 44)
                add("a routing header", 20, 43)
                add("an authentication header", 20, 51)
                frames.append(("options cut", Array(whole[..<20]) + [60] + Array(whole[21..<55])))
                add("a length of 0", 19, 0)
                var many = fixture.acknowledgment(12_000)
                many.firstHeader = 60
                many.extensions = [60, 60, 60, 60, 6].flatMap { [$0, 0, 1, 4, 0, 0, 0, 0] }
                frames.append(("five extension headers", many.bytes()))
            } else {
                add("the first fragment", 20, 0x20)
                add("a later fragment", 21, 8)
                add("a length of less than the header", 17, 19)
            }
            for state in [nil, BATON_CONNECTION_ADOPTING, BATON_CONNECTION_LIVE] {
                if let state { try fixture.install(state) }
                for (name, frame) in frames {
                    #expect(try fixture.run(fixture.ingress, frame).verdict == .drop, "\(name), IPv6: \(isIPv6)")
                }
            }
            #expect(try fixture.entry.snd_una == 10_000)
            // Of other addresses it is the stack's business.
            try fixture.vips.delete(AgentFixture.Address(fixture.service))
            for (name, frame) in frames {
                #expect(try fixture.run(fixture.ingress, frame).verdict == .pass, "\(name), IPv6: \(isIPv6)")
            }
        }
    }

    @Test func extensionHeadersAreFollowed() throws {
        let padding: [UInt8] = [1, 4, 0, 0, 0, 0]
        let chains: [(first: UInt8, bytes: [UInt8])] = [
            (0, [6, 0] + padding), (60, [6, 0] + padding),
            (0, [60, 0] + padding + [6, 1, 1, 12] + Array(repeating: 0, count: 12)),
        ]
        for chain in chains {
            let fixture = try AgentFixture(isIPv6: true)
            try fixture.install(BATON_CONNECTION_LIVE)
            var packet = fixture.acknowledgment(12_000)
            packet.firstHeader = chain.first
            packet.extensions = chain.bytes
            let outcome = try fixture.receive(packet)
            #expect(outcome.verdict == .pass)
            #expect(try fixture.entry.snd_una == 12_000)
            packet.acknowledgment = fixture.sequence(4000)
            packet.window = 28_000
            #expect(outcome.bytes == packet.bytes(), "clamped, the checksum included")
        }
    }

    @Test func aReflectionIsLetThroughOnce() throws {
        let fixture = try AgentFixture()
        try fixture.install(BATON_CONNECTION_CATCHING_UP)
        let packet = fixture.acknowledgment(2000)
        let outcome = try fixture.receive(packet, mark: AgentFixture.reflectedMark)
        #expect(outcome.verdict == .pass && outcome.bytes == packet.bytes())
        #expect(outcome.mark == 0)
        // Any other mark is none of ours.
        let marked = try fixture.receive(packet, mark: 7)
        #expect(marked.verdict == .drop && marked.mark == 7)
    }
}
