import Model
import Takeover
import Testing
import Tracking
import Wire

extension TakeoverFixture {
    /// A frame whose numbers have nothing to do with the fixture's connection.
    func sendRaw(_ flags: TCPFlags, sequence: UInt32, acknowledgment: UInt32 = 0) {
        let flow = TakeoverFixture.flow()
        let bytes = TCPPacket(
            from: flow.client,
            to: flow.service,
            sequence: SequenceNumber(sequence),
            acknowledgment: SequenceNumber(acknowledgment),
            flags: flags,
            window: 1
        ).encode()
        let (frame, _) = TakeoverFixture.parse(bytes)
        var effects: [TakeoverEffect] = []
        bytes.withUnsafeBytes { tracker.handle(frame, in: $0, slot: TakeoverFixture.slot, now: now) }
        machine.received(frame, tracker: tracker, now: now, into: &effects)
        perform(effects)
    }
}

/// What could leave a client hanging, or splice what does not belong together.
struct HazardTests {
    private static let flow = TakeoverFixture.flow()

    // MARK: The window of the adopted socket

    struct Window: Sendable {
        var una: Int
        var field: UInt16
        var expected: UInt16
        var scale: UInt8 = 4
    }

    /// A right edge of ISS + 1 + `una` + `field` << `scale`, told at ISS + 1.
    static let windows = [
        // Nothing to catch up: the client's own window, rounded down.
        Window(una: 0, field: 0, expected: 0), Window(una: 0, field: 500, expected: 500),
        // A client that reads slowly: the socket has to reach SND.UNA all the same, and a sender waits for room for a
        // whole segment.
        Window(una: 1, field: 0, expected: (1 + 2920 + 15) / 16), Window(una: 4000, field: 0, expected: (6920 + 15) / 16),
        Window(una: 4000, field: 10, expected: (6920 + 15) / 16),
        Window(una: 100, field: 0, expected: 1, scale: 14),
        // Open enough.
        Window(una: 4000, field: 500, expected: 750), Window(una: 4001, field: 500, expected: 751),
        // Far beyond what the field can tell: reflections move it on.
        Window(una: 1_048_000, field: 500, expected: 65_535), Window(una: 900_000_000, field: 0, expected: 65_535),
    ]

    @Test(arguments: windows)
    func theSocketReachesSNDUNA(window: Window) throws {
        let fixture = TakeoverFixture()
        fixture.goesLive = false
        let offered = HandshakeOptions(mss: 1460, windowScale: window.scale, sackPermitted: true, timestamps: true)
        fixture.connect(pattern(0..<80), offered)
        fixture.start()
        fixture.send([.ack], at: 80, ack: window.una, window: window.field)
        let ack = try #require(fixture.injected.first)
        #expect(ack.frame.window == window.expected)
        let entry = try #require(fixture.entries[Self.flow])
        #expect(entry.rightEdge == UInt64(window.una) + UInt64(window.field) << UInt64(window.scale), "the real one")
    }

    // MARK: Segments into the socket

