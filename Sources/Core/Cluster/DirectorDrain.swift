import Model
import ModuleInterfaces
import Wire

/// What an operator wants of a back-end that is to be free of connections.
public enum DrainMode: String, Hashable, Sendable, CaseIterable {
    /// Its connections end by themselves.
    case wait
    /// Its backups take them over as soon as they know them all.
    case migrate
    /// The same at once: what the backup does not know is reset.
    case migrateNow = "migrate-now"
}

/// A back-end that gets no new flows by the operator's wish, until the wish is taken back.
public struct Drain: Hashable, Sendable {
    public enum Phase: Hashable, Sendable {
        /// It serves what it has.
        case draining
        /// Told to fence itself.
        case yielding(SlotID, session: SessionID)
        /// It is silent; its slots are on their way to new owners.
        case moving
        /// Nothing is left: it may be restarted.
        case drained
    }

    public var backend: BackendID
    public var mode: DrainMode
    public var since: Instant
    public var phase = Phase.draining
}

/// Why a drain has not come further, for people.
public enum DrainObstacle: String, Hashable, Sendable {
    /// Flows are left, and are waited for.
    case flows
    /// No backup could take over now.
    case noBackup = "no-backup"
    /// The backup began to listen after some flows did: it cannot continue those.
    case backupIncomplete = "backup-incomplete"
    /// The back-end is not heard, or a take-over by it is under way.
    case unsettled
    /// Its slots are being taken over.
    case takeOver = "take-over"
}

/// Planned take-overs: the healthy owner fences itself first, so that nobody has to wait for a lease.
extension DirectorMachine {
    /// What is on its way to a back-end when its new flows cease is given this time to arrive.
    static let drainPause = Interval.milliseconds(100)
    /// How long a new life waits for its backups to listen before it gets flows without them.
    static let openingPatience = Interval.milliseconds(200)

    mutating func drain(_ name: String, _ mode: DrainMode, now: Instant, into effects: inout [DirectorEffect]) {
        guard let id = backend(named: name) else { return }
        if let index = drains.firstIndex(where: { $0.backend == id }) {
            drains[index].mode = mode
        } else {
            drains.append(Drain(backend: id, mode: mode, since: now))
            drains.sort { $0.backend < $1.backend }
            effects.append(.log(.drainBegun(name, mode)))
        }
        // The record is safe, and the new flows have ceased, before anything is moved.
        publishSlots(into: &effects)
        updatePlans(into: &effects)
        advanceDrains(now: now, into: &effects)
    }

    mutating func undrain(_ name: String, now: Instant, into effects: inout [DirectorEffect]) {
        guard let id = backend(named: name), drains.contains(where: { $0.backend == id }) else { return }
        drains.removeAll { $0.backend == id }
        effects.append(.log(.drainEnded(name)))
        publishSlots(into: &effects)
        rebuild(now: now, into: &effects)
        assignSlots(now: now, into: &effects)
    }

    // MARK: Look-ups

    func isDraining(_ id: BackendID) -> Bool { drains.contains { $0.backend == id } }

    /// It has left the ring by the operator's wish: no backup of anybody, and nobody's successor.
    func hasLeft(_ id: BackendID) -> Bool { drains.contains { $0.backend == id && $0.phase != .draining } }

    func hasLeft(slot: SlotID) -> Bool { slotIndex(slot).map { hasLeft(slots[$0].home) } ?? false }

    /// Whether a backup has listened to all flows that a slot still has.
    func knowsAll(_ backup: Backup, of slot: Slot) -> Bool {
        guard let listening = backup.listeningSince else { return false }
        guard let opened = slot.openedAt else { return true }
        return listening <= opened || (slot.emptyAt.map { listening <= $0 } ?? false)
    }

    /// Flows of all slots that a back-end serves, as of the last count; nil when none was made since the drain began.
    public func flowsLeft(_ drain: Drain) -> Int? {
        guard let countedAt, countedAt >= drain.since else { return nil }
        guard let member = memberIndex(drain.backend) else { return 0 }
        return held(by: members[member].slot).reduce(0) { $0 + Int(slots[$1].busy) }
    }

