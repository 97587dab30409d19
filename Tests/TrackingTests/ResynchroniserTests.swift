import Model
import Testing
import Tracking
import Wire

/// An owner's tracker and a backup's, with the messages between them.
struct ResynchroniserTests {
    private final class Pair {
        static let peer = BackendID(rawValue: 7)
        let owner: TrackingFixture
        let backup: TrackingFixture
        var machine = Resynchroniser()
        var synchronised: Interval?
        var messages = 0
        var longestAnswer = 0
        /// Called with each answer before the backup gets it.
        var meanwhile: () -> Void = {}

        init(_ configure: (inout TrackerParameters) -> Void = { _ in }) {
            owner = TrackingFixture(configure)
            backup = TrackingFixture(configure)
            owner.tracker.learn(
                ServiceHandshake(service: TrackingFixture.service, options: HandshakeOptions(mss: 1460)),
                slot: TrackingFixture.slot)
        }

        func begin() {
            let source = SlotSource(
                slot: TrackingFixture.slot, owner: Pair.peer, ownerLife: Life(rawValue: 1), address: IPAddress(ipv4: 9))
            machine.setSources([source], now: now)
            machine.setConnected(Pair.peer, true, now: now)
        }

        var now: Instant { backup.now }

        /// Lets time pass; answers come at once.
        func run(_ interval: Interval) {
            let end = now + interval
            while now <= end {
                var effects: [ResynchronisationEffect] = []
                machine.tick(tracker: &backup.tracker, now: now, into: &effects)
                perform(effects)
                backup.now = backup.now + .milliseconds(10)
                owner.now = backup.now
            }
        }

        private func perform(_ first: [ResynchronisationEffect]) {
            var effects = first[...]
            while let effect = effects.popFirst() {
                switch effect {
                case .synchronised(_, let after): synchronised = after
                case .send(let message, _):
                    messages += 1
                    let request = try? PeerMessage(decoding: message.encodeBody())
                    guard let request, let answer = owner.tracker.answer(request, now: owner.now) else {
                        Issue.record("no answer to \(message)")
                        continue
                    }
                    let bytes = answer.encodeBody()
                    longestAnswer = max(longestAnswer, bytes.count)
                    meanwhile()
                    guard let read = try? PeerMessage(decoding: bytes) else {
                        Issue.record("an answer that does not decode")
                        continue
                    }
                    var further: [ResynchronisationEffect] = []
                    machine.received(read, from: Pair.peer, tracker: &backup.tracker, now: now, into: &further)
                    backup.tracker.checkInvariants()
                    effects += further
                }
            }
        }

        func protection() -> SlotProtection? { machine.protection(backup.tracker).first }
    }

    @Test func aNewBackupGetsEverything() throws {
        let pair = Pair { $0.connections = 1000 }
        for port in 1...600 as ClosedRange<UInt16> {
            pair.owner.connect(port: port)
            pair.owner.send([.ack, .psh], at: 0, ack: Int(port), pattern(0..<Int(port)), port: port)
        }
        for start in stride(from: 600, to: 300_600, by: 30_000) {
            pair.owner.send([.ack], at: start, ack: 600, pattern(start..<start + 30_000), port: 600)
        }
        pair.begin()
        #expect(pair.protection()?.phase == .copying)
        pair.run(.milliseconds(500))
        #expect(pair.synchronised != nil)
        #expect(pair.longestAnswer < 300_000)
        for port in 1...599 as ClosedRange<UInt16> {
            #expect(pair.backup.journal(port) == pattern(0..<Int(port)))
            #expect(try pair.backup.connection(port).isProtected)
        }
        let protection = pair.protection()
        #expect(protection?.phase == .synchronised && protection?.protected == protection?.connections)
        #expect(protection?.connections == 600 && protection?.missing == 0)
    }

    /// What the owner held beyond a gap came before the new tap; the gap is closed in front of both.
    @Test func nothingIsSaidToBeThereThatMayBeMissing() throws {
        let pair = Pair()
        pair.owner.connect()
        pair.owner.send([.ack], at: 1000, ack: 0, pattern(1000..<1200))
        pair.begin()
        pair.run(.zero)
        #expect(try pair.backup.connection().journalLength == 0)
        for tap in [pair.owner, pair.backup] { tap.send([.ack], at: 0, ack: 0, pattern(0..<1000)) }
        for _ in 0..<20 where pair.synchronised == nil { pair.run(.zero) }
        #expect(pair.synchronised != nil)
        #expect(pair.backup.journal() == pattern(0..<1200))
    }

