import Model
import Wire

/// What the resynchroniser wants done; in this order.
public enum ResynchronisationEffect: Hashable, Sendable {
    case send(PeerMessage, to: BackendID)
    /// Everything that the owner has of the slot is here too, after so long.
    case synchronised(SlotID, after: Interval)
}

/// The backup's side of resynchronisation ([Z] II-D) and of the fetching of lost bytes (ST-TCP): asks the owners of slots
/// what they have, and gives the tracker what it lacks.
///
/// A pure machine, beside the tracker and on its thread. It has at most one request under way for each slot, so that
/// neither side ever does more than one bounded piece of work at a time. Nothing stops for it: what arrives meanwhile
/// the tap sees. docs/design/0005-resynchronisation.md.
public struct Resynchroniser: Sendable {
    var entries: [SlotProgress] = []
    private var connected: Set<BackendID> = []
    private var serial: UInt32 = 0
    private var holesAt = Instant(nanoseconds: 0)

    /// The owner's tap and ours do not see a frame at the same instant.
    static let settling = Interval.milliseconds(20)
    /// Between two looks at what was active lately: a lost frame after which the client is silent is found by this.
    static let lookInterval = Interval.seconds(1)
    static let lookBack = Interval.seconds(3)
    static let answerTimeout = Interval.seconds(5)
    static let retry = Interval.milliseconds(200)
    /// Under a load of new connections, every look finds one that is on its way here.
    static let longestRun = 4

    public init() {}

    // MARK: Inputs

    /// The slots that this agent backs up, and who serves them; replaces the former ones.
    public mutating func setSources(_ sources: [SlotSource], now: Instant) {
        entries = sources.prefix(Limits.slots).map { source in
            guard let known = entries.first(where: { $0.source == source }) else {
                let former = entries.first { $0.source.slot == source.slot }
                return SlotProgress(source: source, follows: former, now: now)
            }
            return known
        }
    }

    /// A session with an owner has opened (the hello was sent) or closed.
    public mutating func setConnected(_ owner: BackendID, _ isOpen: Bool, now: Instant) {
        if isOpen { connected.insert(owner) } else { connected.remove(owner) }
        for index in entries.indices where entries[index].source.owner == owner {
            entries[index].restart(at: now)
            // Nobody knows what was missed while nobody could be asked.
            entries[index].needsFullLook = true
        }
    }

    /// The tap says that it has lost frames: everything is compared once more.
    public mutating func tapLost(now: Instant) {
        for index in entries.indices {
            entries[index].needsFullLook = true
            if entries[index].look == nil { entries[index].nextLook = min(entries[index].nextLook, now + Self.settling) }
        }
    }

    /// An answer of an owner. What nobody asked for is ignored.
    public mutating func received(
        _ message: PeerMessage,
        from owner: BackendID,
        tracker: inout Tracker,
        now: Instant,
        into effects: inout [ResynchronisationEffect]
    ) {
        meetOwners(&tracker)
        let (slot, number): (SlotID, UInt32)
        switch message {
        case .listed(let answer): (slot, number) = (answer.slot, answer.serial)
        case .copies(let answer): (slot, number) = (answer.slot, answer.serial)
        case .refused(let refusal): (slot, number) = (refusal.slot, refusal.serial)
        case .hello, .list, .fetch: return
        }
        guard let index = entries.firstIndex(where: { $0.source.slot == slot && $0.source.owner == owner }),
            entries[index].request?.serial == number
        else { return }
        switch message {
        case .listed(let answer): listed(answer, index, &tracker, now)
        case .copies(let answer): copied(answer, index, &tracker, now)
        case .refused: entries[index].restart(at: now + Self.retry)
        case .hello, .list, .fetch: return
        }
        advance(index, now, &effects)
    }

    /// Time has passed.
    public mutating func tick(
        tracker: inout Tracker,
        now: Instant,
        into effects: inout [ResynchronisationEffect]
    ) {
        meetOwners(&tracker)
        if now >= holesAt {
            holesAt = now + Self.settling
            askForHoles(&tracker, now)
        }
        for index in entries.indices {
            if let request = entries[index].request, now - request.at >= Self.answerTimeout {
                entries[index].restart(at: now + Self.lookInterval)
            }
            advance(index, now, &effects)
        }
    }

    private mutating func meetOwners(_ tracker: inout Tracker) {
        for index in entries.indices where entries[index].isOwnerNew {
            entries[index].isOwnerNew = false
            tracker.distrustReplies(of: entries[index].source.slot)
        }
    }

