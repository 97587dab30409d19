import CContract
import Glibc
import LinuxBPF
import Model
import Testing

/// `agent_egress`: who may speak for a VIP, and what of a connection in each state leaves.
@Suite struct AgentEgressTests {
    private func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    // MARK: Lease and fence

    @Test(arguments: [false, true])
    func onlyALeaseLetsAVIPSpeak(isIPv6: Bool) throws {
        let fixture = try AgentFixture(isIPv6: isIPv6)
        let hour: UInt64 = 3_600_000_000_000
        let steps: [(name: String, until: UInt64, fenced: UInt64, verdict: AgentFixture.Verdict)] = [
            ("never had one", 0, 0, .drop), ("expired", now() - 1, 0, .drop), ("in the future", now() + hour, 0, .pass),
            ("none needed", .max, 0, .pass), ("almost none needed", .max - 1, 0, .pass),
            ("fenced", .max, 1, .drop), ("fenced with any number", now() + hour, 1 << 63, .drop),
        ]
        var dropped: UInt64 = 0
        for step in steps {
            try fixture.setLease(until: step.until, fenced: step.fenced)
            for packet in [fixture.reply(0, bytes: 10), fixture.reply(0, bytes: 0, flags: .rst)] {
                #expect(try fixture.send(packet).verdict == step.verdict, "\(step)")
                dropped += step.verdict == .drop ? 1 : 0
            }
            #expect(try fixture.count(BATON_COUNT_FENCED) == dropped, "\(step)")
        }
    }

    @Test func aLeaseEndsByItself() throws {
        let fixture = try AgentFixture()
        let packet = fixture.reply(0, bytes: 10)
        try fixture.setLease(until: now() + 100_000_000)
        #expect(try fixture.send(packet).verdict == .pass)
        usleep(110_000)
        #expect(try fixture.send(packet).verdict == .drop)
    }

    /// Whatever is no TCP of a VIP as well: a fenced machine is silent.
    @Test func theFenceHoldsWhatCannotBeRead() throws {
        let fixture = try AgentFixture()
        try fixture.setLease(until: .max, fenced: 1)
        var udp = fixture.reply(0, bytes: 10).bytes()
        udp[23] = 17
        #expect(try fixture.run(fixture.egress, udp).verdict == .drop)
        var fragment = fixture.reply(0, bytes: 10)
        fragment.fragment = 100
        #expect(try fixture.send(fragment).verdict == .drop)
        #expect(try fixture.run(fixture.egress, Array(fixture.reply(0, bytes: 10).bytes()[..<40])).verdict == .drop)
    }

    @Test func otherAddressesNeedNoLease() throws {
        let fixture = try AgentFixture()
        try fixture.setLease(until: 0, fenced: 1)
        var packet = fixture.reply(0, bytes: 10)
        packet.service = IPAddress(ipv4: 0x0a00_0002)
        #expect(try fixture.send(packet).verdict == .pass)
        // As a client a VIP is nobody's.
        packet.client = AgentFixture.vip
        #expect(try fixture.send(packet).verdict == .pass)
        let arp: [UInt8] = Array(repeating: 0xff, count: 12) + [8, 6] + Array(repeating: 0, count: 46)
        #expect(try fixture.run(fixture.egress, arp).verdict == .pass)
        #expect(try fixture.count(BATON_COUNT_FENCED) == 0)
    }

    // MARK: Guard

    @Test func aCrashedApplicationIsSilentUntilThePortPairIsUsedAgain() throws {
        let fixture = try AgentFixture()
        try fixture.guarded.put(fixture.key, 1)
        for (flags, bytes) in [(TCPFlags.ack, 10), ([.fin, .ack], 0), ([.rst, .ack], 0), (.rst, 0), (.ack, 0)] {
            #expect(try fixture.send(fixture.reply(12_000, bytes: bytes, flags: flags)).verdict == .drop)
        }
        #expect(try fixture.count(BATON_COUNT_GUARDED) == 5)
        var other = fixture.reply(0, bytes: 10)
        other.clientPort = 40001
        #expect(try fixture.send(other).verdict == .pass)
        #expect(try fixture.send(fixture.reply(0, bytes: 0, flags: [.syn, .ack])).verdict == .pass)
        #expect(try fixture.guarded.get(fixture.key) == nil)
        #expect(try fixture.send(fixture.reply(0, bytes: 10)).verdict == .pass)
    }

    /// Even of a connection that is being caught up with, whose application has died in its turn.
    @Test func theGuardComesBeforeTheConnection() throws {
        let fixture = try AgentFixture()
        try fixture.install(BATON_CONNECTION_CATCHING_UP)
        try fixture.guarded.put(fixture.key, 1)
        #expect(try fixture.send(fixture.reply(4000, bytes: 1000)).verdict == .drop)
        #expect(try fixture.entry.snd_nxt == 4000)
    }

    @Test(arguments: [BATON_CONNECTION_LIVE, BATON_CONNECTION_CATCHING_UP, BATON_CONNECTION_REFUSED])
    func aSYNACKForgetsTheOldConnection(state: baton_connection_state) throws {
        let fixture = try AgentFixture()
        try fixture.install(state)
        // Not a SYN-ACK: no listener's answer.
        _ = try fixture.send(fixture.reply(4000, bytes: 0, flags: .ack))
        #expect(try fixture.isKnown)
        #expect(try fixture.send(fixture.reply(0, bytes: 0, flags: [.syn, .ack])).verdict == .pass)
        #expect(try !fixture.isKnown)
    }

