import Model
import Testing
import Tracking
import Wire

/// Whose word an ISS is: what clients acknowledge is a guess, the server's SYN-ACK is certain.
struct CertainISSTests {
    private static let flow = TrackingFixture.flow()

    private func backup() -> TrackingFixture {
        let fixture = TrackingFixture()
        fixture.ownerTells = false
        return fixture
    }

    /// A server that greets with 17 bytes; the ACK of the handshake was lost to this backup only.
    ///
    /// - Parameter seesPureACK: false where `selective` shows it nothing before the first data.
    private func greeted(_ fixture: TrackingFixture, seesPureACK: Bool) {
        fixture.send([.syn], handshake: TrackingFixture.offered)
        if seesPureACK { fixture.send([.ack], ack: 17) }
        fixture.send([.ack, .psh], ack: 17, Array("one\n".utf8))
    }

    @Test(arguments: [true, false])
    func aGreetingTellsNoISS(seesPureACK: Bool) throws {
        let fixture = backup()
        greeted(fixture, seesPureACK: seesPureACK)
        let guess = try fixture.connection()
        #expect(guess.iss == SequenceNumber(5017), "it has nothing better")
        #expect(!guess.isProtected && guess.unprotected == nil, "and does not believe it")
        #expect(guess.acknowledged == SequenceNumber(5018), "its client can be reset")
        let slots = fixture.tracker.census(of: [TrackingFixture.slot])
        #expect(slots.first?.protected == 0)
        fixture.tell()
        let certain = try fixture.connection()
        #expect(certain.isProtected && certain.iss == SequenceNumber(5000) && certain.sndUna == 17)
        #expect(certain.acknowledged == SequenceNumber(5018) && certain.rightEdge == guess.rightEdge + 17)
        #expect(fixture.journal() == Array("one\n".utf8))
        // What comes later is counted on from there.
        fixture.send([.ack], at: 4, ack: 23)
        #expect(try fixture.connection().sndUna == 23)
    }

    @Test(arguments: [true, false])
    func toldBeforeTheClientAnswers(seesPureACK: Bool) throws {
        let fixture = backup()
        fixture.ownerTells = true
        greeted(fixture, seesPureACK: seesPureACK)
        let connection = try fixture.connection()
        #expect(connection.isProtected && connection.iss == SequenceNumber(5000) && connection.sndUna == 17)
    }

    /// Neither does the ACK of a server that keeps silent, for nobody can tell which of both it is.
    @Test func nothingElseIsCertainEither() throws {
        let fixture = backup()
        fixture.connect()
        fixture.send([.ack, .psh], pattern(0..<100))
        #expect(try !fixture.connection().isProtected)
        fixture.tell()
        fixture.tell()
        #expect(try fixture.connection().isProtected)
        #expect(fixture.journal() == pattern(0..<100))
    }

    @Test func numbersWrap() throws {
        let fixture = TrackingFixture(irs: 0xffff_ffff, iss: 0xffff_fff8)
        fixture.ownerTells = false
        greeted(fixture, seesPureACK: true)
        fixture.tell()
        let connection = try fixture.connection()
        #expect(connection.iss == SequenceNumber(0xffff_fff8) && connection.sndUna == 17)
    }

