import Model
import Wire

/// What backups say of the slots that they back up: for `batonctl`, and for the order in which they take over.
extension DirectorMachine {
    /// One backup's view of one slot.
    public struct Protection: Hashable, Sendable {
        /// The slot of the backup's own life.
        public var backup: SlotID
        public var report: SlotProtection
    }

    mutating func received(
        _ reports: [SlotProtection],
        member index: Int,
        now: Instant,
        into effects: inout [DirectorEffect]
    ) {
        let backup = members[index].slot
        var hasCompleted = false
        for report in reports {
            guard let slot = slotIndex(report.slot), slots[slot].backups.contains(where: { $0.slot == backup }) else {
                continue
            }
            let former = slots[slot].protection.first { $0.backup == backup }?.report.phase
            if report.phase == .synchronised, former != .synchronised { hasCompleted = true }
            slots[slot].protection.removeAll { $0.backup == backup }
            slots[slot].protection.append(Protection(backup: backup, report: report))
        }
        if hasCompleted { rebuild(now: now, into: &effects) }
    }

    /// The reports of a slot's present backups, in the order of the backups.
    public func protection(of id: SlotID) -> [(backup: String, report: SlotProtection)] {
        guard let index = slotIndex(id) else { return [] }
        return slots[index].backups.compactMap { backup in
            slots[index].protection.first { $0.backup == backup.slot }.map { (ownerName(backup.slot), $0.report) }
        }
    }
}
