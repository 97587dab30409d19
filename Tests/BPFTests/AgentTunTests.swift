import CContract
import Glibc
import LinuxBPF
import Model
import Testing

/// `agent_tun` without a TUN device: what it finds for a packet, and what it never lets in.
///
/// A test run is not an ingress, so that the kernel refuses the adoption itself; AgentAdoptionTests adopts.
@Suite struct AgentTunTests {
    private let namespace: Namespace

    init() throws {
        namespace = try Namespace()
        try namespace.run(
            "ip link set lo up", "ip addr add 10.0.0.1/32 dev lo", "ip addr add 8.0.0.100/32 dev lo",
            "ip addr add 2001:db8::1/128 dev lo nodad", "ip addr add 2001:db8:86dd:1::64/128 dev lo nodad"
        )
    }

    private func adoptingACK(_ fixture: AgentFixture) -> AgentPacket {
        AgentPacket(
            client: fixture.client, service: fixture.service, sequence: fixture.clientSequence(0),
            acknowledgment: fixture.sequence(0)
        )
    }

    private func journal(_ fixture: AgentFixture) -> AgentPacket {
        var packet = adoptingACK(fixture)
        packet.payload = Array("GET / HTTP/1.1\r\n\r\n".utf8)
        return packet
    }

    @Test(arguments: [false, true])
    func nothingEntersWithoutAnEntry(isIPv6: Bool) throws {
        try namespace.enter {
            let fixture = try AgentFixture(isIPv6: isIPv6)
            for packet in [adoptingACK(fixture), journal(fixture)] {
                #expect(try fixture.inject(packet).verdict == .drop)
            }
            try fixture.install(BATON_CONNECTION_ADOPTING)
            var other = journal(fixture)
            other.clientPort = 40001
            #expect(try fixture.inject(other).verdict == .drop)
            var cut = journal(fixture)
            cut.hasEthernet = false
            // A test run takes no less than the headers of Ethernet and IP.
            #expect(try fixture.run(fixture.tun, Array(cut.bytes()[..<(isIPv6 ? 56 : 36)])).verdict == .drop)
            #expect(try fixture.count(BATON_COUNT_ADOPTIONS_REFUSED) == 0)
        }
    }

    @Test(arguments: [false, true])
    func withoutAListenerNothingIsAdopted(isIPv6: Bool) throws {
        try namespace.enter {
            let fixture = try AgentFixture(isIPv6: isIPv6)
            try fixture.install(BATON_CONNECTION_ADOPTING) { $0.flags = 0 }
            #expect(try fixture.inject(adoptingACK(fixture)).verdict == .drop)
            #expect(try fixture.inject(journal(fixture)).verdict == .drop)
            #expect(try fixture.count(BATON_COUNT_ADOPTIONS_REFUSED) == 2)
            #expect(try fixture.entry.flags == 0)
        }
    }

    /// Nothing but the adopting ACK itself may meet the listener: it would answer with a RST.
    @Test(arguments: [false, true])
    func aListenerGetsOnlyTheAdoptingACK(isIPv6: Bool) throws {
        try namespace.enter {
            let fixture = try AgentFixture(isIPv6: isIPv6)
            let listener = try TCPSocket.listening(isIPv6: isIPv6, port: 80)
            let cases: [(name: String, state: baton_connection_state, change: (inout AgentPacket) -> Void)] = [
                ("journal", BATON_CONNECTION_ADOPTING, { $0.payload = [1] }),
                ("FIN", BATON_CONNECTION_ADOPTING, { $0.flags = [.ack, .fin] }),
                ("RST", BATON_CONNECTION_ADOPTING, { $0.flags = [.ack, .rst] }),
                ("SYN", BATON_CONNECTION_ADOPTING, { $0.flags = .syn }),
                ("SYN-ACK", BATON_CONNECTION_ADOPTING, { $0.flags = [.ack, .syn] }),
                ("no ACK", BATON_CONNECTION_ADOPTING, { $0.flags = .psh }),
                ("another SEQ", BATON_CONNECTION_ADOPTING, { $0.sequence &+= 1 }),
                ("another ACK", BATON_CONNECTION_ADOPTING, { $0.acknowledgment &+= 1 }),
                ("catching up", BATON_CONNECTION_CATCHING_UP, { _ in }),
                ("live", BATON_CONNECTION_LIVE, { _ in }),
                ("refused", BATON_CONNECTION_REFUSED, { _ in }),
            ]
            for (number, item) in cases.enumerated() {
                try fixture.install(item.state) { $0.flags = 0 }
                var packet = adoptingACK(fixture)
                item.change(&packet)
                #expect(try fixture.inject(packet).verdict == .drop, "\(item.name)")
                #expect(try fixture.count(BATON_COUNT_REPLAY_DROPPED) == UInt64(number + 1), "\(item.name)")
            }
            // The right one reaches the kernel, which here says no.
            try fixture.install(BATON_CONNECTION_ADOPTING) { $0.flags = 0 }
            #expect(try fixture.inject(adoptingACK(fixture)).verdict == .drop)
            #expect(try fixture.count(BATON_COUNT_ADOPTIONS_REFUSED) == 1)
            #expect(try fixture.entry.flags == 0)
            // One that had its socket already is not adopted again.
            try fixture.install(BATON_CONNECTION_ADOPTING) { $0.flags = BATON_CONNECTION_ADOPTED.rawValue }
            #expect(try fixture.inject(adoptingACK(fixture)).verdict == .drop)
            #expect(try fixture.count(BATON_COUNT_REPLAY_DROPPED) == UInt64(cases.count + 1))
            #expect(listener.isOpen)
        }
    }

