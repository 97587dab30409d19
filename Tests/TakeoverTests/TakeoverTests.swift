import Model
import Takeover
import Testing
import Tracking
import Wire

struct TakeoverTests {
    // MARK: Probe

    @Test func probesWithAKeepalive() throws {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        fixture.send([.ack], at: 80, ack: 4000, timestamps: TCPTimestamps(value: 95, echo: 8500))
        fixture.start()
        let probe = try #require(fixture.probes.first)
        #expect(probe.frame.flow == FlowKey(client: TakeoverFixture.service, service: TakeoverFixture.flow().client))
        #expect(probe.frame.sequence == SequenceNumber(5001 + 4000 - 1))
        #expect(probe.frame.acknowledgment == SequenceNumber(1081))
        #expect(probe.frame.flags == [.ack])
        #expect(probe.payload == [0])
        #expect(probe.frame.timestamps == TCPTimestamps(value: 8500, echo: 95))
        // 64 KiB as the server's scale of 7 tells them: a window of 0 would stop the client.
        #expect(probe.frame.window == 511)
        #expect(!fixture.isSettled)
    }

    @Test func probesWithoutTimestamps() throws {
        let fixture = TakeoverFixture()
        fixture.connect([], HandshakeOptions(mss: 1000))
        fixture.start()
        let probe = try #require(fixture.probes.first)
        #expect(probe.frame.timestamps == nil)
        #expect(probe.frame.window == 65_535)
    }

