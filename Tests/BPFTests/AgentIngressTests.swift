import CContract
import LinuxBPF
import Model
import Testing

/// `agent_ingress`: what is believed of a client, and what of it the adopted socket gets to see.
@Suite struct AgentIngressTests {
    // MARK: Follow

    private struct Follow {
        var name: String
        var place: UInt64
        var window: UInt16 = 20_000
        var scale: UInt8 = 0
        var verdict = AgentFixture.Verdict.pass
        var sndUna: UInt64 = 10_000
        var rightEdge: UInt64 = 30_000
    }

    private static let follows = [
        Follow(name: "nothing new", place: 10_000),
        Follow(name: "progress", place: 12_000, sndUna: 12_000, rightEdge: 32_000),
        Follow(name: "older", place: 9000, window: 65_535),
        Follow(name: "a wider window", place: 10_000, window: 50_000, rightEdge: 60_000),
        Follow(name: "a window that shrinks", place: 10_000, window: 1),
        Follow(name: "the whole window", place: 30_000, window: 0, sndUna: 30_000),
        Follow(name: "a FIN behind it", place: 30_001, window: 0, sndUna: 30_001, rightEdge: 30_001),
        Follow(name: "beyond the window", place: 30_003, verdict: .drop),
        Follow(name: "far beyond", place: 10_000 + 1 << 31 - 1, verdict: .drop),
        Follow(name: "scaled", place: 12_000, window: 100, scale: 14, sndUna: 12_000, rightEdge: 12_000 + 100 << 14),
        Follow(name: "a scale of five bits", place: 12_000, window: 1, scale: 16, sndUna: 12_000),
        Follow(name: "what scaling cuts off", place: 30_128, window: 0, scale: 7, sndUna: 30_128, rightEdge: 30_128),
        Follow(name: "more than that", place: 30_130, window: 0, scale: 7, verdict: .drop),
    ]

    /// The numbers wrap in the middle of the second and third stream.
    @Test(arguments: [5000, 0xffff_ffff - 11_000, 0x7fff_ffff - 11_000] as [UInt32], [false, true])
    func anACKMovesWhatIsKnown(iss: UInt32, isIPv6: Bool) throws {
        let fixture = try AgentFixture(isIPv6: isIPv6, iss: iss)
        for step in AgentIngressTests.follows {
            try fixture.install(BATON_CONNECTION_LIVE) {
                $0.snd_nxt = 15_000
                $0.snd_wscale = step.scale
            }
            let outcome = try fixture.receive(fixture.acknowledgment(step.place, window: step.window))
            #expect(outcome.verdict == step.verdict, "\(step.name)")
            #expect(try fixture.entry.snd_una == step.sndUna, "\(step.name)")
            #expect(try fixture.entry.right_edge == step.rightEdge, "\(step.name)")
        }
    }

    @Test func placesOutgrowTheSequenceCircle() throws {
        let fixture = try AgentFixture(iss: 0xffff_fff0)
        let far: UInt64 = 5 << 32 - 100
        try fixture.install(BATON_CONNECTION_LIVE) {
            $0.snd_una = far
            $0.right_edge = far + 60_000
            $0.snd_nxt = far + 50_000
        }
        #expect(try fixture.receive(fixture.acknowledgment(far + 40_000)).verdict == .pass)
        #expect(try fixture.entry.snd_una == far + 40_000)
        #expect(try fixture.entry.right_edge == far + 60_000)
        #expect(try fixture.receive(fixture.acknowledgment(far)).verdict == .pass)
        #expect(try fixture.entry.snd_una == far + 40_000)
    }

    @Test func theLatestClockIsKept() throws {
        let fixture = try AgentFixture()
        let steps: [(value: UInt32, acknowledged: UInt64, kept: UInt32)] = [
            (699, 10_000, 700), (701, 10_000, 701), (720, 9999, 701), (730, 10_001, 730),
            (730 &+ 1 << 31, 10_002, 730),
        ]
        try fixture.install(BATON_CONNECTION_LIVE) { $0.snd_nxt = 15_000 }
        for step in steps {
            var packet = fixture.acknowledgment(step.acknowledged)
            packet.timestamps = .init(value: step.value, echo: 1)
            #expect(try fixture.receive(packet).verdict == .pass)
            #expect(try fixture.entry.client_tsval == step.kept, "\(step)")
        }
    }