    @Test(arguments: [false, true])
    func aForeignSocketIsNeverSplicedInto(isIPv6: Bool) throws {
        try namespace.enter {
            let fixture = try AgentFixture(isIPv6: isIPv6)
            let listener = try TCPSocket.listening(isIPv6: isIPv6, port: 80)
            let caller = try TCPSocket.connected(from: fixture.client, port: 40000, to: fixture.service, port: 80)
            try fixture.install(BATON_CONNECTION_ADOPTING) { $0.flags = 0 }
            #expect(try fixture.inject(journal(fixture)).verdict == .drop)
            #expect(try fixture.inject(adoptingACK(fixture)).verdict == .drop)
            #expect(try fixture.count(BATON_COUNT_ADOPTIONS_REFUSED) == 2)
            #expect(try fixture.kinds().isEmpty)
            #expect(try fixture.entry.state == BATON_CONNECTION_ADOPTING.rawValue)
            #expect(listener.isOpen && caller.isOpen)
        }
    }

    /// The socket's first look-up confirms it, once; where it goes on depends on what the client has.
    @Test func anAssignedSocketIsConfirmedOnce() throws {
        let cases: [(una: UInt64, before: baton_connection_state, after: baton_connection_state)] = [
            (0, BATON_CONNECTION_ADOPTING, BATON_CONNECTION_LIVE),
            (1, BATON_CONNECTION_ADOPTING, BATON_CONNECTION_CATCHING_UP),
            (1 << 33, BATON_CONNECTION_ADOPTING, BATON_CONNECTION_CATCHING_UP),
            (0, BATON_CONNECTION_CATCHING_UP, BATON_CONNECTION_CATCHING_UP),
            (1, BATON_CONNECTION_LIVE, BATON_CONNECTION_LIVE),
            (1, BATON_CONNECTION_REFUSED, BATON_CONNECTION_REFUSED),
        ]
        try namespace.enter {
            let listener = try TCPSocket.listening(isIPv6: false, port: 80)
            let caller = try TCPSocket.connected(from: AgentFixture.client, port: 40000, to: AgentFixture.vip, port: 80)
            for item in cases {
                let fixture = try AgentFixture()
                try fixture.install(item.before) { $0.snd_una = item.una }
                for _ in 0..<3 { #expect(try fixture.inject(journal(fixture)).verdict == .pass) }
                let entry = try fixture.entry
                #expect(entry.state == item.after.rawValue, "\(item)")
                #expect(entry.flags & BATON_CONNECTION_ADOPTED.rawValue != 0)
                #expect(entry.adopted_ns > 0)
                let goesLive = item.before == BATON_CONNECTION_ADOPTING && item.after == BATON_CONNECTION_LIVE
                #expect((entry.live_ns > 0) == goesLive, "\(item)")
                #expect(try fixture.kinds() == [BATON_EVENT_ADOPTED])
                #expect(try fixture.count(BATON_COUNT_ADOPTIONS) == 1)
            }
            #expect(listener.isOpen && caller.isOpen)
        }
    }
}