    /// A fenced machine's listener must not make it forget.
    @Test func aSYNACKThatDoesNotLeaveForgetsNothing() throws {
        let fixture = try AgentFixture()
        try fixture.install(BATON_CONNECTION_LIVE)
        try fixture.guarded.put(fixture.key, 1)
        try fixture.setLease(until: 0)
        #expect(try fixture.send(fixture.reply(0, bytes: 0, flags: [.syn, .ack])).verdict == .drop)
        #expect(try fixture.isKnown)
        #expect(try fixture.guarded.get(fixture.key) == 1)
    }

    // MARK: States

    private struct Case {
        var name: String
        var assigned = true
        var sndUna: UInt64 = 10_000
        var flags: TCPFlags = .ack
        var bytes = 0
        var place: UInt64 = 0
        var verdict: AgentFixture.Verdict
        var state: baton_connection_state
        var events: [baton_event_kind] = []
    }

    /// In ADOPTING the socket's first segment may be faster than our confirmation of it.
    @Test func whatLeavesInAdopting() throws {
        let cases = [
            Case(name: "RST", flags: .rst, verdict: .drop, state: BATON_CONNECTION_ADOPTING),
            Case(name: "RST, ACK", flags: [.rst, .ack], verdict: .drop, state: BATON_CONNECTION_ADOPTING),
            Case(name: "data of a stranger", assigned: false, bytes: 10, place: 10_000, verdict: .drop,
                state: BATON_CONNECTION_ADOPTING),
            Case(name: "FIN of a stranger", assigned: false, flags: [.fin, .ack], place: 10_000, verdict: .drop,
                state: BATON_CONNECTION_ADOPTING),
            Case(name: "ACK of a stranger that speaks first", assigned: false, sndUna: 0, verdict: .drop,
                state: BATON_CONNECTION_ADOPTING),
            Case(name: "first data of a server that speaks first", sndUna: 0, bytes: 10, verdict: .pass,
                state: BATON_CONNECTION_LIVE, events: [BATON_EVENT_LIVE]),
            Case(name: "ACK of a server that speaks first", sndUna: 0, verdict: .pass,
                state: BATON_CONNECTION_LIVE, events: [BATON_EVENT_LIVE]),
            Case(name: "data below SND.UNA", bytes: 10, verdict: .redirect, state: BATON_CONNECTION_CATCHING_UP),
            Case(name: "ACK below SND.UNA", verdict: .drop, state: BATON_CONNECTION_CATCHING_UP),
            Case(name: "data beyond SND.UNA", bytes: 10, place: 9995, verdict: .pass,
                state: BATON_CONNECTION_LIVE, events: [BATON_EVENT_LIVE]),
        ]
        for item in cases {
            let fixture = try AgentFixture()
            try fixture.install(BATON_CONNECTION_ADOPTING) {
                $0.flags = item.assigned ? BATON_CONNECTION_ASSIGNED.rawValue : 0
                $0.snd_una = item.sndUna
                $0.snd_nxt = 0
            }
            let outcome = try fixture.send(fixture.reply(item.place, bytes: item.bytes, flags: item.flags))
            #expect(outcome.verdict == item.verdict, "\(item.name)")
            #expect(try fixture.entry.state == item.state.rawValue, "\(item.name)")
            #expect(try fixture.kinds() == item.events, "\(item.name)")
            let isGuarded = item.state == BATON_CONNECTION_ADOPTING
            #expect(try fixture.count(BATON_COUNT_RST_GUARDED) == (isGuarded ? 1 : 0), "\(item.name)")
        }
    }

    @Test func nothingLeavesOfARefusedConnection() throws {
        let fixture = try AgentFixture()
        for flags: TCPFlags in [.ack, [.fin, .ack], .rst, [.rst, .ack]] {
            try fixture.install(BATON_CONNECTION_REFUSED)
            #expect(try fixture.send(fixture.reply(12_000, bytes: 10, flags: flags)).verdict == .drop)
            #expect(try fixture.entry.snd_nxt == 4000)
        }
    }

    @Test(arguments: [5000, 0xffff_ffff - 11_000] as [UInt32])
    func aLiveConnectionIsOnlyWatched(iss: UInt32) throws {
        let fixture = try AgentFixture(iss: iss)
        let steps: [(flags: TCPFlags, place: UInt64, bytes: Int, sndNxt: UInt64)] = [
            (.ack, 4000, 1000, 5000), (.ack, 4500, 100, 5000), ([.ack, .psh], 4500, 1000, 5500),
            (.ack, 5500, 0, 5500), ([.fin, .ack], 5500, 7, 5508), (.rst, 9000, 0, 5508), (.ack, 3999, 1, 5508),
        ]
        try fixture.install(BATON_CONNECTION_LIVE) { $0.rcv_wscale = 7 }
        for step in steps {
            let packet = fixture.reply(step.place, bytes: step.bytes, flags: step.flags, window: 500)
            let outcome = try fixture.send(packet)
            #expect(outcome.verdict == .pass && outcome.bytes == packet.bytes(), "\(step)")
            #expect(try fixture.entry.snd_nxt == step.sndNxt, "\(step)")
        }
        let entry = try fixture.entry
        #expect(entry.local_ack == fixture.clientSequence(100))
        #expect(entry.local_right_edge == fixture.clientSequence(100 + 500 << 7))
        #expect(try fixture.kinds().isEmpty)
    }
}
