import Model
import ModuleInterfaces
import Wire

extension DirectorMachine {
    /// One life of one back-end: the slot that it was given, and what is known of that life for ever.
    public struct Slot: Sendable {
        public var id: SlotID
        public var home: BackendID
        public var life: Life
        public var address: IPAddress
        public var mac: MACAddress?
        public var holder: Holder
        /// False while the holder is silent and nobody may replace it: flows are reset.
        public var reachable = true
        /// Who listens to the group beside the holder, by the slots of their own lives.
        public var backups: [Backup] = []
        /// What its backups have said of it.
        public var protection: [Protection] = []
        /// Who may talk for the slot while its holder has not settled; the former owner first.
        public var contenders: [Contender] = []
        /// The sets of backups (by slots) that this life may be asking for its lease; the first is the acknowledged
        /// one. Only who is in all of them may take over from this life.
        public var asked: [AskedSet] = []
        /// The director's echoes may keep this life's lease alive until here.
        public var promisedUntil = Instant(nanoseconds: 0)
        public var flows: UInt32 = 0
        /// Flows that may still be served, at the last count.
        public var busy: UInt32 = 0
        /// When it was first in a dispatch plan.
        public var openedAt: Instant?
        /// The beginning of the last count that found no busy flow.
        public var emptyAt: Instant?
        /// Why the last holder was lost.
        public var failure: Failure?
        /// Taken over and without flows, or retired, since.
        public var restingSince: Instant?
    }

    public struct Failure: Hashable, Sendable {
        public var victim: BackendID
        public var sign: FailureSign
        public var lastHeartbeat: Instant
        public var detected: Instant
    }

    public enum Holder: Hashable, Sendable {
        /// By the slot of the owner's own life; its own slot where it was never taken over.
        case owned(by: SlotID)
        case takingOver(by: SlotID)
        case nobody
        case retired
    }

    public struct Backup: Hashable, Sendable {
        public var slot: SlotID
        /// Set when the ring has replaced it: it stays until here for the connections that it alone knows.
        public var until: Instant?
        /// The ring table that makes it listen.
        public var since = Epoch(rawValue: 0)
        /// When it was known to live by that table.
        public var listeningSince: Instant?
    }

    public struct Contender: Hashable, Sendable {
        public var slot: SlotID
        /// It talks for the slot only under ring tables of this epoch and later.
        public var since: Epoch
    }

    public struct AskedSet: Hashable, Sendable {
        public var epoch: Epoch
        public var backups: [SlotID]
    }

    /// The present life of a back-end.
    public struct Member: Sendable {
        public var id: BackendID
        public var slot: SlotID
        public var session: SessionID?
        public var condition = Condition.present
        public var fencing = Fencing.none
        public var detector: any FailureDetector
        public var lastHeartbeat: Instant?
        public var lastSequence: UInt64 = 0
        /// It lives by a ring table that names its slot: new flows may come.
        public var settledIn = false
        public var settledAt = Instant(nanoseconds: 0)
        public var healthy: [ServiceID] = []
        public var load: UInt32 = 0
    }

    public enum Condition: Hashable, Sendable {
        case present
        /// Suspected, but not condemned: its heartbeats bring it back.
        case silent(since: Instant)
    }

    // MARK: Look-ups

    func slotIndex(_ id: SlotID) -> Int? {
        var (low, high) = (0, slots.count)
        while low < high {
            let middle = (low + high) / 2
            if slots[middle].id < id { low = middle + 1 } else { high = middle }
        }
        return low < slots.count && slots[low].id == id ? low : nil
    }

    func memberIndex(_ id: BackendID) -> Int? { members.firstIndex { $0.id == id } }

    func memberIndex(slot: SlotID) -> Int? { members.firstIndex { $0.slot == slot } }

    func memberIndex(session: SessionID) -> Int? { members.firstIndex { $0.session == session } }

    /// The name of the back-end whose life has this slot.
    func ownerName(_ slot: SlotID) -> String { slotIndex(slot).map { name(of: slots[$0].home) } ?? "?" }

    /// Whether a heartbeat came within the last two and a half intervals: an order will find it.
    func isFresh(_ member: Member, now: Instant) -> Bool {
        guard let last = member.lastHeartbeat, member.condition == .present else { return false }
        return now - last <= timings.heartbeatInterval * 5 / 2
    }

    func state(of slot: Slot) -> SlotState {
        switch slot.holder {
        case .owned(let owner): slot.reachable ? (owner == slot.id ? .active : .takenOver) : .orphaned
        case .takingOver: slot.reachable ? .takingOver : .orphaned
        case .nobody: .orphaned
        case .retired: .retired
        }
    }

    /// The slot of the life that serves a slot or takes it over.
    func holderSlot(_ slot: Slot) -> SlotID? {
        switch slot.holder {
        case .owned(let holder), .takingOver(let holder): holder
        case .nobody, .retired: nil
        }
    }

    /// Slots that this life serves or takes over.
    func held(by life: SlotID) -> [Int] { slots.indices.filter { holderSlot(slots[$0]) == life } }

    // MARK: Invariants

    /// Traps when the state contradicts itself; called by the simulation after every step.
    public func checkInvariants() {
        precondition(slots.count <= Limits.slots && members.count <= Limits.backends)
        precondition(zip(slots, slots.dropFirst()).allSatisfy { $0.id < $1.id }, "slots rise, each once")
        precondition(zip(members, members.dropFirst()).allSatisfy { $0.id < $1.id }, "a back-end has one life")
        let sessions = members.compactMap(\.session)
        precondition(Set(sessions).count == sessions.count, "a session belongs to one member")
        for member in members {
            guard let index = slotIndex(member.slot) else { preconditionFailure("a member without a slot") }
            precondition(slots[index].home == member.id)
            precondition(slots[index].holder == .owned(by: member.slot), "a member owns the slot of its life")
        }
        for slot in slots { checkInvariants(of: slot) }
        precondition(zip(drains, drains.dropFirst()).allSatisfy { $0.backend < $1.backend }, "one drain a back-end")
        precondition(takeOvers.count <= Self.takeOverHistory)
    }

    private func checkInvariants(of slot: Slot) {
        switch slot.holder {
        case .owned(let owner):
            precondition(slot.contenders.isEmpty, "an owned slot has no contenders")
            precondition(memberIndex(slot: owner) != nil, "an owner is a member")
        case .takingOver(let backup):
            precondition(backup != slot.id && memberIndex(slot: backup) != nil, "a backup is another member")
            precondition(slot.contenders.contains { $0.slot == backup }, "who takes over may talk")
        case .nobody:
            precondition(!slot.reachable)
        case .retired:
            precondition(slot.contenders.isEmpty && slot.backups.isEmpty)
        }
        precondition(slot.contenders.count <= SlotRecord.contenderLimit)
        precondition(slot.backups.count <= Limits.backups)
        precondition(Set(slot.backups.map(\.slot)).count == slot.backups.count)
        if let holder = holderSlot(slot) { precondition(!slot.backups.contains { $0.slot == holder }) }
    }
}
