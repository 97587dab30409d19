import Model
import Testing
import Tracking
import Wire

/// The owner's copy of a connection, and what a backup makes of it.
struct ConnectionCopyTests {
    /// An owner with one connection: `sent` bytes of the client, of which the reply's first 700 are acknowledged.
    private func owner(_ sent: Int = 3000, _ configure: (inout TrackerParameters) -> Void = { _ in }) -> TrackingFixture {
        let owner = TrackingFixture(configure)
        owner.connect()
        for start in stride(from: 0, to: sent, by: 1000) {
            owner.send([.ack], at: start, ack: 700, pattern(start..<min(start + 1000, sent)))
        }
        return owner
    }

    private func copy(
        _ owner: TrackingFixture,
        from: Int = 0,
        upTo: Int = .max,
        limit: Int = 1 << 20
    ) throws -> ConnectionCopy {
        let want = FetchRequest.Want(
            flow: TrackingFixture.flow(), irs: SequenceNumber(owner.irs), from: UInt64(from), upTo: UInt64(upTo))
        let copy = owner.tracker.copy(want, slot: TrackingFixture.slot, limit: limit, now: owner.now)
        return try #require(copy)
    }

    private func merge(_ backup: TrackingFixture, _ copy: ConnectionCopy) -> MergeOutcome {
        let outcome = backup.tracker.merge(copy, now: backup.now)
        backup.tracker.checkInvariants()
        return outcome
    }