    @Test func silenceIsProbedAgainAndGivenUp() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        let begun = fixture.now
        fixture.start()
        fixture.run(.milliseconds(4999))
        let times = fixture.probes.map { ($0.at - begun).nanoseconds / 1_000_000 }
        #expect(Array(times.prefix(8)) == [0, 20, 60, 140, 300, 620, 1120, 1620])
        #expect(fixture.resets.isEmpty)
        fixture.run(.seconds(1))
        #expect(fixture.machine.figures.resets(.probeUnanswered) == 1)
        #expect(fixture.resets.first?.frame.sequence == SequenceNumber(5001))
        #expect(fixture.isSettled)
        fixture.run(.seconds(1))
        #expect(fixture.isFinished)
    }

    @Test func anEmptySlotIsFinishedAtOnce() {
        let fixture = TakeoverFixture()
        fixture.start()
        #expect(fixture.isSettled && fixture.isFinished)
        #expect(fixture.nextTick == nil)
    }

    @Test func aRSTEndsItWithoutAnother() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.send([.rst], at: 80)
        #expect(fixture.machine.figures.resets(.clientGone) == 1)
        #expect(fixture.resets.isEmpty)
        #expect(fixture.isSettled && fixture.isFinished)
    }

    /// An in-window RST at the wrong place ends nothing; the client goes on being probed.
    @Test func aRSTThatNobodyObeysIsNoAnswer() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.send([.rst], at: 300)
        #expect(!fixture.isSettled)
        fixture.run(.milliseconds(100))
        #expect(fixture.probes.count == 3)
    }

    @Test func anOldACKIsNoAnswer() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        fixture.send([.ack], at: 80, ack: 4000)
        fixture.start()
        fixture.send([.ack], at: 80, ack: 3999)
        #expect(fixture.entries.isEmpty)
        fixture.send([.ack], at: 80, ack: 4100)
        #expect(fixture.entries[TakeoverFixture.flow()]?.sndUna == 4100)
    }

    @Test func aPortThatIsUsedAgainIsAnotherConnection() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.sendRaw([.syn], sequence: 9)
        fixture.tracker.announced(
            TakeoverFixture.flow(), iss: SequenceNumber(19), acknowledged: SequenceNumber(10))
        #expect(!fixture.isSettled, "it may be a stray one")
        for _ in 0..<3 {
            #expect(fixture.entries.isEmpty, "it may be forged")
            fixture.sendRaw([.ack], sequence: 10, acknowledgment: 20)
        }
        #expect(fixture.resets.isEmpty)
        #expect(fixture.entries[TakeoverFixture.flow()]?.irs == SequenceNumber(9))
        #expect(fixture.machine.figures.connections == 1 && fixture.machine.figures.adopted == 1)
    }

    /// The client has the dead server's SYN-ACK, but its ACK comes only now.
    @Test func aHandshakeThatFinishesMeanwhileIsTakenIn() {
        let fixture = TakeoverFixture()
        fixture.connect(port: 1, pattern(0..<80))
        fixture.send([.syn], port: 2, handshake: TakeoverFixture.offered)
        fixture.start()
        #expect(fixture.machine.figures.connections == 1)
        fixture.send([.ack], pattern(0..<50), port: 2)
        #expect(fixture.machine.figures.connections == 2)
        #expect(fixture.sockets[TakeoverFixture.flow(2)]?.received == pattern(0..<50))
        fixture.send([.ack], at: 80, port: 1)
        #expect(fixture.isSettled && fixture.isFinished)
        #expect(fixture.machine.figures.live == 2)
    }

    // MARK: Resets

    struct Loss: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var cause: ResetCause
        var replay = ReplayPolicy.stream
        var offered = TakeoverFixture.offered
        var prepare: @Sendable (TakeoverFixture) -> Void = { _ in }
    }

    static let losses: [Loss] = [
        Loss(testDescription: "policy", cause: .replayForbidden, replay: .none),
        Loss(testDescription: "MSS", cause: .optionUnsupported, offered: HandshakeOptions(mss: 535)),
        Loss(testDescription: "conflict", cause: .conflictingBytes, prepare: { $0.send([.ack], at: 50, [9, 9, 9]) }),
        Loss(
            testDescription: "gaps",
            cause: .journalHole,
            prepare: { fixture in for at in 0..<70 { fixture.send([.ack], at: 100 + 10 * at, [1]) } }
        ),
    ]

    @Test(arguments: losses)
    func whatCannotBeServedIsResetAtTheAnswer(loss: Loss) throws {
        let fixture = TakeoverFixture(replay: loss.replay)
        fixture.connect(pattern(0..<80), loss.offered)
        loss.prepare(fixture)
        fixture.start()
        #expect(fixture.resets.isEmpty)
        fixture.send([.ack], at: 80, ack: 777)
        let reset = try #require(fixture.resets.first)
        #expect(reset.frame.sequence == SequenceNumber(5001 + 777))
        #expect(reset.at == fixture.now)
        #expect(fixture.machine.figures.resets(loss.cause) == 1)
        #expect(fixture.isSettled)
        #expect(fixture.entries.isEmpty && fixture.injected.isEmpty)
        #expect(!fixture.isFinished)
        // It may be lost: twice more, then the rest is the kernel's.
        fixture.run(.seconds(1))
        #expect(fixture.resets.count == 3)
        #expect(fixture.isFinished)
        #expect(fixture.tracker.count == 0)
        #expect(fixture.machine.figures.resets.reduce(0, +) == 1)
    }

    /// A client that has more than its answer said refuses the RST and says so (RFC 5961 3.2).
    @Test func aClientThatGoesOnIsResetAgain() {
        let fixture = TakeoverFixture(replay: .none)
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.send([.ack], at: 80, ack: 700)
        fixture.send([.ack], at: 80, ack: 900)
        #expect(fixture.resets.map(\.frame.sequence) == [SequenceNumber(5701), SequenceNumber(5901)])
        fixture.send([.rst], at: 80)
        #expect(fixture.isFinished)
        #expect(fixture.resets.count == 2)
        #expect(fixture.machine.figures.resets.reduce(0, +) == 1)
    }

    // MARK: Adoption

    @Test func adoptsWithWhatBothSidesHaveAgreedOn() throws {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.now = fixture.now + .milliseconds(7)
        fixture.send([.ack], at: 80, ack: 4000, window: 300, timestamps: TCPTimestamps(value: 99, echo: 8800))
        let entry = try #require(fixture.entries[TakeoverFixture.flow()])
        #expect(entry.slot == TakeoverFixture.slot)
        #expect(entry.irs == SequenceNumber(1000))
        #expect(entry.iss == SequenceNumber(5000))
        #expect(entry.sndUna == 4000)
        #expect(entry.rightEdge == 4000 + 300 * 16)
        #expect(entry.timestamps == TCPTimestamps(value: 99, echo: 8800 + 300))
        #expect(entry.sackPermitted)
        #expect(entry.clientWindowScale == 4)
        #expect(entry.serverWindowScale == 7)
        #expect(entry.mss == 1460)
        let ack = try #require(fixture.injected.first)
        #expect(ack.frame.flow == TakeoverFixture.flow())
        #expect(ack.frame.sequence == SequenceNumber(1001))
        #expect(ack.frame.acknowledgment == SequenceNumber(5001))
        #expect(ack.frame.flags == [.ack])
        #expect(ack.frame.window == (4000 + 4800) / 16)
        #expect(ack.frame.timestamps == entry.timestamps)
        #expect(ack.payload.isEmpty)
        #expect(fixture.order.drop { $0 != "install" } == ["install", "inject", "inject"])
        #expect(fixture.sockets[TakeoverFixture.flow()]?.received == pattern(0..<80))
        #expect(fixture.isSettled && fixture.isFinished)
        let figures = fixture.machine.figures
        #expect(figures.adopted == 1 && figures.live == 1)
        #expect(figures.response == [7_000_000])
        #expect(figures.reconstruction == [0])
    }

    struct Agreement: Sendable {
        var client: HandshakeOptions
        var server: HandshakeOptions
    }

    static let agreements: [Agreement] = [
        Agreement(client: HandshakeOptions(mss: 1400), server: HandshakeOptions(windowScale: 7, sackPermitted: true)),
        Agreement(client: HandshakeOptions(mss: 1400, windowScale: 3, sackPermitted: true), server: HandshakeOptions()),
    ]

    /// What only one side announced does not hold.
    @Test(arguments: agreements)
    func optionsOfOneSideDoNotHold(agreement: Agreement) throws {
        let fixture = TakeoverFixture(server: agreement.server)
        fixture.connect(pattern(0..<10), agreement.client)
        fixture.start()
        fixture.send([.ack], at: 10, ack: 5, window: 300, timestamps: nil)
        let entry = try #require(fixture.entries[TakeoverFixture.flow()])
        #expect(entry.clientWindowScale == nil && entry.serverWindowScale == nil)
        #expect(!entry.sackPermitted)
        #expect(entry.timestamps == nil)
        #expect(entry.rightEdge == 305)
        // Room for two segments beyond what the client has.
        #expect(fixture.injected.first?.frame.window == 2805)
    }

    /// A server that does timestamps refused them for this connection: the client's segments have none.
    @Test func timestampsHoldOnlyWhereTheClientUsesThem() throws {
        let fixture = TakeoverFixture()
        let offered = HandshakeOptions(mss: 1460, sackPermitted: true, timestamps: true)
        fixture.send([.syn], timestamps: TCPTimestamps(value: 90, echo: 0), handshake: offered)
        fixture.send([.ack], timestamps: nil)
        fixture.start()
        fixture.send([.ack], timestamps: nil)
        #expect(try #require(fixture.entries[TakeoverFixture.flow()]).timestamps == nil)
    }

    @Test func anIdleConnectionIsAdoptedToo() {
        let fixture = TakeoverFixture()
        fixture.connect()
        fixture.start()
        fixture.send([.ack])
        #expect(fixture.injected.count == 2)
        #expect(fixture.machine.figures.adopted == 1)
        #expect(fixture.isFinished)
    }

    @Test func anAdoptionThatIsNotTakenIsTriedAgainAndGivenUp() throws {
        let fixture = TakeoverFixture()
        fixture.accepts = false
        fixture.connect(pattern(0..<80))
        fixture.start()
        let begun = fixture.now
        fixture.send([.ack], at: 80, ack: 10)
        fixture.run(.milliseconds(9999))
        let attempts = fixture.injected.filter { $0.payload.isEmpty }.map { ($0.at - begun).nanoseconds / 1_000_000 }
        #expect(Array(attempts.prefix(7)) == [0, 5, 15, 35, 75, 125, 175])
        #expect(fixture.resets.isEmpty && !fixture.isSettled)
        fixture.run(.milliseconds(60))
        #expect(fixture.machine.figures.resets(.adoptionRefused) == 1)
        #expect(fixture.machine.figures.adopted == 0)
        #expect(Array(fixture.order.suffix(2)) == ["uninstall", "rst"])
        #expect(fixture.resets.first?.frame.sequence == SequenceNumber(5011))
        #expect(fixture.isSettled)
    }

    @Test func aFullBacklogIsWaitedFor() {
        let fixture = TakeoverFixture()
        fixture.accepts = false
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.send([.ack], at: 80, ack: 10)
        fixture.run(.milliseconds(300))
        fixture.accepts = true
        fixture.run(.milliseconds(60))
        #expect(fixture.machine.figures.live == 1)
        #expect(fixture.sockets[TakeoverFixture.flow()]?.received == pattern(0..<80))
    }

    @Test func anEntryThatIsMissingIsInstalledAgain() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        fixture.dropsInjected = { _ in true }
        fixture.start()
        fixture.send([.ack], at: 80, ack: 10)
        fixture.entries = [:]
        fixture.dropsInjected = { _ in false }
        fixture.run(.milliseconds(40))
        #expect(fixture.machine.figures.live == 1)
    }

    @Test func adoptionsArePaced() {
        var parameters = TakeoverParameters()
        parameters.adoptionsInFlight = 16
        let fixture = TakeoverFixture(parameters: parameters)
        fixture.accepts = false
        for port in 1...100 { fixture.connect(port: UInt16(port), pattern(0..<80)) }
        fixture.start()
        for port in 1...100 { fixture.send([.ack], at: 80, port: UInt16(port)) }
        #expect(fixture.entries.count == 16)
        fixture.accepts = true
        fixture.run(.milliseconds(20))
        #expect(fixture.mostInFlight <= 16)
        #expect(fixture.machine.figures.live == 100)
        #expect(fixture.isFinished)
    }

    /// A RST or a new SYN in the middle of an adoption gives its place to the next.
    @Test func aClientThatLeavesMakesRoom() {
        var parameters = TakeoverParameters()
        parameters.adoptionsInFlight = 1
        let fixture = TakeoverFixture(parameters: parameters)
        fixture.accepts = false
        fixture.connect(port: 1, pattern(0..<80))
        fixture.connect(port: 2, pattern(0..<80))
        fixture.start()
        fixture.send([.ack], at: 80, port: 1)
        fixture.send([.ack], at: 80, port: 2)
        #expect(Set(fixture.entries.keys) == [TakeoverFixture.flow(1)])
        fixture.accepts = true
        fixture.send([.rst], at: 80, port: 1)
        #expect(Set(fixture.entries.keys) == [TakeoverFixture.flow(2)])
        #expect(fixture.machine.figures.resets(.clientGone) == 1)
        #expect(fixture.machine.figures.live == 1)
        #expect(fixture.isFinished)
    }

    // MARK: Catch-up

    @Test func aShorterReplyIsReset() {
        let fixture = TakeoverFixture()
        fixture.goesLive = false
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.send([.ack], at: 80, ack: 4000)
        #expect(fixture.isSettled && !fixture.isFinished)
        fixture.progress(TakeoverFixture.flow(), AdoptionProgress(state: .refused, isAdopted: true))
        #expect(fixture.machine.figures.resets(.replyShorter) == 1)
        #expect(Array(fixture.order.suffix(2)) == ["uninstall", "rst"])
        #expect(fixture.resets.first?.frame.sequence == SequenceNumber(9001))
    }

    @Test(arguments: [false, true])
    func aSocketThatCloses(isLive: Bool) {
        let fixture = TakeoverFixture()
        fixture.goesLive = false
        fixture.connect(pattern(0..<80))
        fixture.send([.ack], at: 90, pattern(90..<100))
        fixture.start()
        fixture.send([.ack], at: 100, ack: 4000)
        if isLive { fixture.progress(TakeoverFixture.flow(), AdoptionProgress(state: .live, isAdopted: true)) }
        fixture.progress(TakeoverFixture.flow(), AdoptionProgress(state: .gone, isAdopted: true))
        #expect(fixture.machine.figures.resets(.replyShorter) == (isLive ? 0 : 1))
        #expect(fixture.resets.isEmpty == isLive)
        #expect(fixture.isFinished == isLive)
    }

    @Test func aSilentApplicationIsGivenUp() {
        let fixture = TakeoverFixture()
        fixture.goesLive = false
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.send([.ack], at: 80, ack: 4000)
        fixture.run(.seconds(29))
        #expect(fixture.resets.isEmpty)
        // It sends something: the time begins again.
        fixture.sockets[TakeoverFixture.flow()]?.sent = 100
        fixture.run(.seconds(20))
        #expect(fixture.resets.isEmpty)
        fixture.run(.seconds(12))
        #expect(fixture.machine.figures.resets(.replyShorter) == 1)
    }

    @Test func aSlowApplicationIsWatchedRarely() {
        let fixture = TakeoverFixture()
        fixture.goesLive = false
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.send([.ack], at: 80, ack: 4000)
        let before = fixture.injected.count
        fixture.run(.seconds(10))
        #expect(fixture.injected.count == before)
        fixture.goesLive = true
        fixture.observe(TakeoverFixture.flow())
        #expect(fixture.isFinished)
        fixture.tick()
        #expect(fixture.nextTick == nil)
    }
}