    /// RFC 5961 5: a segment from nowhere near the client's stream comes from somebody who guesses.
    @Test(arguments: [90_000, 0xffff_ffff - 32_000] as [UInt32])
    func aSegmentFarFromTheStreamIsDropped(irs: UInt32) throws {
        let fixture = try AgentFixture(irs: irs)
        let journal: Int64 = 16 << 20
        // A journal on its way puts the client ahead; a retransmission lies behind.
        let steps: [(place: Int64, verdict: AgentFixture.Verdict)] = [
            (100, .pass), (64_100, .pass), (64_100 + journal, .pass), (100 - 65_535, .pass),
            (64_100 + 1 << 27, .drop), (64_100 + 1 << 30, .drop), (1 << 31, .drop), (100 - 1 << 30, .drop),
            (100 - 1 << 27, .drop),
        ]
        for step in steps {
            try fixture.install(BATON_CONNECTION_LIVE) { $0.snd_nxt = 15_000 }
            let packet = fixture.acknowledgment(12_000, from: UInt64(bitPattern: step.place))
            #expect(try fixture.receive(packet).verdict == step.verdict, "\(step)")
            #expect(try fixture.entry.snd_una == (step.verdict == .pass ? 12_000 : 10_000), "\(step)")
        }
        // Before the socket's first segment the start of the journal is what is known.
        for (place, sndUna) in [(UInt64(journal), UInt64(12_000)), (1 << 27, 10_000), (1 << 31, 10_000)] {
            try fixture.install(BATON_CONNECTION_CATCHING_UP) { ($0.local_ack, $0.local_right_edge) = (0, 0) }
            _ = try fixture.receive(fixture.acknowledgment(12_000, from: place))
            #expect(try fixture.entry.snd_una == sndUna, "\(place)")
        }
    }

    // MARK: Clamp

    @Test(arguments: [5000, 0xffff_ffff - 11_000] as [UInt32], [false, true])
    func anACKAheadOfTheSocketIsClamped(iss: UInt32, isIPv6: Bool) throws {
        let fixture = try AgentFixture(isIPv6: isIPv6, iss: iss)
        let steps: [(scale: UInt8, acknowledged: UInt64, window: UInt16, field: UInt16)] = [
            (0, 12_000, 20_000, 28_000),  // the right edge stays: 32,000
            (0, 12_000, 65_535, 65_535),  // it would need more than the field holds
            (7, 12_000, 100, 204),  // 30,000 stands for 26,000 / 128 from there, rounded up
            (7, 12_000, 1000, 1063),
        ]
        for (count, step) in steps.enumerated() {
            try fixture.install(BATON_CONNECTION_LIVE) { $0.snd_wscale = step.scale }
            var packet = fixture.acknowledgment(step.acknowledged, window: step.window)
            packet.timestamps = .init(value: 800, echo: 2)
            packet.payload = Array(repeating: 7, count: 33)
            let outcome = try fixture.receive(packet)
            let frame = try #require(outcome.frame, "checksum, \(step)")
            #expect(outcome.verdict == .pass)
            #expect(frame.acknowledgment == fixture.sequence(4000))
            #expect(frame.window == step.field, "\(step)")
            #expect(frame.sequence == packet.sequence && frame.flags == packet.flags)
            #expect(frame.timestamps == packet.timestamps && frame.payloadBytes == 33)
            #expect(try fixture.entry.snd_una == 12_000)
            #expect(try fixture.entry.clamped_acks == 1)
            #expect(try fixture.count(BATON_COUNT_CLAMPED) == UInt64(count + 1))
        }
    }

    @Test func anACKOfWhatTheSocketSentIsLeftAlone() throws {
        let fixture = try AgentFixture()
        try fixture.install(BATON_CONNECTION_LIVE) { $0.snd_nxt = 12_000 }
        for acknowledged: UInt64 in [9000, 10_000, 11_999, 12_000] {
            let packet = fixture.acknowledgment(acknowledged)
            let outcome = try fixture.receive(packet)
            #expect(outcome.verdict == .pass && outcome.bytes == packet.bytes())
        }
        #expect(try fixture.count(BATON_COUNT_CLAMPED) == 0)
    }

