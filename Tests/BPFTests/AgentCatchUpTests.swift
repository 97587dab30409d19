import CContract
import LinuxBPF
import Model
import Testing

/// `agent_egress` in catch-up: what the client has is acknowledged in its place, what it has not goes out.
@Suite struct AgentCatchUpTests {
    /// The numbers wrap within the second and third stream.
    @Test(arguments: [5000, 0xffff_ffff - 4500, 0x7fff_ffff - 4500] as [UInt32], [false, true])
    func aSegmentTheClientHasIsReflected(iss: UInt32, isIPv6: Bool) throws {
        for (bytes, flags) in [(1000, TCPFlags.ack), (1, [.ack, .psh]), (1460, [.ack, .psh]), (3000, .ack)] {
            for clock in [nil, AgentPacket.Timestamps(value: 5555, echo: 0xffff_ffff)] {
                let fixture = try AgentFixture(isIPv6: isIPv6, iss: iss)
                try fixture.install(BATON_CONNECTION_CATCHING_UP)
                var packet = fixture.reply(4000, bytes: bytes, flags: flags)
                packet.timestamps = clock
                packet.acknowledgment = fixture.clientSequence(321)
                let outcome = try fixture.send(packet)
                let frame = try #require(outcome.frame, "lengths or checksums")
                let end = 4000 + UInt64(bytes)
                var expected = try #require(AgentFrame(packet.bytes()))
                swap(&expected.destination, &expected.sourceMAC)
                swap(&expected.source, &expected.target)
                swap(&expected.sourcePort, &expected.targetPort)
                expected.sequence = fixture.clientSequence(321)
                expected.acknowledgment = fixture.sequence(end)
                expected.flags = .ack
                expected.window = UInt16(30_000 - end)
                expected.timestamps = clock.map { .init(value: 700, echo: $0.value) }
                expected.payloadBytes = 0
                #expect(frame == expected)
                #expect(outcome.verdict == .redirect)
                #expect(outcome.mark == AgentFixture.reflectedMark)
                #expect(outcome.bytes.count == 14 + (isIPv6 ? 40 : 20) + 20 + (clock == nil ? 0 : 12))
                #expect(try fixture.count(BATON_COUNT_REFLECTED) == 1)
                #expect(try fixture.count(BATON_COUNT_REFLECTED_BYTES) == UInt64(bytes))
                let entry = try fixture.entry
                #expect(entry.caught_up_bytes == UInt64(bytes))
                #expect(entry.snd_nxt == end)
                #expect(entry.first_reply_ns > 0 && entry.live_ns == 0)
                #expect(try fixture.kinds().isEmpty)
            }
        }
    }

    /// Rounded up, and two segments beyond SND.UNA at least: a sender does not cut a segment for a smaller rest.
    @Test func theReflectedWindow() throws {
        let steps: [(scale: UInt8, rightEdge: UInt64, mss: UInt16, field: UInt16)] = [
            (0, 30_000, 1460, 25_000), (0, 10_000, 1460, 5000 + 2920), (0, 12_919, 1460, 5000 + 2920),
            (0, 12_921, 1460, 7921), (7, 30_000, 1460, 196), (7, 10_000, 536, 48), (14, 10_000, 536, 1),
            (14, 1 << 30, 536, 65_535), (0, 1 << 40, 1460, 65_535), (14, 1 << 40, 65_535, 65_535),
            (15, 1 << 29, 536, 16_384),
        ]
        for step in steps {
            let fixture = try AgentFixture()
            try fixture.install(BATON_CONNECTION_CATCHING_UP) {
                $0.snd_wscale = step.scale
                $0.right_edge = step.rightEdge
                $0.mss = step.mss
            }
            let frame = try #require(try fixture.send(fixture.reply(4000, bytes: 1000)).frame)
            #expect(frame.window == step.field, "\(step)")
        }
    }

    private struct Case {
        var name: String
        var place: UInt64
        var bytes = 0
        var flags: TCPFlags = .ack
        var verdict: AgentFixture.Verdict
        var state: baton_connection_state
        var events: [baton_event_kind] = []
        var caughtUp: UInt64 = 0
        var sndNxt: UInt64
    }