    /// An older clock than the one that the data plane's reflections have shown would fail the socket's PAWS test.
    @Test func theJournalGoesWithoutClocks() throws {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<100_000))
        fixture.start()
        fixture.send([.ack], at: 100_000, ack: 500)
        let first = try #require(fixture.injected.first)
        #expect(first.frame.timestamps == TCPTimestamps(value: 100, echo: 9300))
        fixture.run(.milliseconds(100))
        #expect(fixture.sockets[Self.flow]?.received == pattern(0..<100_000))
        let later = fixture.injected.filter { $0.frame.sequence.distance(from: SequenceNumber(1001)) >= 32_768 }
        #expect(!later.isEmpty)
        #expect(later.allSatisfy { $0.frame.timestamps == nil })
    }

    /// After the slot is settled pure ACKs go to the new owner alone: the tap does not see them, the data plane does.
    @Test func theDataPlaneKnowsTheHigherACK() throws {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<100_000))
        fixture.start()
        fixture.dropsInjected = { $0.sequence.distance(from: SequenceNumber(1001)) > 30_000 }
        fixture.send([.ack], at: 100_000, ack: 500)
        fixture.dropsInjected = { _ in false }
        fixture.progress(
            Self.flow,
            AdoptionProgress(
                state: .live,
                isAdopted: true,
                localAck: SequenceNumber(1001 + 32_768),
                localRightEdge: SequenceNumber(1001 + 90_000),
                sent: 9_000_000,
                acknowledged: 8_000_000,
                adoptedAt: fixture.now
            )
        )
        fixture.run(.milliseconds(100))
        #expect(fixture.injected.last?.frame.acknowledgment == SequenceNumber(5001 + 8_000_000))
        #expect(fixture.sockets[Self.flow]?.received == pattern(0..<100_000))
    }

    /// The same but that nothing is left to be injected: the number of the RST comes from the data plane.
    @Test func theRSTIsAtWhatTheDataPlaneKnows() throws {
        let fixture = TakeoverFixture()
        fixture.goesLive = false
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.send([.ack], at: 80, ack: 4000)
        fixture.progress(Self.flow, AdoptionProgress(state: .refused, isAdopted: true, acknowledged: 4700))
        #expect(fixture.resets.map(\.frame.sequence) == [SequenceNumber(9701)])
        #expect(fixture.resets.first?.frame.acknowledgment == SequenceNumber(1081))
    }

    // MARK: Ends

    /// What the local application goes on sending must not leave once the data plane has forgotten the connection.
    @Test func theLocalSocketIsClosedFirst() throws {
        let fixture = TakeoverFixture()
        fixture.goesLive = false
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.send([.ack], at: 80, ack: 4000)
        fixture.progress(Self.flow, AdoptionProgress(state: .refused, isAdopted: true))
        #expect(Array(fixture.order.suffix(3)) == ["inject", "uninstall", "rst"])
        let last = try #require(fixture.injected.last)
        #expect(last.frame.flags == [.rst])
        #expect(last.frame.sequence == SequenceNumber(1081), "the socket's RCV.NXT")
        #expect(last.frame.flow == Self.flow)
    }

    /// The socket has acknowledged less than it was given: one of the two numbers is its RCV.NXT.
    @Test func theLocalSocketIsClosedWhereverItStands() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<20_000))
        fixture.start()
        fixture.dropsInjected = { $0.sequence.distance(from: SequenceNumber(1001)) > 0 }
        fixture.send([.ack], at: 20_000, ack: 4000)
        fixture.progress(
            Self.flow,
            AdoptionProgress(state: .refused, isAdopted: true, localAck: SequenceNumber(1001 + 8192))
        )
        let resets = fixture.injected.filter { $0.frame.flags == [.rst] }
        #expect(resets.map(\.frame.sequence) == [SequenceNumber(1001 + 8192), SequenceNumber(1001 + 20_000)])
    }

    /// A client that leaves in the middle of the replay leaves nothing behind, neither a socket nor an entry.
    @Test func aClientThatLeavesDuringTheReplay() {
        let fixture = TakeoverFixture()
        fixture.goesLive = false
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.send([.ack], at: 80, ack: 4000)
        fixture.send([.rst], at: 80)
        #expect(fixture.entries.isEmpty)
        #expect(fixture.injected.last?.frame.flags == [.rst])
        #expect(fixture.resets.isEmpty)
        #expect(fixture.isFinished)
    }

    /// The protection is lost while the local kernel does not take the adoption: nothing of the journal may go in.
    @Test func protectionThatIsLostDuringTheAdoption() {
        let fixture = TakeoverFixture()
        fixture.accepts = false
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.send([.ack], at: 80, ack: 4000)
        fixture.send([.ack], at: 70, ack: 4000, [9, 9, 9])
        fixture.accepts = true
        fixture.run(.milliseconds(20))
        #expect(fixture.machine.figures.resets(.conflictingBytes) == 1)
        #expect(fixture.machine.figures.adopted == 0)
        #expect(fixture.entries.isEmpty)
    }

    /// A server under a flood answers with SYN cookies; without timestamps they carry no options at all.
    @Test func aConnectionOfASYNCookie() {
        let fixture = TakeoverFixture()
        fixture.send([.syn], timestamps: TCPTimestamps(value: 90, echo: 0), handshake: TakeoverFixture.offered)
        fixture.send([.ack], timestamps: nil)
        fixture.start()
        fixture.send([.ack], ack: 5, timestamps: nil)
        #expect(fixture.machine.figures.resets(.optionUnsupported) == 1)
        #expect(fixture.resets.first?.frame.sequence == SequenceNumber(5006))
        #expect(fixture.entries.isEmpty)
    }

    /// A forged SYN during the take-over neither stops it nor leaves the client without a word.
    @Test func aForgedSYNStopsNothing() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.sendRaw([.syn], sequence: 0x7777_0000)
        fixture.send([.ack], at: 80, ack: 4000)
        #expect(fixture.machine.figures.live == 1)
        #expect(fixture.isFinished)
    }
}

/// A backup that has to guess the ISS.
struct GuessedISSTests {
    private func greeted() -> TakeoverFixture {
        let fixture = TakeoverFixture()
        fixture.ownerTells = false
        fixture.send([.syn], timestamps: TCPTimestamps(value: 90, echo: 0), handshake: TakeoverFixture.offered)
        // The ACK of the handshake was lost; this is of the greeting.
        fixture.send([.ack], ack: 17)
        fixture.send([.ack, .psh], ack: 17, Array("one\n".utf8))
        return fixture
    }

    /// What it would replay, the client would get a second time.
    @Test func isReset() throws {
        let fixture = greeted()
        fixture.start()
        fixture.send([.ack], at: 4, ack: 23)
        #expect(fixture.entries.isEmpty && fixture.injected.isEmpty)
        #expect(fixture.machine.figures.resets(.handshakeUnknown) == 1)
        let reset = try #require(fixture.resets.first?.frame)
        #expect(reset.sequence == SequenceNumber(fixture.iss).advanced(by: 24), "the client obeys it")
    }

    /// The word came in time.
    @Test func isAdoptedWhenItIsCertain() throws {
        let fixture = greeted()
        fixture.start()
        fixture.tracker.announced(
            TakeoverFixture.flow(), iss: SequenceNumber(fixture.iss),
            acknowledged: SequenceNumber(fixture.irs).advanced(by: 1))
        fixture.send([.ack], at: 4, ack: 23)
        #expect(fixture.resets.isEmpty)
        let entry = try #require(fixture.entries[TakeoverFixture.flow()])
        #expect(entry.iss == SequenceNumber(fixture.iss) && entry.sndUna == 23)
        #expect(fixture.sockets[TakeoverFixture.flow()]?.received == Array("one\n".utf8))
    }
}
