import Model
import Takeover
import Testing
import Tracking
import Wire

struct ReplayTests {
    /// Whether the socket holds exactly these first bytes of the client.
    private func holds(_ fixture: TakeoverFixture, _ bytes: Int) -> Bool {
        fixture.sockets[TakeoverFixture.flow()]?.received == pattern(0..<bytes)
    }

    private func adopted(_ fixture: TakeoverFixture, _ bytes: Int, ack: Int = 0, port: UInt16 = 40_000) {
        fixture.connect(port: port, pattern(0..<bytes))
        fixture.start()
        fixture.send([.ack], at: bytes, ack: ack, port: port)
    }

    @Test(arguments: [1, 8192, 8193, 32_768, 32_769, 300_000])
    func aJournalOfAnyLengthArrives(bytes: Int) {
        let fixture = TakeoverFixture(irs: 0xffff_f000, iss: 0xffff_ffff)
        adopted(fixture, bytes, ack: 100)
        fixture.run(.seconds(1))
        #expect(holds(fixture, bytes))
        #expect(fixture.outsideWindow == 0)
        #expect(fixture.machine.figures.live == 1)
        #expect(fixture.isFinished)
        let last = fixture.injected.last { !$0.payload.isEmpty }
        #expect(last?.frame.flags == [.ack, .psh])
        #expect(fixture.injected.allSatisfy { $0.payload.count <= 8192 })
        // Nothing twice.
        #expect(fixture.injected.reduce(0) { $0 + $1.payload.count } == bytes)
    }