    /// The owner has taken the slot over, and nobody else lives who knows how the connections were made.
    @Test func aNewBackupLearnsHowTheConnectionsWereMade() throws {
        let pair = Pair()
        let slot = TrackingFixture.slot
        let said = ServiceHandshake(
            service: TrackingFixture.service, options: HandshakeOptions(mss: 1448, windowScale: 7, timestamps: true))
        pair.owner.connect()
        pair.owner.tracker.learn(said, slot: slot)
        pair.begin()
        #expect(pair.backup.tracker.handshake(of: said.service, slot: slot) == nil)
        pair.run(.milliseconds(500))
        #expect(pair.backup.tracker.handshake(of: said.service, slot: slot) == said.options)
        pair.backup.tracker.drop(slot: slot)
        #expect(pair.backup.tracker.handshake(of: said.service, slot: slot) == nil)
    }

    /// What the server itself says comes first, whatever its successor remembers.
    @Test func theServersOwnWordIsKept() throws {
        let pair = Pair()
        let slot = TrackingFixture.slot
        let service = TrackingFixture.service
        let own = HandshakeOptions(mss: 1460, windowScale: 9)
        pair.owner.connect()
        pair.owner.tracker.learn(ServiceHandshake(service: service, options: HandshakeOptions(mss: 536)), slot: slot)
        pair.backup.tracker.learn(ServiceHandshake(service: service, options: own), slot: slot)
        pair.begin()
        pair.run(.milliseconds(500))
        #expect(pair.backup.tracker.handshake(of: service, slot: slot) == own)
    }

    @Test func aLongJournalComesInPieces() throws {
        let pair = Pair()
        pair.owner.connect()
        for start in stride(from: 0, to: 3_000_000, by: 30_000) {
            pair.owner.send([.ack], at: start, pattern(start..<start + 30_000))
        }
        pair.begin()
        pair.run(.milliseconds(100))
        let isWhole = pair.backup.journal() == pattern(0..<3_000_000)
        #expect(isWhole)
        #expect(pair.longestAnswer <= PeerLimits.bytes + 1000)
    }

    @Test func framesThatArriveMeanwhileAreNotMissing() throws {
        let pair = Pair()
        pair.owner.connect()
        pair.owner.send([.ack], at: 0, ack: 10, pattern(0..<1000))
        var at = 1000
        // Each answer is overtaken by a frame, which both taps see, before the backup knows the connection.
        pair.meanwhile = {
            guard at < 5000 else { return }
            for fixture in [pair.owner, pair.backup] { fixture.send([.ack], at: at, ack: at, pattern(at..<at + 500)) }
            at += 500
        }
        pair.begin()
        pair.run(.seconds(3))
        let isWhole = pair.backup.journal() == pattern(0..<at)
        #expect(isWhole && at > 2000)
        let connection = try pair.backup.connection()
        #expect(connection.isProtected && connection.sndUna == UInt64(at - 500))
    }

    @Test func aLostRequestIsFoundThoughTheClientIsSilentAfterwards() throws {
        let pair = Pair()
        for fixture in [pair.owner, pair.backup] { fixture.connect() }
        pair.begin()
        pair.run(.seconds(2))
        pair.owner.send([.ack], at: 0, ack: 0, pattern(0..<300))
        pair.run(.milliseconds(2500))
        #expect(pair.backup.journal() == pattern(0..<300))
        #expect(pair.backup.tracker.counters.copiedBytes == 300)
    }

    @Test func aLostFrameOfAnUploadIsFetched() throws {
        let pair = Pair()
        for fixture in [pair.owner, pair.backup] { fixture.connect() }
        pair.begin()
        pair.run(.seconds(2))
        for start in stride(from: 0, to: 9000, by: 1000) {
            pair.owner.send([.ack], at: start, pattern(start..<start + 1000))
            if ![2000, 3000, 6000].contains(start) { pair.backup.send([.ack], at: start, pattern(start..<start + 1000)) }
        }
        let before = pair.now
        pair.run(.milliseconds(300))
        #expect(pair.backup.journal() == pattern(0..<9000))
        #expect(pair.backup.tracker.counters.copiedBytes == 3000, "only what was missing")
        #expect(pair.now - before < .milliseconds(400))
    }

    @Test func aTapThatLostFramesIsComparedAtOnce() throws {
        let pair = Pair()
        pair.begin()
        pair.run(.seconds(2))
        pair.owner.connect()
        pair.owner.send([.ack], at: 0, ack: 0, pattern(0..<300))
        pair.machine.tapLost(now: pair.now)
        pair.run(.milliseconds(100))
        #expect(try pair.backup.connection().isProtected)
    }

    @Test func aHoleOfTheOwnersOwnEndsTheProtection() throws {
        let pair = Pair()
        pair.owner.connect()
        pair.owner.send([.ack], at: 500, ack: 0, pattern(500..<600))
        pair.begin()
        pair.run(.seconds(4))
        #expect(try pair.backup.connection().unprotected == nil)
        #expect(pair.protection()?.protected == 0 && pair.protection()?.missing == 1)
        pair.run(.seconds(4))
        #expect(try pair.backup.connection().unprotected == .journalHole)
        #expect(pair.backup.tracker.counters.holesUnfilled == 1)
    }