    /// What the drain waits for; nil when it is done.
    public func obstacle(_ drain: Drain, now: Instant) -> DrainObstacle? {
        switch drain.phase {
        case .drained: return nil
        case .yielding, .moving: return .takeOver
        case .draining: break
        }
        guard let left = flowsLeft(drain), let member = memberIndex(drain.backend).map({ members[$0] }) else {
            return .unsettled
        }
        if drain.mode == .wait || left == 0 { return left == 0 ? nil : .flows }
        let held = held(by: member.slot)
        guard member.condition == .present, member.session != nil,
            held.allSatisfy({ slots[$0].holder == .owned(by: member.slot) })
        else { return .unsettled }
        for index in held where slots[index].busy > 0 {
            guard let heir = candidate(for: slots[index], contenders: [], now: now),
                let backup = slots[index].backups.first(where: { $0.slot == heir.slot })
            else { return .noBackup }
            if drain.mode == .migrate, !knowsAll(backup, of: slots[index]) { return .backupIncomplete }
        }
        return nil
    }

    // MARK: Steps

    mutating func advanceDrains(now: Instant, into effects: inout [DirectorEffect]) {
        // Back-ends of the records may not have come back yet, and the old plans are still in force.
        guard graceUntil == nil else { return }
        for index in drains.indices {
            let drain = drains[index]
            switch drain.phase {
            case .drained: break
            case .draining: advance(index, now: now, into: &effects)
            case .yielding(let slot, let session):
                guard let member = memberIndex(slot: slot) else {
                    drains[index].phase = .moving
                    settleDrain(index, now: now, into: &effects)
                    continue
                }
                // The session that carried the order is gone: the same life may not have had it.
                if let new = members[member].session, new != session { yield(index, member, into: &effects) }
            case .moving: settleDrain(index, now: now, into: &effects)
            }
        }
    }

    private mutating func advance(_ index: Int, now: Instant, into effects: inout [DirectorEffect]) {
        let drain = drains[index]
        guard now - drain.since >= Self.drainPause else { return }
        guard let member = memberIndex(drain.backend) else {
            // It has died meanwhile, or was not there: what it had is taken over as after any failure.
            drains[index].phase = .moving
            settleDrain(index, now: now, into: &effects)
            return
        }
        guard obstacle(drain, now: now) == nil else { return }
        if flowsLeft(drain) == 0 {
            drains[index].phase = .drained
            effects.append(.log(.drained(name(of: drain.backend))))
            rebuild(now: now, into: &effects)
        } else {
            yield(index, member, into: &effects)
        }
    }

    private mutating func yield(_ index: Int, _ member: Int, into effects: inout [DirectorEffect]) {
        guard let session = members[member].session else { return }
        let slot = members[member].slot
        drains[index].phase = .yielding(slot, session: session)
        effects.append(.send(.yield(Fence(slot: slot, epoch: epoch)), to: session))
        effects.append(.log(.yieldOrdered(name(of: drains[index].backend), slot)))
    }

    private mutating func settleDrain(_ index: Int, now: Instant, into effects: inout [DirectorEffect]) {
        let id = drains[index].backend
        let waiting = slots.contains { slot in
            guard slot.failure?.victim == id || slot.home == id else { return false }
            switch slot.holder {
            case .takingOver: return true
            case .nobody: return hasProspect(slot, contenders: slot.contenders)
            case .owned, .retired: return false
            }
        }
        guard !waiting else { return }
        drains[index].phase = .drained
        effects.append(.log(.drained(name(of: id))))
        rebuild(now: now, into: &effects)
    }

    /// After a restart the records say who was draining, but not how: nothing is moved that nobody asks for again.
    mutating func restoreDrains(_ records: [SlotRecord], now: Instant) {
        for record in records where record.draining {
            guard let id = backend(named: record.backend), !isDraining(id) else { continue }
            drains.append(Drain(backend: id, mode: .wait, since: now))
        }
        drains.sort { $0.backend < $1.backend }
    }

    // MARK: What the backups know

    /// A backup lives by the table that makes it listen.
    mutating func noteListening(_ backup: SlotID, acknowledged: Epoch, now: Instant) {
        for index in slots.indices {
            for place in slots[index].backups.indices
            where slots[index].backups[place].slot == backup && slots[index].backups[place].since <= acknowledged
                && slots[index].backups[place].listeningSince == nil {
                slots[index].backups[place].listeningSince = now
            }
        }
    }

    /// Whether a new life may get its first flows: they would be unprotected before its backups listen.
    func mayOpen(_ member: Member, _ slot: Slot) -> Bool {
        if slot.openedAt != nil || clock - member.settledAt >= Self.openingPatience { return true }
        return slot.backups.allSatisfy { $0.listeningSince != nil }
    }
}