    @Test func theWindowIsRespected() {
        let fixture = TakeoverFixture()
        fixture.applicationReads = false
        adopted(fixture, 200_000)
        fixture.run(.seconds(1))
        // One byte at a time asks whether it has opened.
        #expect(fixture.sockets[TakeoverFixture.flow()]?.received.count == 65_536)
        #expect(
            fixture.injected.allSatisfy {
                $0.payload.count == 1 || $0.frame.end.distance(from: SequenceNumber(1001)) <= 65_536
            }
        )
        #expect(!fixture.isFinished)
        fixture.applicationReads = true
        fixture.run(.seconds(3))
        #expect(holds(fixture, 200_000))
        #expect(fixture.isFinished)
    }

    /// An application that does not read is never given up, however long it takes.
    @Test func aShutWindowIsWaitedFor() {
        let fixture = TakeoverFixture()
        fixture.applicationReads = false
        adopted(fixture, 100_000)
        fixture.run(.seconds(120))
        #expect(fixture.resets.isEmpty)
        #expect(fixture.injected.count < 400)
    }

    @Test func segmentsAcknowledgeWhatTheSocketHasSent() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<100_000))
        fixture.start()
        fixture.dropsInjected = { $0.sequence.distance(from: SequenceNumber(1001)) > 30_000 }
        fixture.send([.ack], at: 100_000, ack: 500_000, window: 1000)
        #expect(fixture.injected.allSatisfy { $0.frame.acknowledgment == SequenceNumber(5001) })
        // The reply has grown meanwhile; an ACK of ISS + 1 would be too old for the kernel.
        fixture.sockets[TakeoverFixture.flow()]?.sent = 400_000
        fixture.dropsInjected = { _ in false }
        fixture.run(.milliseconds(100))
        let last = fixture.injected[fixture.injected.count - 1].frame
        #expect(last.acknowledgment == SequenceNumber(5001 + 400_000))
        #expect(Int(last.window) == (500_000 + 16_000 - 400_000) / 16)
        #expect(holds(fixture, 100_000))
    }

    /// Never above what the client has.
    @Test func segmentsAcknowledgeNoMoreThanTheClient() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<100_000))
        fixture.start()
        fixture.dropsInjected = { $0.sequence.distance(from: SequenceNumber(1001)) > 30_000 }
        fixture.send([.ack], at: 100_000, ack: 500, window: 1000)
        fixture.sockets[TakeoverFixture.flow()]?.sent = 9_000
        fixture.run(.milliseconds(100))
        #expect(fixture.injected.last?.frame.acknowledgment == SequenceNumber(5501))
    }

    @Test(arguments: [0, 10, 40_000])
    func aHalfClosedClientStaysSo(bytes: Int) throws {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<bytes))
        fixture.send([.ack, .fin], at: bytes)
        fixture.start()
        #expect(fixture.probes.first?.frame.acknowledgment == SequenceNumber(1002 + UInt32(bytes)))
        fixture.send([.ack], at: bytes + 1, ack: 20)
        fixture.run(.milliseconds(20))
        let socket = try #require(fixture.sockets[TakeoverFixture.flow()])
        #expect(holds(fixture, bytes))
        #expect(socket.hasFIN)
        #expect(fixture.injected.filter { $0.frame.flags.contains(.fin) }.count == 1)
        #expect(fixture.isFinished)
    }

    @Test func aLostFINIsSentAgain() {
        let fixture = TakeoverFixture()
        fixture.dropsInjected = { $0.flags.contains(.fin) }
        fixture.connect()
        fixture.send([.ack, .fin])
        fixture.start()
        fixture.send([.ack], at: 1, ack: 20)
        #expect(fixture.machine.figures.adopted == 0)
        fixture.dropsInjected = { _ in false }
        fixture.run(.milliseconds(200))
        #expect(fixture.sockets[TakeoverFixture.flow()]?.hasFIN == true)
        #expect(fixture.isFinished)
    }

    @Test func whatIsLostIsSentAgainAfterAWhile() {
        let fixture = TakeoverFixture()
        fixture.dropsInjected = { $0.sequence == SequenceNumber(1001 + 8192) }
        let begun = fixture.now
        adopted(fixture, 30_000)
        #expect(fixture.sockets[TakeoverFixture.flow()]?.received.count == 8192)
        fixture.dropsInjected = { _ in false }
        fixture.run(.milliseconds(49))
        #expect(fixture.sockets[TakeoverFixture.flow()]?.received.count == 8192)
        fixture.run(.milliseconds(40))
        #expect(holds(fixture, 30_000))
        #expect(fixture.isFinished)
        #expect(fixture.now - begun < .milliseconds(100))
    }

    @Test func aSocketThatTakesNothingIsGivenUp() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<100_000))
        fixture.start()
        fixture.dropsInjected = { $0.sequence.distance(from: SequenceNumber(1001)) > 30_000 }
        fixture.send([.ack], at: 100_000, ack: 500)
        fixture.run(.seconds(33))
        #expect(fixture.machine.figures.resets(.adoptionRefused) == 1)
        #expect(fixture.resets.count >= 1)
        // 50 ms, doubled up to a second.
        #expect(fixture.injected.count < 400)
    }

    /// Frames during an adoption reach the tap, but no socket.
    @Test func bytesThatCameDuringTheAdoptionAreFed() {
        let fixture = TakeoverFixture()
        fixture.accepts = false
        adopted(fixture, 100)
        fixture.send([.ack], at: 100, pattern(100..<180))
        fixture.accepts = true
        fixture.run(.milliseconds(60))
        #expect(holds(fixture, 180))
        #expect(fixture.isFinished)
    }

    /// And so do those that the tap handed over only after the socket was found.
    @Test func bytesThatCameLateAreFedWhenItStalls() {
        let fixture = TakeoverFixture()
        fixture.goesLive = false
        adopted(fixture, 100)
        fixture.send([.ack], at: 100, pattern(100..<180))
        #expect(fixture.sockets[TakeoverFixture.flow()]?.received.count == 100)
        fixture.run(.milliseconds(100))
        #expect(holds(fixture, 180))
    }

    /// An upload that goes on is the kernel's, not ours: it must not keep the take-over from ending.
    @Test func anUploadThatGoesOnDoesNotHoldItUp() {
        let fixture = TakeoverFixture()
        fixture.goesLive = false
        adopted(fixture, 100)
        fixture.send([.ack], at: 100, pattern(100..<180))
        fixture.goesLive = true
        fixture.observe(TakeoverFixture.flow())
        #expect(fixture.isFinished)
    }

    // MARK: Holes

    @Test func aHoleThatStaysIsReset() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<100))
        fixture.start()
        // SEQ says that the client has sent 50 bytes more than the tap saw.
        fixture.send([.ack], at: 150, ack: 10)
        #expect(fixture.machine.figures.adopted == 1)
        fixture.run(.milliseconds(4900))
        #expect(fixture.resets.isEmpty)
        fixture.run(.milliseconds(1200))
        #expect(fixture.machine.figures.resets(.journalHole) == 1)
        #expect(fixture.resets.first?.frame.sequence == SequenceNumber(5011))
    }

    /// The tap has waited for it long enough already: it has seen what the client sends while nobody answers, too.
    @Test func anOldHoleIsResetAtOnce() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<100))
        fixture.send([.ack], at: 150, pattern(150..<200))
        fixture.run(.seconds(4))
        // Of two gaps, the second is young.
        fixture.send([.ack], at: 250, pattern(250..<300))
        fixture.send([.ack], at: 100, pattern(100..<150))
        fixture.run(.seconds(4))
        fixture.start()
        fixture.send([.ack], at: 300, ack: 10)
        #expect(fixture.machine.figures.adopted == 1)
        fixture.run(.milliseconds(900))
        #expect(fixture.resets.isEmpty)
        fixture.run(.milliseconds(1200))
        #expect(fixture.machine.figures.resets(.journalHole) == 1)

        let old = TakeoverFixture()
        old.connect(pattern(0..<100))
        old.send([.ack], at: 150, pattern(150..<200))
        old.run(.milliseconds(5100))
        old.start()
        old.send([.ack], at: 200, ack: 10)
        #expect(old.machine.figures.resets(.journalHole) == 1)
        #expect(old.machine.figures.adopted == 0 && old.entries.isEmpty && old.isSettled)
        #expect(old.resets.first?.frame.sequence == SequenceNumber(5011))
    }

    /// What cannot be journalled any more is not there either: the socket waits behind the hole for ever.
    @Test(arguments: [false, true])
    func aHoleStaysOneWithoutProtection(isFilled: Bool) {
        var parameters = TrackerParameters()
        parameters.gapsPerConnection = 2
        let fixture = TakeoverFixture(tracker: parameters)
        fixture.connect(pattern(0..<100))
        fixture.start()
        fixture.send([.ack], at: 150, ack: 10)
        fixture.run(.milliseconds(200))
        // The tap missed it, the socket has it.
        if isFilled { fixture.sockets[TakeoverFixture.flow()]?.received += pattern(100..<150) }
        for place in [200, 300, 400] { fixture.send([.ack], at: place, ack: 10, pattern(place..<place + 50)) }
        fixture.run(.seconds(2))
        #expect(fixture.machine.figures.resets(.journalHole) == (isFilled ? 0 : 1))
        #expect(fixture.isFinished)
    }

    @Test(arguments: [false, true])
    func aHoleThatIsFilledIsNone(byTheTap: Bool) {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<100))
        fixture.start()
        fixture.send([.ack], at: 150, ack: 10)
        fixture.run(.milliseconds(400))
        // The socket gets it in any case; the tap may miss it again.
        if byTheTap { fixture.send([.ack], at: 100, ack: 10, pattern(100..<150)) }
        fixture.sockets[TakeoverFixture.flow()]?.received += pattern(100..<150)
        fixture.run(.seconds(8))
        #expect(fixture.resets.isEmpty)
        #expect(holds(fixture, 150))
        #expect(fixture.isFinished)
    }

    /// The journal outgrew its bound while it was being replayed.
    @Test func protectionThatIsLostMeanwhile() {
        var parameters = TrackerParameters()
        parameters.journalBytesPerConnection = 100_000
        let fixture = TakeoverFixture(tracker: parameters)
        fixture.applicationReads = false
        adopted(fixture, 100_000)
        fixture.run(.milliseconds(100))
        fixture.send([.ack], at: 100_000, [1])
        fixture.run(.seconds(2))
        #expect(fixture.machine.figures.resets(.journalFull) == 1)
        #expect(fixture.resets.count == 3)
        #expect(fixture.isFinished)
    }
}