    /// When `tick` has to be called next, or earlier.
    public func nextDeadline(_ tracker: borrowing Tracker) -> Instant {
        if entries.contains(where: \.isOwnerNew) { return Instant(nanoseconds: 0) }
        var next = Instant.never
        for entry in entries where connected.contains(entry.source.owner) {
            if let request = entry.request {
                next = min(next, request.at + Self.answerTimeout)
            } else if entry.look == nil {
                next = min(next, entry.nextLook)
            }
        }
        return !entries.isEmpty && tracker.hasHoles ? min(next, holesAt) : next
    }

    /// What the director is told; looks at the tracker's whole table.
    public func protection(_ tracker: borrowing Tracker) -> [SlotProtection] {
        let census = tracker.census(of: entries.map(\.source.slot))
        return zip(entries, census).map { entry, census in
            let phase: SlotProtection.Phase =
                entry.protectedAfter != nil
                ? .synchronised : connected.contains(entry.source.owner) ? .copying : .waiting
            return SlotProtection(
                slot: entry.source.slot,
                phase: phase,
                connections: UInt32(clamping: census.connections),
                protected: UInt32(clamping: census.protected),
                missing: UInt32(clamping: max(entry.wants.count + entry.asked.count, census.incomplete)),
                timeToProtection: entry.protectedAfter
            )
        }
    }

    // MARK: Requests

    /// Sends the next request of a slot, where none is under way.
    private mutating func advance(_ index: Int, _ now: Instant, _ effects: inout [ResynchronisationEffect]) {
        let source = entries[index].source
        guard connected.contains(source.owner), entries[index].request == nil else { return }
        if entries[index].look == nil, entries[index].wants.isEmpty {
            guard now >= entries[index].nextLook else { return }
            entries[index].beginLook()
        }
        serial &+= 1
        if !entries[index].wants.isEmpty {
            let wants = Array(entries[index].wants.prefix(PeerLimits.wants))
            entries[index].wants.removeFirst(wants.count)
            entries[index].asked = wants
            entries[index].request = SlotProgress.Request(serial: serial, at: now)
            effects.append(
                .send(.fetch(FetchRequest(slot: source.slot, serial: serial, wants: wants)), to: source.owner))
        } else if let look = entries[index].look, let cursor = look.cursor {
            entries[index].request = SlotProgress.Request(serial: serial, at: now)
            let request = ListRequest(
                slot: source.slot, serial: serial, cursor: cursor, activeWithin: look.isFull ? nil : Self.lookBack)
            effects.append(.send(.list(request), to: source.owner))
        } else if let after = entries[index].endLook(now) {
            effects.append(.synchronised(source.slot, after: after))
        }
    }

    private mutating func listed(_ answer: ListAnswer, _ index: Int, _ tracker: inout Tracker, _ now: Instant) {
        entries[index].request = nil
        guard var look = entries[index].look, let cursor = look.cursor else { return }
        // What the server itself has said of its handshakes goes before what another remembers of it.
        for heard in answer.handshakes where tracker.handshake(of: heard.service, slot: answer.slot) == nil {
            tracker.learn(heard, slot: answer.slot)
        }
        for summary in answer.connections {
            let isKnown = tracker.handle(of: summary.flow) != nil
            guard case .bytes(let range) = tracker.compare(summary, now: now) else { continue }
            // What came just now is on its way through our own tap.
            let isSettled = summary.idle >= Self.settling || look.isFull && (look.number == 1 || !isKnown)
            guard isSettled else {
                look.unsettled += 1
                continue
            }
            look.found += 1
            entries[index].want(
                FetchRequest.Want(
                    flow: summary.flow, irs: summary.irs, from: range.lowerBound, upTo: range.upperBound))
        }
        // A cursor that does not move would be asked for ever.
        look.cursor = answer.next.flatMap { $0 > cursor ? $0 : nil }
        entries[index].look = look
    }