    /// While the journal is still being fed, the client is ahead of what the adopted socket takes: a pure ACK from
    /// there would be dropped whole (tcp_sequence), and the reply would stall.
    @Test(arguments: [90_000, 0xffff_ffff - 32_000] as [UInt32], [false, true])
    func aPureACKBeyondTheWindowIsDrawnIn(irs: UInt32, isIPv6: Bool) throws {
        let fixture = try AgentFixture(isIPv6: isIPv6, irs: irs)
        let edge: UInt64 = 64_100
        let cases: [(name: String, place: UInt64, flags: TCPFlags, bytes: Int, isDrawnIn: Bool)] = [
            ("at what the socket expects", 100, .ack, 0, false), ("within the window", 5000, .ack, 0, false),
            ("at its edge", edge, .ack, 0, false), ("one beyond", edge + 1, .ack, 0, true),
            ("a journal beyond", edge + 16 << 20, .ack, 0, true), ("PSH", edge + 1, [.ack, .psh], 0, true),
            ("data", edge + 1, .ack, 1, false), ("FIN", edge + 1, [.ack, .fin], 0, false),
            ("RST", edge + 1, [.ack, .rst], 0, false), ("SYN", edge + 1, [.ack, .syn], 0, false),
            ("no ACK", edge + 1, .psh, 0, false), ("behind", 99, .ack, 0, false),
        ]
        for sndNxt: UInt64 in [4000, 20_000] {
            for item in cases {
                try fixture.install(BATON_CONNECTION_LIVE) { $0.snd_nxt = sndNxt }
                var packet = fixture.acknowledgment(12_000, from: item.place, window: 18_000)
                packet.timestamps = .init(value: 800, echo: 2)
                packet.flags = item.flags
                packet.payload = Array(repeating: 1, count: item.bytes)
                let outcome = try fixture.receive(packet)
                #expect(outcome.verdict == .pass)
                if item.isDrawnIn { packet.sequence = fixture.clientSequence(edge) }
                if sndNxt < 12_000, item.flags.contains(.ack) {
                    packet.acknowledgment = fixture.sequence(sndNxt)
                    packet.window = 26_000
                }
                #expect(outcome.bytes == packet.bytes(), "\(item.name), SND.NXT \(sndNxt)")
            }
        }
        // Once the client has been seen within the window, a guesser has to hit it.
        for (place, isInStep) in [(UInt64(99), false), (100, true), (edge, true), (edge + 1, false)] {
            try fixture.install(BATON_CONNECTION_LIVE) { $0.snd_nxt = 12_000 }
            _ = try fixture.receive(fixture.acknowledgment(10_000, from: place))
            let flag = BATON_CONNECTION_IN_STEP.rawValue
            #expect(try fixture.entry.flags == BATON_CONNECTION_ASSIGNED.rawValue | (isInStep ? flag : 0), "\(place)")
            let packet = fixture.acknowledgment(12_000, from: edge + 1)
            #expect((try fixture.receive(packet).bytes == packet.bytes()) == isInStep, "\(place)")
        }
        // Nothing is known of a socket that has not sent yet.
        try fixture.install(BATON_CONNECTION_LIVE) {
            ($0.local_ack, $0.local_right_edge, $0.snd_nxt) = (0, 0, 12_000)
        }
        let packet = fixture.acknowledgment(12_000, from: 1 << 20)
        #expect(try fixture.receive(packet).bytes == packet.bytes())
    }

    // MARK: States

    @Test func everyStateLetsInWhatItShould() throws {
        let fixture = try AgentFixture()
        let shapes: [(flags: TCPFlags, bytes: Int)] = [
            (.ack, 0), ([.ack, .psh], 10), ([.fin, .ack], 0), ([.rst, .ack], 0), (.rst, 0), (.syn, 0),
        ]
        let states: [(baton_connection_state, [AgentFixture.Verdict])] = [
            (BATON_CONNECTION_ADOPTING, [.drop, .drop, .drop, .drop, .drop, .drop]),
            (BATON_CONNECTION_CATCHING_UP, [.drop, .pass, .pass, .pass, .pass, .pass]),
            (BATON_CONNECTION_LIVE, [.pass, .pass, .pass, .pass, .pass, .pass]),
            (BATON_CONNECTION_REFUSED, [.drop, .drop, .drop, .drop, .drop, .drop]),
        ]
        for (state, verdicts) in states {
            for (shape, verdict) in zip(shapes, verdicts) {
                try fixture.install(state)
                var packet = fixture.acknowledgment(12_000)
                packet.flags = shape.flags
                packet.payload = Array(repeating: 1, count: shape.bytes)
                #expect(try fixture.receive(packet).verdict == verdict, "\(state), \(shape)")
                // All are followed, the silenced ones too: the tap may have missed them.
                let isFollowed = shape.flags.contains(.ack)
                #expect(try fixture.entry.snd_una == (isFollowed ? 12_000 : 10_000), "\(state), \(shape)")
                #expect(try fixture.entry.state == state.rawValue)
            }
        }
    }
}
