import HTTP
import Model
import Testing
import Tracking
import Wire

/// The owner's copy of a connection that is replayed as HTTP: replay point, facts, and the journal from there on.
struct HTTPCopyTests {
    private static let flow = TrackingFixture.flow()
    private static let length = request(0).count

    private static func request(_ number: Int) -> [UInt8] {
        Array("GET /\(String(repeating: "a", count: 480))\(number % 10) HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
    }

    private static func facts(_ length: UInt64 = 900, head: UInt32 = 100, etag: String = "a") -> ReplyFacts {
        ReplyFacts(
            status: 200, headBytes: head, framing: .length(length),
            etag: EntityTag(isWeak: false, value: Array("\"\(etag)\"".utf8)))
    }

    private func fixture(_ configure: (inout TrackerParameters) -> Void = { _ in }) -> TrackingFixture {
        let fixture = TrackingFixture(configure)
        fixture.tracker.setHTTP([TrackingFixture.service])
        return fixture
    }

    /// Request `number` after so many replies of 1000 bytes; the reply to it has begun.
    private func ask(_ number: Int, _ fixtures: TrackingFixture..., facts: ReplyFacts? = Self.facts()) {
        for fixture in fixtures {
            fixture.send([.ack], at: number * Self.length, ack: number * 1000, Self.request(number))
            guard let facts else { continue }
            let sequence = SequenceNumber(5001).advanced(by: number * 1000)
            fixture.tracker.reported(Self.flow, sequence: sequence, facts)
        }
    }

    /// An owner whose client has asked `count` times, and has all replies but the last.
    private func owner(_ count: Int) -> TrackingFixture {
        let owner = fixture()
        owner.connect()
        for number in 0..<count { ask(number, owner) }
        return owner
    }

    /// Through the codec, as it travels.
    private func copy(_ owner: TrackingFixture, from: Int = 0, upTo: Int = 1 << 40, limit: Int = 1 << 20) throws -> ConnectionCopy {
        let want = FetchRequest.Want(
            flow: Self.flow, irs: SequenceNumber(owner.irs), from: UInt64(from), upTo: UInt64(upTo))
        let copy = owner.tracker.copy(want, slot: TrackingFixture.slot, limit: limit, now: owner.now)
        let message = PeerMessage.copies(
            CopyAnswer(slot: TrackingFixture.slot, serial: 1, copies: [try #require(copy)], unknown: []))
        guard case .copies(let answer) = try PeerMessage(decoding: message.encodeBody()) else {
            throw LabelledError(text: "another message came out")
        }
        return try #require(answer.copies.first)
    }

    private struct LabelledError: Error { var text: String }

    private func conversation(_ fixture: TrackingFixture) throws -> Conversation {
        let handle = try #require(fixture.handle())
        let conversation = fixture.tracker.conversation(handle)
        return try #require(conversation)
    }

    private func merge(_ backup: TrackingFixture, _ copy: ConnectionCopy) -> MergeOutcome {
        let outcome = backup.tracker.merge(copy, now: backup.now)
        backup.tracker.checkInvariants()
        return outcome
    }

    private func replay(_ fixture: TrackingFixture) throws -> Replay {
        let connection = try fixture.connection()
        return try conversation(fixture).replay(
            methods: .safe, clientSent: connection.clientSent, received: connection.journalLength)
    }

    @Test(arguments: [1, 2, 3, 50])
    func aNewBackupReplaysWhatTheOwnerWould(_ count: Int) throws {
        let owner = owner(count)
        let backup = fixture()
        #expect(merge(backup, try copy(owner)) == .created)
        #expect(try backup.connection().isProtected)
        #expect(try replay(backup) == replay(owner))
        #expect(try replay(backup).start == UInt64((count - 1) * Self.length))
        #expect(try replay(backup).heads == [Self.facts()])
        #expect(backup.journal().suffix(Self.length) == Self.request(count - 1)[...])
        // Both go on alike: the client has the rest, and asks again.
        for number in count..<count + 3 { ask(number, owner, backup) }
        #expect(try replay(backup) == replay(owner))
        #expect(try replay(backup).replyStart == UInt64((count + 2) * 1000))
        #expect(try !conversation(backup).pipelines)
    }

    @Test func aConnectionBetweenTwoRequests() throws {
        let owner = owner(3)
        owner.send([.ack], at: 3 * Self.length, ack: 3000)
        let backup = fixture()
        #expect(merge(backup, try copy(owner)) == .created)
        #expect(try replay(backup).request == nil)
        #expect(try replay(backup).replyStart == 3000)
        ask(3, owner, backup)
        #expect(try replay(backup) == replay(owner))
    }

    /// What is told of later replies goes with it, and what the client has asked too early switches rule 2 off.
    @Test func aClientThatPipelines() throws {
        let owner = fixture()
        owner.connect()
        owner.send([.ack], at: 0, ack: 0, (0..<3).flatMap { Self.request($0) })
        for number in 0..<3 {
            owner.tracker.reported(Self.flow, sequence: SequenceNumber(5001).advanced(by: 1000 * number), Self.facts())
        }
        owner.send([.ack], at: 3 * Self.length, ack: 400)
        let backup = fixture()
        #expect(merge(backup, try copy(owner)) == .created)
        #expect(try conversation(backup).pipelines)
        #expect(try conversation(backup).requests.count == 3)
        for fixture in [owner, backup] { fixture.send([.ack], at: 3 * Self.length, ack: 2500) }
        #expect(try replay(backup) == replay(owner))
        #expect(try replay(backup).replyStart == 2000)
    }

    @Test func theJournalComesInPieces() throws {
        let owner = fixture()
        owner.connect()
        ask(0, owner)
        let head = Array("PUT / HTTP/1.1\r\nContent-Length: 4000\r\n\r\n".utf8)
        owner.send([.ack], at: Self.length, ack: 1000, head + pattern(0..<4000))
        let backup = fixture()
        var at = 0
        var outcomes: [MergeOutcome] = []
        while at < Self.length + head.count + 4000 {
            let piece = try copy(owner, from: at, limit: 700)
            outcomes.append(merge(backup, piece))
            at = Int(piece.offset) + piece.bytes.count
        }
        #expect(outcomes.first == .created && outcomes.dropFirst().allSatisfy { $0 == .merged } && outcomes.count > 4)
        #expect(try conversation(backup).requests.last?.end == UInt64(at))
        #expect(try replay(backup, .idempotent) == replay(owner, .idempotent))
    }

    private func replay(_ fixture: TrackingFixture, _ methods: ReplayMethods) throws -> Replay {
        let connection = try fixture.connection()
        return try conversation(fixture).replay(
            methods: methods, clientSent: connection.clientSent, received: connection.journalLength)
    }

    @Test func aLostConnectionComesBack() throws {
        let owner = owner(5)
        let backup = fixture()
        // Neither the handshake's ACK nor the first requests were seen.
        backup.send([.syn], handshake: TrackingFixture.offered)
        backup.send([.ack], at: 4 * Self.length, ack: 4000, Self.request(4))
        #expect(try !backup.connection().isProtected)
        #expect(merge(backup, try copy(owner)) == .merged)
        #expect(try replay(backup) == replay(owner))
        #expect(try backup.connection().isProtected)
    }

    /// What was counted from a guess is not good for splicing replies; the owner's copy is.
    @Test func aWrongGuessIsForgotten() throws {
        let owner = owner(3)
        let backup = fixture()
        backup.ownerTells = false
        backup.send([.syn], handshake: TrackingFixture.offered)
        // The first request was seen with the reply to another: its first copy and the handshake's ACK were lost.
        backup.send([.ack], at: 0, ack: 1000, Self.request(0))
        #expect(try !backup.connection().isProtected)
        backup.tell()
        #expect(try backup.connection().unprotected == .handshakeUnknown)
        #expect(try backup.connection().sndUna == 1000)
        #expect(merge(backup, try copy(owner)) == .restored)
        #expect(try backup.connection().isProtected)
        #expect(try replay(backup) == replay(owner))
    }

    /// The bytes that are missing are of requests that are answered: the owner has them no more, and nobody needs them.
    @Test func aHoleThatIsAnsweredIsPassedOver() throws {
        let owner = owner(20)
        let backup = fixture()
        backup.connect()
        ask(0, backup)
        ask(19, backup)
        #expect(try !backup.connection().isProtected)
        let range = try #require(
            backup.tracker.dueHoles(now: backup.now + .seconds(1), limit: 1, isWanted: { _ in true }).first).range
        let copy = try copy(owner, from: Int(range.lowerBound), upTo: Int(range.upperBound))
        #expect(merge(backup, copy) == .merged)
        #expect(merge(backup, try self.copy(owner, from: Int(copy.journalStart))) == .merged)
        #expect(try backup.connection().isProtected)
        #expect(try replay(backup) == replay(owner))
    }

    /// When the client had sent its copied request, what had it acknowledged? The place shows nothing.
    @Test func copiedBytesShowNoPlaceOfAReply() throws {
        let chunked = ReplyFacts(status: 200, headBytes: 100, framing: .chunked)
        let owner = fixture()
        owner.connect()
        ask(0, owner, facts: chunked)
        ask(1, owner, facts: nil)
        let backup = fixture()
        backup.connect()
        ask(0, backup, facts: chunked)
        // Its tap has missed the second request, and sees that the client has more by now: the start of a third reply.
        backup.send([.ack], at: 2 * Self.length, ack: 2000)
        #expect(merge(backup, try copy(owner, from: Self.length)) == .merged)
        backup.tracker.reported(Self.flow, sequence: SequenceNumber(5001 + 2000), Self.facts())
        #expect(try conversation(backup).replyStart == 0, "2000 is where the third reply starts, not the second")
    }

    @Test func servicesOfAnotherKindAreNotMixed() throws {
        let owner = owner(3)
        let stream = TrackingFixture()
        #expect(merge(stream, try copy(owner)) == .created)
        #expect(try stream.connection().unprotected == .journalHole, "it has not the start of the connection")
        let other = TrackingFixture()
        other.connect()
        other.send([.ack], at: 0, ack: 0, Self.request(0))
        let backup = fixture()
        #expect(merge(backup, try copy(other)) == .created)
        #expect(try backup.connection().unprotected == .replyUnknown)
    }

    // MARK: Two servers, one reply

    @Test func whatTheDeadServerSaidOfAReplyThatNobodyHasIsVoid() throws {
        let owner = owner(2)
        owner.tracker.regenerates(Self.flow)
        #expect(try replay(owner).heads == [], "the client has nothing of it")
        owner.tracker.reported(Self.flow, sequence: SequenceNumber(6001), Self.facts(etag: "b"))
        #expect(try replay(owner).heads == [Self.facts(etag: "b")])
        let other = self.owner(2)
        other.send([.ack], at: 2 * Self.length, ack: 1001)
        other.tracker.regenerates(Self.flow)
        #expect(try replay(other).heads == [Self.facts()], "the client has a part of it")
    }

    /// A backup of the second rank: it was told of the first server's reply, then of the second's.
    @Test func twoAnswersAreNone() throws {
        let backup = owner(2)
        backup.tracker.reported(Self.flow, sequence: SequenceNumber(6001), Self.facts(50, etag: "b"))
        #expect(try replay(backup).heads == [])
        backup.send([.ack], at: 2 * Self.length, ack: 2000)
        #expect(try conversation(backup).replayPoint == UInt64(Self.length), "how long the reply is, is not known")
        backup.tracker.reported(Self.flow, sequence: SequenceNumber(6001), Self.facts())
        #expect(try replay(backup).heads == [], "it stays so")
    }

    @Test func aNewOwnerIsAskedAgain() throws {
        let first = BackendID(rawValue: 7)
        let second = BackendID(rawValue: 8)
        let source = { (owner: BackendID) in
            SlotSource(slot: TrackingFixture.slot, owner: owner, ownerLife: Life(rawValue: 1), address: IPAddress(ipv4: 9))
        }
        let backup = owner(2)
        let owner = owner(2)
        var machine = Resynchroniser()
        var effects: [ResynchronisationEffect] = []
        machine.setSources([source(first)], now: backup.now)
        machine.tick(tracker: &backup.tracker, now: backup.now, into: &effects)
        #expect(try backup.connection().isProtected)
        // The second has answered otherwise, and it has told nobody.
        owner.tracker.regenerates(Self.flow)
        owner.tracker.reported(Self.flow, sequence: SequenceNumber(6001), Self.facts(50, etag: "b"))
        machine.setSources([source(second)], now: backup.now)
        machine.setConnected(second, true, now: backup.now)
        #expect(machine.nextDeadline(backup.tracker) <= backup.now)
        machine.tick(tracker: &backup.tracker, now: backup.now, into: &effects)
        #expect(try backup.connection().unprotected == .replyUnknown)
        while case .send(let message, _)? = effects.popLast() {
            guard let answer = owner.tracker.answer(message, now: owner.now) else { break }
            machine.received(answer, from: second, tracker: &backup.tracker, now: backup.now, into: &effects)
            guard !(try backup.connection().isProtected) else { break }
        }
        #expect(try replay(backup) == replay(owner))
        #expect(try replay(backup).heads == [Self.facts(50, etag: "b")])
    }
}