    /// Two machines, or one that had forgotten the SYN, have answered it: which one the client took is not known, and no
    /// copy tells.
    @Test(arguments: [true, false])
    func twoAnswersAreNone(hasAcknowledged: Bool) throws {
        let fixture = backup()
        fixture.send([.syn], handshake: TrackingFixture.offered)
        fixture.tell()
        if hasAcknowledged { fixture.send([.ack]) }
        fixture.tell(iss: 77)
        fixture.send([.ack], pattern(0..<9))
        #expect(try fixture.connection().unprotected == .handshakeUnknown)
        let owner = TrackingFixture()
        owner.connect()
        owner.send([.ack], pattern(0..<9))
        let want = FetchRequest.Want(flow: Self.flow, irs: SequenceNumber(1000), from: 0, upTo: 9)
        let copy = owner.tracker.copy(want, slot: TrackingFixture.slot, limit: 99, now: owner.now)
        fixture.tracker.merge(try #require(copy), now: fixture.now)
        #expect(try fixture.connection().unprotected == .handshakeUnknown)
    }

    /// Lower than the ISS, nobody acknowledges: that was forged.
    @Test func aForgedGuessGoesAway() throws {
        let fixture = backup()
        fixture.send([.syn])
        fixture.send([.ack], ack: -3000)
        fixture.tell()
        #expect(try fixture.connection().sndUna == 0)
        #expect(try fixture.connection().acknowledged == SequenceNumber(5001))
        fixture.send([.ack], ack: 5, [1])
        #expect(try fixture.connection().isProtected)
        // And far above it.
        let other = backup()
        other.send([.syn])
        other.send([.ack], ack: 0x7000_0000)
        other.tell()
        #expect(try other.connection().unprotected == .acknowledgmentImpossible)
    }

    // MARK: Which connection

    @Test func wordsOfOtherConnectionsAreIgnored() throws {
        let fixture = backup()
        fixture.tell()
        fixture.connect()
        for taken in [1, -1, 30, 1 << 20] { fixture.tell(iss: 9, taken: taken) }
        fixture.tell(port: 9)
        #expect(try !fixture.connection().isISSCertain)
        fixture.tell()
        #expect(try fixture.connection().iss == SequenceNumber(5000))
    }

    /// The port is used again: the SYN-ACK is of the new connection, whose first ACK is still to come.
    @Test(arguments: [true, false])
    func aRivalHasItsOwn(isSYNRepeated: Bool) throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], pattern(0..<50))
        fixture.sendRaw([.syn], sequence: 90_000, handshake: TrackingFixture.offered)
        fixture.tracker.announced(Self.flow, iss: SequenceNumber(300), acknowledged: SequenceNumber(90_001))
        if isSYNRepeated { fixture.sendRaw([.syn], sequence: 90_000, handshake: TrackingFixture.offered) }
        #expect(try fixture.connection().iss == SequenceNumber(5000), "nobody has proved it yet")
        // The greeting is acknowledged by the first frame that is seen.
        fixture.sendRaw([.ack], sequence: 90_001, acknowledgment: 318, [1])
        let new = try fixture.connection()
        #expect(new.irs == SequenceNumber(90_000) && new.iss == SequenceNumber(300) && new.sndUna == 17)
        #expect(new.isProtected)
        // The one before it is its twin, and still known by its own number.
        fixture.tell(iss: 5000)
        fixture.send([.ack], at: 50, ack: 3, pattern(50..<60))
        #expect(try fixture.connection().isProtected)
        #expect(try fixture.connection().iss == SequenceNumber(5000))
    }

    @Test func aTwinIsToldToo() throws {
        let fixture = backup()
        fixture.connect()
        fixture.send([.ack], pattern(0..<50))
        fixture.sendRaw([.syn], sequence: 90_000)
        fixture.sendRaw([.ack], sequence: 90_001, acknowledgment: 301)
        #expect(try fixture.connection().irs == SequenceNumber(90_000))
        fixture.tell()
        #expect(try !fixture.connection().isISSCertain)
        fixture.send([.ack], at: 50, pattern(50..<60))
        #expect(try fixture.connection().irs == SequenceNumber(1000))
        #expect(try fixture.connection().isProtected)
    }

    @Test func aRivalThatWasAnsweredTwiceHasNone() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.sendRaw([.syn], sequence: 90_000)
        for iss in [300, 400] as [UInt32] {
            fixture.tracker.announced(Self.flow, iss: SequenceNumber(iss), acknowledged: SequenceNumber(90_001))
        }
        fixture.sendRaw([.ack], sequence: 90_001, acknowledgment: 401, [1])
        #expect(try !fixture.connection().isProtected)
    }

    /// As many bytes as the SYN had, or none: another number is of another connection.
    @Test func onlyAllDataOfASYNIsTaken() throws {
        let fixture = backup()
        fixture.send([.syn], pattern(0..<30))
        for taken in [1, 12, 29, 31] { fixture.tell(taken: taken) }
        fixture.send([.ack], at: 30, ack: 12)
        #expect(try !fixture.connection().isISSCertain)
        // It left the data: the client sends them again.
        fixture.tell(taken: 0)
        #expect(try fixture.connection().isProtected)
    }

    // MARK: By the owner's list and copies

    private func summary(_ owner: TrackingFixture) throws -> ConnectionSummary {
        let listed = owner.tracker.summaries(of: TrackingFixture.slot, from: 0, activeWithin: nil, now: owner.now)
        return try #require(listed.connections.first)
    }

    /// The word was lost on its way; the next look brings it.
    @Test func theListRepeatsIt() throws {
        let owner = TrackingFixture()
        owner.connect()
        owner.send([.ack], ack: 17)
        owner.send([.ack, .psh], ack: 17, Array("one\n".utf8))
        let fixture = backup()
        greeted(fixture, seesPureACK: true)
        #expect(fixture.tracker.compare(try summary(owner), now: fixture.now) == .nothing)
        #expect(try fixture.connection().isProtected && fixture.connection().iss == SequenceNumber(5000))
    }

    /// The owner's group tap can miss the same ACK: its guess is nobody's certainty.
    @Test func theOwnersGuessIsAGuess() throws {
        let owner = backup()
        greeted(owner, seesPureACK: true)
        #expect(try summary(owner).certainISS == nil)
        let right = backup()
        right.connect()
        right.send([.ack], ack: 17)
        right.send([.ack, .psh], ack: 17, Array("one\n".utf8))
        #expect(right.tracker.compare(try summary(owner), now: right.now) == .nothing)
        let want = FetchRequest.Want(flow: Self.flow, irs: SequenceNumber(1000), from: 0, upTo: 9)
        let made = owner.tracker.copy(want, slot: TrackingFixture.slot, limit: 99, now: owner.now)
        let copy = try #require(made)
        #expect(!copy.isISSCertain)
        let fresh = backup()
        for fixture in [right, fresh] {
            fixture.tracker.merge(copy, now: fixture.now)
            #expect(try !fixture.connection().isProtected)
            fixture.tell()
            let known = try fixture.connection()
            #expect(known.isProtected && known.iss == SequenceNumber(5000) && known.sndUna == 17)
        }
    }

    /// What is certain here is not unsettled by an owner that guesses.
    @Test func aGuessChangesNoCertainty() throws {
        let owner = backup()
        greeted(owner, seesPureACK: false)
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack, .psh], ack: 17, Array("one\n".utf8))
        let want = FetchRequest.Want(flow: Self.flow, irs: SequenceNumber(1000), from: 0, upTo: 9)
        let copy = owner.tracker.copy(want, slot: TrackingFixture.slot, limit: 99, now: owner.now)
        fixture.tracker.merge(try #require(copy), now: fixture.now)
        let known = try fixture.connection()
        #expect(known.isProtected && known.iss == SequenceNumber(5000) && known.sndUna == 17)
    }

    @Test func aCertainCopyCorrectsAGuess() throws {
        let owner = TrackingFixture()
        owner.connect()
        owner.send([.ack, .psh], ack: 17, Array("one\n".utf8))
        let fixture = backup()
        greeted(fixture, seesPureACK: true)
        let want = FetchRequest.Want(flow: Self.flow, irs: SequenceNumber(1000), from: 0, upTo: 9)
        let copy = owner.tracker.copy(want, slot: TrackingFixture.slot, limit: 99, now: owner.now)
        fixture.tracker.merge(try #require(copy), now: fixture.now)
        let known = try fixture.connection()
        #expect(known.isProtected && known.iss == SequenceNumber(5000) && known.sndUna == 17)
    }

    @Test func aCopyWithoutISSIsNotCertain() throws {
        let owner = TrackingFixture()
        owner.send([.syn], handshake: TrackingFixture.offered)
        let want = FetchRequest.Want(flow: Self.flow, irs: SequenceNumber(1000), from: 0, upTo: 9)
        let made = owner.tracker.copy(want, slot: TrackingFixture.slot, limit: 99, now: owner.now)
        var copy = try #require(made)
        #expect(copy.iss == nil && !copy.isISSCertain)
        copy.isISSCertain = true
        let fixture = backup()
        #expect(fixture.tracker.merge(copy, now: fixture.now) == .refused(.malformed))
    }
}