    @Test func anUnknownConnectionIsCreated() throws {
        let owner = owner()
        owner.send([.ack, .fin], at: 3000, ack: 800)
        let backup = TrackingFixture()
        #expect(merge(backup, try copy(owner)) == .created)
        let (ours, theirs) = (try backup.connection(), try owner.connection())
        #expect(backup.journal() == pattern(0..<3000))
        #expect(ours.iss == theirs.iss && ours.irs == theirs.irs && ours.client == theirs.client)
        #expect(ours.sndUna == 800 && ours.rightEdge == theirs.rightEdge)
        #expect(ours.isHalfClosed && ours.isProtected && ours.slot == TrackingFixture.slot)
        do { let tracked = backup.tracker.counters.copiedBytes; #expect(tracked == 3000) }
    }

    @Test func whatIsOldStaysOld() throws {
        let owner = owner()
        owner.now = owner.now + .seconds(30)
        let backup = TrackingFixture { $0.idleTimeout = .seconds(40) }
        backup.now = backup.now + .seconds(1000)
        #expect(merge(backup, try copy(owner)) == .created)
        backup.now = backup.now + .seconds(9)
        backup.tracker.expire(now: backup.now)
        #expect(backup.handle() != nil)
        backup.now = backup.now + .seconds(2)
        backup.tracker.expire(now: backup.now)
        #expect(backup.handle() == nil)
    }

    @Test func piecesInAnyOrderAndGaps() throws {
        let owner = owner()
        let backup = TrackingFixture()
        #expect(merge(backup, try copy(owner, from: 2000)) == .created)
        #expect(!(try backup.connection().isProtected), "a hole is no protection")
        #expect(merge(backup, try copy(owner, from: 0, limit: 900)) == .merged)
        #expect(try backup.connection().journalLength == 900)
        #expect(merge(backup, try copy(owner, from: 900, upTo: 2000)) == .merged)
        #expect(backup.journal() == pattern(0..<3000))
        #expect(try backup.connection().isProtected)
    }

    @Test func theTapGoesOnMeanwhile() throws {
        let owner = owner()
        let backup = TrackingFixture()
        let early = try copy(owner)
        #expect(merge(backup, early) == .created)
        for fixture in [owner, backup] { fixture.send([.ack], at: 3000, ack: 900, pattern(3000..<3500)) }
        #expect(merge(backup, early) == .merged, "an older copy changes nothing")
        #expect(backup.journal() == pattern(0..<3500))
        #expect(try backup.connection().sndUna == 900)
    }

    @Test func aLostFrameIsAHoleUntilTheCopyComes() throws {
        let owner = owner()
        let backup = TrackingFixture()
        backup.connect()
        backup.send([.ack], at: 0, ack: 700, pattern(0..<1000))
        backup.send([.ack], at: 2000, ack: 700, pattern(2000..<3000))
        #expect(try backup.connection().holeSince == backup.now)
        let early = backup.tracker.dueHoles(now: backup.now, limit: 9) { _ in true }
        #expect(early.isEmpty, "it may be on its way")
        backup.now = backup.now + .milliseconds(30)
        let holes = backup.tracker.dueHoles(now: backup.now, limit: 9) { _ in true }
        #expect(holes.map(\.range) == [1000..<2000])
        let again = backup.tracker.dueHoles(now: backup.now, limit: 9) { _ in true }
        #expect(again.isEmpty, "not twice at once")
        #expect(merge(backup, try copy(owner, from: 1000, upTo: 2000)) == .merged)
        #expect(try backup.connection().isProtected)
        let late = backup.tracker.dueHoles(now: backup.now + .seconds(9), limit: 9) { _ in true }
        #expect(late.isEmpty)
        let hasHoles = backup.tracker.hasHoles
        #expect(!hasHoles)
        #expect(backup.journal() == pattern(0..<3000))
    }

    @Test func aHoleThatNobodyCanFillIsCounted() throws {
        let backup = TrackingFixture()
        backup.connect()
        backup.send([.ack], at: 500, pattern(500..<600))
        let irs = SequenceNumber(backup.irs)
        backup.tracker.holeStays(TrackingFixture.flow(), irs: irs, now: backup.now + .seconds(4))
        #expect(try backup.connection().unprotected == nil, "the client may yet send it again")
        backup.tracker.holeStays(TrackingFixture.flow(), irs: irs, now: backup.now + .seconds(5))
        #expect(try backup.connection().unprotected == .journalHole)
        do { let tracked = backup.tracker.counters.holesUnfilled; #expect(tracked == 1) }
        backup.tracker.checkInvariants()
    }

    @Test func theFirstBytesWinAndAConflictIsUnsafe() throws {
        let owner = owner()
        let backup = TrackingFixture()
        backup.connect()
        backup.send([.ack], at: 0, [1, 2, 3])
        #expect(merge(backup, try copy(owner)) == .merged)
        #expect(try backup.connection().unprotected == .conflictingBytes)
        #expect(merge(backup, try copy(owner)) == .merged)
        #expect(try backup.connection().unprotected == .conflictingBytes, "and stays so")
    }

    @Test func whatTheOwnerCallsUnprotectedIsNotProtectedByItsCopy() throws {
        let owner = owner()
        owner.send([.ack], at: 0, [9, 9])
        #expect(try owner.connection().unprotected == .conflictingBytes)
        let fresh = TrackingFixture()
        #expect(merge(fresh, try copy(owner)) == .created)
        #expect(try fresh.connection().unprotected == .conflictingBytes)
        // Unsafe is unsafe for everybody; what the owner's own tap has missed is not.
        let full = self.owner()
        #expect(merge(full, try copy(owner)) == .merged)
        #expect(try full.connection().unprotected == .conflictingBytes)
        let small = self.owner(3000) { $0.journalBytesPerConnection = 2000 }
        #expect(try small.connection().unprotected == .journalFull)
        let intact = self.owner()
        #expect(merge(intact, try copy(small)) == .merged)
        #expect(try intact.connection().isProtected)
        let other = TrackingFixture()
        #expect(merge(other, try copy(small)) == .created)
        #expect(try other.connection().unprotected == .journalFull)
    }

    @Test func whatOurTapHasMissedComesBack() throws {
        let owner = owner()
        let backup = TrackingFixture()
        // The first data was lost, and the owner did not have it either for as long as anybody waits.
        backup.connect()
        backup.send([.ack], at: 2000, ack: 700, pattern(2000..<3000))
        backup.tracker.holeStays(
            TrackingFixture.flow(), irs: SequenceNumber(backup.irs), now: backup.now + .seconds(5))
        #expect(try backup.connection().unprotected == .journalHole)
        #expect(merge(backup, try copy(owner, from: 10)) == .merged, "only from the start")
        #expect(merge(backup, try copy(owner, limit: 1200)) == .restored)
        #expect(merge(backup, try copy(owner, from: 1200)) == .merged)
        let ours = try backup.connection()
        #expect(ours.isProtected && ours.iss == SequenceNumber(owner.iss) && ours.sndUna == 700)
        #expect(backup.journal() == pattern(0..<3000))
        do { let tracked = backup.tracker.counters.restored; #expect(tracked == 1) }
    }

    @Test func twoDifferentHandshakesAreNotRestored() throws {
        let owner = owner()
        let backup = TrackingFixture()
        backup.send([.syn], handshake: TrackingFixture.offered)
        backup.send([.syn], handshake: HandshakeOptions(mss: 1000))
        #expect(merge(backup, try copy(owner)) == .merged)
        #expect(try backup.connection().unprotected == .handshakeUnknown)
    }

    @Test func anotherIncarnationIsRefused() throws {
        let owner = owner()
        let old = try copy(owner)
        let backup = TrackingFixture(irs: 777_000)
        backup.connect()
        #expect(merge(backup, old) == .refused(.otherIncarnation))
        #expect(try backup.connection().irs == SequenceNumber(777_000))
        // Ours has been silent for long, and the owner's has not: ours is the old one.
        backup.now = backup.now + .seconds(20)
        #expect(merge(backup, old) == .created)
        #expect(try backup.connection().irs == SequenceNumber(owner.irs))
        do { let tracked = backup.tracker.counters.copiesRefused; #expect(tracked == 1) }
    }

    @Test func aDifferentISSIsUnsafe() throws {
        let owner = owner()
        let backup = TrackingFixture(iss: 6000)
        backup.connect()
        #expect(merge(backup, try copy(owner)) == .merged)
        #expect(try backup.connection().unprotected == .handshakeUnknown)
    }

    @Test func aFullTableRefuses() throws {
        let owner = owner()
        let backup = TrackingFixture { $0.connections = 1 }
        backup.connect(port: 1)
        #expect(merge(backup, try copy(owner)) == .refused(.tableFull))
        do { let tracked = backup.tracker.counters.tableFull; #expect(tracked == 1) }
    }

    @Test func journalBoundsHold() throws {
        let owner = owner(8000)
        let backup = TrackingFixture { $0.journalBytesPerConnection = 4000 }
        #expect(merge(backup, try copy(owner)) == .created)
        #expect(try backup.connection().unprotected == .journalFull)
        do { let tracked = backup.tracker.journalBytesInUse; #expect(tracked == 0) }
    }

    @Test func copiesThatContradictThemselvesAreRefused() throws {
        let good = try copy(owner())
        let changes: [(inout ConnectionCopy) -> Void] = [
            { $0.offset = 1 }, { $0.offset = .max }, { $0.journalLength = 10 }, { $0.finOffset = 2999 },
            { $0.sndUna = .max }, { $0.clientSent = .max - 1 }, { $0.rightEdge = 1 << 63 },
            { $0.journalStart = 3001 }, { $0.replyStart = 701 }, { $0.iss = nil }, { $0.unprotected = .journalFull },
        ]
        for (index, change) in changes.enumerated() {
            var bad = good
            change(&bad)
            let backup = TrackingFixture()
            #expect(merge(backup, bad) == .refused(.malformed), "change \(index)")
            do { let tracked = backup.tracker.count; #expect(tracked == 0) }
        }
    }

    @Test func listsGoThroughTheWholeTable() {
        let owner = TrackingFixture { $0.connections = 2000 }
        for port in 1...700 { owner.connect(port: UInt16(port), slot: SlotID(rawValue: UInt16(port % 2))) }
        owner.send([.syn], port: 999, slot: SlotID(rawValue: 1))
        var found: [ConnectionSummary] = []
        var cursor: Int? = 0
        var calls = 0
        while let from = cursor {
            let page = owner.tracker.summaries(
                of: SlotID(rawValue: 1), from: from, activeWithin: nil, now: owner.now)
            #expect(page.connections.count <= PeerLimits.summaries)
            found += page.connections
            cursor = page.next
            calls += 1
        }
        #expect(found.count == 350 && calls == 2, "the unfinished handshake is none yet")
        owner.now = owner.now + .seconds(9)
        owner.send([.ack], at: 0, ack: 5, [1], port: 3, slot: SlotID(rawValue: 1))
        let active = owner.tracker.summaries(
            of: SlotID(rawValue: 1), from: 0, activeWithin: .seconds(3), now: owner.now)
        #expect(active.connections.map(\.flow) == [TrackingFixture.flow(3)])
    }
}