    private mutating func copied(_ answer: CopyAnswer, _ index: Int, _ tracker: inout Tracker, _ now: Instant) {
        entries[index].request = nil
        var open = entries[index].asked
        entries[index].asked = []
        let count = open.count
        var further: [FetchRequest.Want] = []
        for copy in answer.copies {
            guard copy.slot == entries[index].source.slot,
                let place = open.firstIndex(where: { $0.flow == copy.flow && $0.irs == copy.irs })
            else { continue }
            var want = open.remove(at: place)
            // What stands before a replay point is not missing.
            guard copy.offset <= max(want.from, copy.journalStart) else {
                // The owner has forgotten what is missing here.
                checkHole(want, ownerHas: 0, &tracker, now)
                continue
            }
            if case .refused = tracker.merge(copy, now: now) { continue }
            let end = copy.offset + UInt64(copy.bytes.count)
            // An owner that goes round in circles is not followed.
            let hasMoved = end > want.from
            want.from = end
            want.upTo = min(want.upTo, copy.journalLength)
            if want.from < want.upTo, hasMoved, copy.unprotected == nil {
                further.append(want)
            } else {
                checkHole(want, ownerHas: copy.journalLength, &tracker, now)
            }
        }
        for flow in answer.unknown {
            guard let place = open.firstIndex(where: { $0.flow == flow }) else { continue }
            checkHole(open.remove(at: place), ownerHas: 0, &tracker, now)
        }
        // What did not fit into the answer; an answer that says nothing ends it.
        if open.count == count { open = [] }
        entries[index].wants.insert(contentsOf: further + open, at: 0)
    }

    private func checkHole(
        _ want: FetchRequest.Want,
        ownerHas length: UInt64,
        _ tracker: inout Tracker,
        _ now: Instant
    ) {
        guard let handle = tracker.handle(of: want.flow), let connection = tracker[handle],
            length <= connection.journalLength
        else { return }
        tracker.holeStays(want.flow, irs: want.irs, now: now)
    }

    private mutating func askForHoles(_ tracker: inout Tracker, _ now: Instant) {
        guard tracker.hasHoles, !entries.isEmpty else { return }
        let open = entries.filter { connected.contains($0.source.owner) }.map(\.source.slot)
        for hole in tracker.dueHoles(now: now, limit: PeerLimits.wants, isWanted: { open.contains($0) }) {
            guard let index = entries.firstIndex(where: { $0.source.slot == hole.slot }) else { continue }
            entries[index].want(
                FetchRequest.Want(
                    flow: hole.flow, irs: hole.irs, from: hole.range.lowerBound, upTo: hole.range.upperBound))
        }
    }
}

/// How far a backup is with one slot.
struct SlotProgress: Sendable {
    struct Request: Sendable {
        var serial: UInt32
        var at: Instant
    }

    /// One walk through the owner's list.
    struct Look: Sendable {
        /// All connections, not only those that were active lately.
        var isFull: Bool
        /// Of a run of full ones, from 1.
        var number: Int
        /// Nil at the end.
        var cursor: UInt32?
        /// Connections that were lacking something.
        var found = 0
        /// Connections that lack what may be on its way through our own tap.
        var unsettled = 0
    }

    let source: SlotSource
    /// When this owner became the one to ask.
    let since: Instant
    var request: Request?
    var look: Look?
    var wants: [FetchRequest.Want] = []
    var asked: [FetchRequest.Want] = []
    var nextLook: Instant
    var needsFullLook = true
    var fullLooks = 0
    /// Nil until the connections that are older than our tap were all there.
    var protectedAfter: Interval?

    /// The owner is not the one that this tracker has followed so far.
    var isOwnerNew: Bool

    init(source: SlotSource, follows former: SlotProgress? = nil, now: Instant) {
        self.source = source
        isOwnerNew = former != nil
        since = now
        nextLook = now
    }

    mutating func want(_ want: FetchRequest.Want) {
        guard wants.count < PeerLimits.summaries * 2 else { return }
        let isThere = wants.contains { $0.flow == want.flow } || asked.contains { $0.flow == want.flow }
        if !isThere { wants.append(want) }
    }

    /// The answer will not come: the session is new, or the owner refused.
    mutating func restart(at instant: Instant) {
        if look?.isFull ?? false { needsFullLook = true }
        request = nil
        look = nil
        wants = []
        asked = []
        fullLooks = 0
        nextLook = instant
    }

    mutating func beginLook() {
        if needsFullLook { fullLooks += 1 }
        look = Look(isFull: needsFullLook, number: fullLooks, cursor: 0)
        needsFullLook = false
    }

    /// Returns the time to protection when it was reached by this look.
    mutating func endLook(_ now: Instant) -> Interval? {
        defer { look = nil }
        nextLook = needsFullLook ? now : now + Resynchroniser.lookInterval
        guard let look, look.isFull else { return nil }
        let isComplete = look.found == 0 && look.unsettled == 0
        let isEnough = look.number >= 2 && isComplete || look.number >= Resynchroniser.longestRun
        guard isEnough, !needsFullLook else {
            needsFullLook = true
            nextLook = now + (look.found == 0 && look.unsettled > 0 ? Resynchroniser.settling : .milliseconds(5))
            return nil
        }
        fullLooks = 0
        guard protectedAfter == nil else { return nil }
        protectedAfter = now - since
        return protectedAfter
    }
}
