import Model
import ModuleInterfaces
import Wire

/// The way back after a restart: what the records say, and nobody condemned before he had the time to come back.
extension DirectorMachine {
    mutating func restore(_ records: [SlotRecord], now: Instant, into effects: inout [DirectorEffect]) {
        guard let configuration, slots.isEmpty, !records.isEmpty else { return }
        for record in records.sorted(by: { $0.slot < $1.slot }).prefix(Limits.slots) {
            guard !slots.contains(where: { $0.id == record.slot }) else { continue }
            epoch = max(epoch, record.epoch)
            slots.append(slot(from: record, now: now))
        }
        graceUntil = now + timings.grace
        awaitMembers(configuration, now: now)
        restoreDrains(records, now: now)
        for index in slots.indices {
            // Who has listened since when is not in the records.
            slots[index].openedAt = now
            reconcile(index)
        }
        for index in slots.indices { slots[index].backups = restoredBackups(of: slots[index]) }
    }

    private mutating func slot(from record: SlotRecord, now: Instant) -> Slot {
        if !names.contains(record.backend), names.count < Limits.backends { names.append(record.backend) }
        let home = names.firstIndex(of: record.backend) ?? Int(BackendID.director.rawValue)
        let id = BackendID(rawValue: UInt16(truncatingIfNeeded: home))
        let first = Epoch(rawValue: 0)
        var slot = Slot(
            id: record.slot,
            home: id,
            life: record.life,
            address: configuration(of: id)?.address ?? IPAddress(high: 0, low: 0),
            holder: .nobody,
            reachable: false,
            contenders: record.contenders.prefix(SlotRecord.contenderLimit).map { Contender(slot: $0, since: first) },
            asked: [AskedSet(epoch: first, backups: Array(record.proven.prefix(SlotRecord.provenLimit)))],
            // The former run may have echoed until the moment of its death.
            promisedUntil: now + ControlProtocol.longestLease
        )
        switch (record.state, record.owner) {
        case (.retired, _):
            slot.holder = .retired
            slot.restingSince = now
            slot.contenders = []
        case (.active, _):
            slot.holder = .owned(by: record.slot)
        case (.takenOver, let owner?):
            slot.holder = .owned(by: owner)
        case (.takingOver, let owner?):
            slot.holder = .takingOver(by: owner)
        case (.orphaned, let owner?):
            let contested = slot.contenders.contains { $0.slot == owner }
            slot.holder = contested ? .takingOver(by: owner) : .owned(by: owner)
        case (.takenOver, nil), (.takingOver, nil), (.orphaned, nil):
            break
        }
        slot.reachable = record.state != .orphaned && slot.holder != .nobody && slot.holder != .retired
        return slot
    }

    /// Lives that were not condemned are members whose heartbeats are awaited until the end of the grace.
    private mutating func awaitMembers(_ configuration: DirectorConfiguration, now: Instant) {
        let parameters = DetectorParameters(
            interval: timings.heartbeatInterval,
            window: timings.window,
            start: now + timings.grace - timings.window
        )
        // Where records contradict one another, the higher slot is the later life.
        for slot in slots.reversed() where slot.holder == .owned(by: slot.id) {
            guard memberIndex(slot.home) == nil, slot.home != .director else { continue }
            members.append(
                Member(id: slot.home, slot: slot.id, session: nil, detector: configuration.detector(parameters)))
        }
        members.sort { $0.id < $1.id }
    }

    /// A holder that is no member was condemned while the records were being written.
    private mutating func reconcile(_ index: Int) {
        let slot = slots[index]
        switch slot.holder {
        case .retired, .nobody: return
        case .owned(let owner):
            guard memberIndex(slot: owner) == nil else {
                slots[index].contenders = []
                return
            }
            slots[index].contenders = [Contender(slot: owner, since: Epoch(rawValue: 0))]
        case .takingOver(let backup):
            if !slot.contenders.contains(where: { $0.slot == backup }) {
                slots[index].contenders.append(Contender(slot: backup, since: Epoch(rawValue: 0)))
            }
            guard memberIndex(slot: backup) == nil || slots[index].contenders.count > SlotRecord.contenderLimit else {
                return
            }
        }
        slots[index].holder = .nobody
        slots[index].reachable = false
    }

    /// Whom the holder (or the former owner) asks for its lease, as far as the records say: they know its connections.
    private func restoredBackups(of slot: Slot) -> [Backup] {
        let life: SlotID?
        switch slot.holder {
        case .owned(let owner): life = owner
        case .takingOver, .nobody: life = slot.contenders.first?.slot
        case .retired: life = nil
        }
        guard let life else { return [] }
        let holder = holderSlot(slot)
        return proven(life, since: Epoch(rawValue: 0))
            .filter { $0 != holder && $0 != slot.id && memberIndex(slot: $0) != nil }
            .prefix(Limits.backups)
            .map { Backup(slot: $0) }
    }
}