    private static let cases = [
        Case(
            name: "ends one below SND.UNA", place: 9000, bytes: 999, verdict: .redirect,
            state: BATON_CONNECTION_CATCHING_UP, caughtUp: 999, sndNxt: 9999),
        Case(
            name: "ends at SND.UNA", place: 9000, bytes: 1000, verdict: .redirect, state: BATON_CONNECTION_LIVE,
            events: [BATON_EVENT_LIVE], caughtUp: 1000, sndNxt: 10_000),
        Case(
            name: "straddles SND.UNA", place: 9000, bytes: 1001, verdict: .pass, state: BATON_CONNECTION_LIVE,
            events: [BATON_EVENT_LIVE], sndNxt: 10_001),
        Case(
            name: "begins at SND.UNA", place: 10_000, bytes: 1, verdict: .pass, state: BATON_CONNECTION_LIVE,
            events: [BATON_EVENT_LIVE], sndNxt: 10_001),
        Case(
            name: "FIN below SND.UNA", place: 9000, bytes: 998, flags: [.fin, .ack], verdict: .drop,
            state: BATON_CONNECTION_REFUSED, events: [BATON_EVENT_REPLY_SHORTER], sndNxt: 9999),
        Case(
            name: "bare FIN below SND.UNA", place: 4000, flags: [.fin, .ack], verdict: .drop,
            state: BATON_CONNECTION_REFUSED, events: [BATON_EVENT_REPLY_SHORTER], sndNxt: 4001),
        Case(
            name: "FIN that the client has", place: 9000, bytes: 999, flags: [.fin, .ack], verdict: .redirect,
            state: BATON_CONNECTION_LIVE, events: [BATON_EVENT_LIVE], caughtUp: 999, sndNxt: 10_000),
        Case(
            name: "FIN at SND.UNA", place: 10_000, flags: [.fin, .ack], verdict: .pass, state: BATON_CONNECTION_LIVE,
            events: [BATON_EVENT_LIVE], sndNxt: 10_001),
        Case(
            name: "RST", place: 4000, flags: .rst, verdict: .drop, state: BATON_CONNECTION_REFUSED,
            events: [BATON_EVENT_REPLY_SHORTER], sndNxt: 4000),
        Case(
            name: "RST beyond SND.UNA", place: 12_000, flags: [.rst, .ack], verdict: .drop,
            state: BATON_CONNECTION_REFUSED, events: [BATON_EVENT_REPLY_SHORTER], sndNxt: 4000),
        Case(
            name: "pure ACK", place: 4000, verdict: .drop, state: BATON_CONNECTION_CATCHING_UP, sndNxt: 4000),
        Case(
            name: "keepalive", place: 3999, verdict: .drop, state: BATON_CONNECTION_CATCHING_UP, sndNxt: 4000),
        Case(
            name: "a retransmission", place: 2000, bytes: 500, verdict: .redirect, state: BATON_CONNECTION_CATCHING_UP,
            caughtUp: 500, sndNxt: 4000),
    ]