    @Test func aSilentOwnerAndALostSessionAreAskedAgain() throws {
        let pair = Pair()
        pair.owner.connect()
        pair.begin()
        var effects: [ResynchronisationEffect] = []
        pair.machine.tick(tracker: &pair.backup.tracker, now: pair.now, into: &effects)
        #expect(effects.count == 1)
        pair.machine.tick(tracker: &pair.backup.tracker, now: pair.now, into: &effects)
        #expect(effects.count == 1, "one request at a time")
        pair.machine.setConnected(Pair.peer, false, now: pair.now)
        #expect(pair.protection()?.phase == .waiting)
        pair.machine.tick(tracker: &pair.backup.tracker, now: pair.now, into: &effects)
        #expect(effects.count == 1, "nobody is there")
        pair.machine.setConnected(Pair.peer, true, now: pair.now)
        pair.run(.milliseconds(200))
        #expect(try pair.backup.connection().isProtected)
    }

    @Test func refusedIsAskedAgainLater() {
        let pair = Pair()
        pair.begin()
        var effects: [ResynchronisationEffect] = []
        pair.machine.tick(tracker: &pair.backup.tracker, now: pair.now, into: &effects)
        guard case .send(.list(let request), _) = effects.first else {
            Issue.record("no list was asked for")
            return
        }
        let refusal = PeerRefusal(slot: request.slot, serial: request.serial, reason: .notOurs)
        effects = []
        pair.machine.received(
            .refused(refusal), from: Pair.peer, tracker: &pair.backup.tracker, now: pair.now, into: &effects)
        #expect(effects.isEmpty)
        pair.run(.milliseconds(300))
        #expect(pair.synchronised != nil)
    }

    @Test func answersThatNobodyAskedForAreIgnored() throws {
        let pair = Pair()
        pair.owner.connect()
        pair.begin()
        let want = FetchRequest.Want(
            flow: TrackingFixture.flow(), irs: SequenceNumber(1000), from: 0, upTo: 1)
        let request = FetchRequest(slot: TrackingFixture.slot, serial: 99, wants: [want])
        let made = pair.owner.tracker.answer(.fetch(request), now: pair.now)
        let answer = try #require(made)
        var effects: [ResynchronisationEffect] = []
        for sender in [Pair.peer, BackendID(rawValue: 8)] {
            pair.machine.received(answer, from: sender, tracker: &pair.backup.tracker, now: pair.now, into: &effects)
        }
        #expect(pair.backup.tracker.count == 0 && effects.isEmpty)
    }

    /// Clients that send, in order or not, close, reset and come again, while the backup's tap loses frames and joins
    /// late; in the end the backup has what the owner has.
    @Test(arguments: 0..<40)
    func withAnyLossesBothAgreeInTheEnd(seed: Int) throws {
        var random = SeededGenerator(seed: UInt64(seed))
        let pair = Pair()
        let join = Int.random(in: 0..<200, using: &random)
        let loss = Int.random(in: 0...30, using: &random)
        var sent = [Int](repeating: 0, count: 8)
        for port in 1..<8 as Range<UInt16> { pair.owner.connect(port: port) }
        for round in 0..<300 {
            if round == join { pair.begin() }
            let port = UInt16.random(in: 1..<8, using: &random)
            let length = Int.random(in: 1...3000, using: &random)
            let start = sent[Int(port)]
            let isSwapped = Int.random(in: 0..<4, using: &random) == 0
            var frames = [start..<start + length]
            if isSwapped { frames.insert(start + length..<start + 2 * length, at: 0) }
            sent[Int(port)] = frames.map(\.upperBound).max() ?? start
            for frame in frames {
                pair.owner.send([.ack], at: frame.lowerBound, ack: start, pattern(frame), port: port)
                if round >= join, Int.random(in: 0..<100, using: &random) >= loss {
                    pair.backup.send([.ack], at: frame.lowerBound, ack: start, pattern(frame), port: port)
                }
            }
            if round % 10 == 0 { pair.run(.milliseconds(Int64.random(in: 10...60, using: &random))) }
        }
        pair.run(.seconds(4))
        for port in 1..<8 as Range<UInt16> {
            #expect(try pair.backup.connection(port).isProtected)
            let isWhole = pair.backup.journal(port) == pattern(0..<sent[Int(port)])
            #expect(isWhole)
            #expect(try pair.backup.connection(port).sndUna == pair.owner.connection(port).sndUna)
        }
        #expect(pair.synchronised != nil)
    }
}