    @Test(arguments: [5000, 0xffff_ffff - 9500] as [UInt32], [false, true])
    func whereASegmentEndsDecides(iss: UInt32, isIPv6: Bool) throws {
        for item in AgentCatchUpTests.cases {
            let fixture = try AgentFixture(isIPv6: isIPv6, iss: iss)
            try fixture.install(BATON_CONNECTION_CATCHING_UP)
            let packet = fixture.reply(item.place, bytes: item.bytes, flags: item.flags)
            let outcome = try fixture.send(packet)
            let entry = try fixture.entry
            #expect(outcome.verdict == item.verdict, "\(item.name)")
            #expect(entry.state == item.state.rawValue, "\(item.name)")
            #expect(entry.caught_up_bytes == item.caughtUp, "\(item.name)")
            #expect(entry.snd_nxt == item.sndNxt, "\(item.name)")
            #expect((entry.live_ns > 0) == (item.state == BATON_CONNECTION_LIVE), "\(item.name)")
            if item.verdict == .pass { #expect(outcome.bytes == packet.bytes(), "\(item.name)") }
            if item.verdict == .redirect {
                let end = item.place + UInt64(item.bytes) + (item.flags.contains(.fin) ? 1 : 0)
                #expect(outcome.frame?.acknowledgment == fixture.sequence(end), "\(item.name)")
            }
            let events = try fixture.events()
            #expect(events.map(\.kind) == item.events.map(\.rawValue), "\(item.name)")
            for event in events {
                #expect(event.key.clientAddress == fixture.client && event.key.serviceAddress == fixture.service)
                #expect(event.key.clientPort == 40000 && event.key.servicePort == 80)
                #expect(event.exit_code == 0 && event.time_ns > 0)
            }
        }
    }

    /// A reply of more than 4 GiB is regenerated from its beginning: the socket's places must not be taken for those
    /// of the same numbers a circle later.
    @Test func aReplyBeyondTheSequenceCircle() throws {
        let fixture = try AgentFixture(iss: 77)
        let una: UInt64 = 1 << 32 + 5000
        try fixture.install(BATON_CONNECTION_CATCHING_UP) {
            $0.snd_una = una
            $0.right_edge = una + 20_000
        }
        // 4,000 of the first circle, where SND.UNA of the second is 5,000.
        let first = try fixture.send(fixture.reply(4000, bytes: 1000))
        #expect(first.verdict == .redirect)
        #expect(first.frame?.window == 65_535)
        #expect(try fixture.entry.state == BATON_CONNECTION_CATCHING_UP.rawValue)
        #expect(try fixture.entry.snd_nxt == 5000)
        #expect(try fixture.send(fixture.reply(5000, bytes: 1000)).verdict == .redirect)
        // The circle's other half, then the end.
        var place: UInt64 = 6000
        while place + 1000 < una {
            let next = min(place + 1 << 30, una - 1000)
            try fixture.install(BATON_CONNECTION_CATCHING_UP) {
                $0.snd_una = una
                $0.right_edge = una + 20_000
                $0.snd_nxt = next
            }
            #expect(try fixture.send(fixture.reply(next, bytes: 999)).verdict == .redirect)
            #expect(try fixture.entry.snd_nxt == next + 999)
            place = next
        }
        #expect(try fixture.send(fixture.reply(una - 1, bytes: 1000)).verdict == .pass)
        #expect(try fixture.entry.state == BATON_CONNECTION_LIVE.rawValue)
        #expect(try fixture.entry.snd_nxt == una + 999)
    }

    // MARK: Large segments

    private struct Large {
        var name: String
        var field: UInt16?
        var bytes: Int
        var sndUna: UInt64
        var end: UInt64
        var isReflected: Bool
    }

    /// A segment on its way to the device may have up to 64 KiB; more (BIG TCP) has a length field of 0, and the real
    /// length is the skb's. A test run takes one page, so that the field says what the frame does not have.
    @Test(arguments: [false, true])
    func largeSegments(isIPv6: Bool) throws {
        let most: UInt64 = 65_535 - (isIPv6 ? 20 : 40)
        let end = 4000 + most
        let cases = [
            Large(name: "all known", field: 65_535, bytes: 100, sndUna: 100_000, end: end, isReflected: true),
            Large(name: "to SND.UNA", field: 65_535, bytes: 100, sndUna: end, end: end, isReflected: true),
            Large(name: "one new", field: 65_535, bytes: 100, sndUna: end - 1, end: end, isReflected: false),
            Large(name: "BIG, all known", field: 0, bytes: 3000, sndUna: 7000, end: 7000, isReflected: true),
            Large(name: "BIG, one new", field: 0, bytes: 3000, sndUna: 6999, end: 7000, isReflected: false),
        ]
        for item in cases {
            let fixture = try AgentFixture(isIPv6: isIPv6)
            try fixture.install(BATON_CONNECTION_CATCHING_UP) {
                $0.snd_una = item.sndUna
                $0.right_edge = 200_000
            }
            var packet = fixture.reply(4000, bytes: item.bytes)
            packet.lengthField = item.field
            let outcome = try fixture.send(packet, segmentBytes: 1448)
            #expect(outcome.verdict == (item.isReflected ? .redirect : .pass), "\(item.name)")
            #expect(try fixture.entry.snd_nxt == item.end, "\(item.name)")
            if item.isReflected {
                #expect(outcome.frame?.acknowledgment == fixture.sequence(item.end), "\(item.name)")
            }
        }
    }

    /// Only a segment that the device is to cut may be as large: of another one a length of 0 is what it says.
    @Test func aLengthOfZeroIsBelievedOfLargeSegmentsOnly() throws {
        let fixture = try AgentFixture()
        try fixture.install(BATON_CONNECTION_CATCHING_UP)
        var packet = fixture.reply(4000, bytes: 1000)
        packet.lengthField = 0
        _ = try fixture.send(packet)
        #expect(try fixture.entry.snd_nxt == 4000)
    }

    /// IPv6's BIG TCP has a hop-by-hop header that tells the length (RFC 2675); an application may ask for others. A
    /// reflection has none.
    @Test(arguments: [true, false])
    func headersBeforeTCP(hasTimestamps: Bool) throws {
        let padding: [UInt8] = [1, 4, 0, 0, 0, 0]
        let jumbo: [UInt8] = [6, 0, 0xc2, 4, 0, 0, 0x0b, 0xd4]
        let chains: [(name: String, first: UInt8, bytes: [UInt8], isBig: Bool)] = [
            ("jumbo", 0, jumbo, true), ("padding", 0, [6, 0] + padding, false),
            ("two", 0, [60, 0] + padding + [6, 1, 1, 12] + Array(repeating: 0, count: 12), false),
        ]
        for chain in chains {
            for (sndUna, verdict) in [(UInt64(7000), AgentFixture.Verdict.redirect), (6999, .pass)] {
                // A test run has no large segments of TCP that the kernel would take a header from:
                // AgentAdoptionTests has.
                if chain.isBig, verdict == .redirect { continue }
                let fixture = try AgentFixture(isIPv6: true)
                try fixture.install(BATON_CONNECTION_CATCHING_UP) { $0.snd_una = sndUna }
                var packet = fixture.reply(4000, bytes: 3000)
                packet.timestamps = hasTimestamps ? .init(value: 1, echo: 2) : nil
                packet.firstHeader = chain.first
                packet.extensions = chain.bytes
                packet.lengthField = chain.isBig ? 0 : nil
                let outcome = try fixture.send(packet, segmentBytes: chain.isBig ? 1428 : 0)
                #expect(outcome.verdict == verdict, "\(chain.name)")
                #expect(try fixture.entry.snd_nxt == 7000, "\(chain.name)")
                guard verdict == .redirect else { continue }
                let frame = try #require(outcome.frame, "\(chain.name)")
                #expect(frame.source == fixture.client && frame.sourcePort == 40000, "\(chain.name)")
                #expect(frame.acknowledgment == fixture.sequence(7000), "\(chain.name)")
                #expect((frame.timestamps != nil) == hasTimestamps)
            }
        }
    }
}
