import Model
import ModuleInterfaces
import Wire

/// The ring, its tables, and what the data plane and the records are told.
extension DirectorMachine {
    /// Works out the backups anew; where that changes the ring table, a new epoch begins: records first, then tables.
    ///
    /// - Returns: whether a new table was sent.
    @discardableResult
    mutating func rebuild(now: Instant, into effects: inout [DirectorEffect]) -> Bool {
        let successors = ringSuccessors()
        for index in slots.indices { updateBackups(index, successors, now: now) }
        let new = makeTable()
        guard new.members != table.members || new.slots != table.slots else {
            publishSlots(into: &effects)
            return false
        }
        table = new
        epoch = epoch.next
        table.epoch = epoch
        for member in members where member.session != nil { ask(member) }
        publishSlots(into: &effects)
        for member in members {
            if let session = member.session { effects.append(.send(.ring(table), to: session)) }
        }
        return true
    }

    mutating func sendTable(to index: Int, into effects: inout [DirectorEffect]) {
        guard let session = members[index].session else { return }
        ask(members[index])
        publishSlots(into: &effects)
        effects.append(.send(.ring(table), to: session))
    }

    /// Notes whom the agent will ask for its lease once it lives by the present table.
    private mutating func ask(_ member: Member) {
        guard let index = slotIndex(member.slot) else { return }
        guard !slots[index].asked.contains(where: { $0.epoch == epoch }) else { return }
        let backups = table.requiredBackups(of: member.id).map(\.slot)
        slots[index].asked.append(AskedSet(epoch: epoch, backups: backups))
        // An agent that acknowledges nothing: two sets become their intersection, which promises less than either.
        guard slots[index].asked.count > 16 else { return }
        let older = slots[index].asked.remove(at: 0)
        slots[index].asked[0].backups.removeAll { !older.backups.contains($0) }
    }

    /// For each member that is heard, the slots of its successors.
    private func ringSuccessors() -> [(member: SlotID, successors: [SlotID])] {
        guard let configuration else { return [] }
        let order = configuration.backends.compactMap { backend(named: $0.name) }
        let present = members.filter { $0.condition == .present && !hasLeft($0.id) }
        let ring = order.filter { id in present.contains { $0.id == id } }
        let answer = configuration.ring.backups(of: ring, count: configuration.backups)
        return zip(ring, answer).compactMap { id, backups in
            guard let index = memberIndex(id) else { return nil }
            let slots = backups.filter { $0 != id }.compactMap { memberIndex($0).map { members[$0].slot } }
            return (members[index].slot, slots)
        }
    }

    /// Who was a backup stays one for a while after the ring has moved on, and stays first until its successor has copied
    /// what it missed: it alone knows the connections that are older than the change ([Z] II-D leaves these unprotected).
    private mutating func updateBackups(
        _ index: Int,
        _ successors: [(member: SlotID, successors: [SlotID])],
        now: Instant
    ) {
        guard slots[index].holder != .retired else { return }
        let holder = holderSlot(slots[index])
        var backups = slots[index].backups.filter {
            $0.slot != holder && memberIndex(slot: $0.slot) != nil && !hasLeft(slot: $0.slot)
        }
        if let wanted = successors.first(where: { $0.member == holder })?.successors {
            for place in backups.indices {
                if wanted.contains(backups[place].slot) {
                    backups[place].until = nil
                } else if backups[place].until == nil {
                    backups[place].until = now + timings.retention
                }
            }
            backups.removeAll { $0.until.map { $0 <= now } ?? false }
            for slot in wanted where !backups.contains(where: { $0.slot == slot }) {
                backups.append(Backup(slot: slot, since: epoch.next))
            }
        }
        while backups.count > Limits.backups {
            let former = backups.indices.filter { backups[$0].until != nil }
            let first = former.min { (backups[$0].until ?? .never) < (backups[$1].until ?? .never) }
            backups.remove(at: first ?? backups.count - 1)
        }
        let wanted = successors.first { $0.member == holder }?.successors ?? []
        slots[index].backups = inOrder(backups, of: slots[index], wanted: wanted)
        slots[index].protection.removeAll { report in !backups.contains { $0.slot == report.backup } }
    }

    /// Who takes over first: those that know every connection, in the order of the ring ([Z] II-B), then the others, who
    /// has listened longest first (docs/design/0009-order-of-backups.md).
    private func inOrder(_ backups: [Backup], of slot: Slot, wanted: [SlotID]) -> [Backup] {
        let known = backups.filter { isComplete($0, of: slot) }
        let ring = wanted.compactMap { next in known.first { $0.slot == next } }
        let former = known.filter { backup in !wanted.contains(backup.slot) }
        return ring + former + backups.filter { backup in !known.contains { $0.slot == backup.slot } }
    }

    /// It has listened from the beginning, or has copied what it had missed.
    private func isComplete(_ backup: Backup, of slot: Slot) -> Bool {
        if knowsAll(backup, of: slot) { return true }
        return slot.protection.contains { $0.backup == backup.slot && $0.report.phase == .synchronised }
    }

    mutating func dropFormerBackups(now: Instant, into effects: inout [DirectorEffect]) {
        let expired = slots.contains { slot in slot.backups.contains { $0.until.map { $0 <= now } ?? false } }
        if expired { rebuild(now: now, into: &effects) }
    }

    private func makeTable() -> RingTable {
        let entries = slots.filter { $0.holder != .retired }.map { slot in
            RingTable.SlotEntry(
                slot: slot.id,
                primary: slot.home,
                owner: holderSlot(slot).flatMap(memberIndex(slot:)).map { members[$0].id },
                backups: slot.backups.compactMap { memberIndex(slot: $0.slot).map { members[$0].id } },
                state: state(of: slot)
            )
        }
        let listed = members.compactMap { member -> RingTable.Member? in
            guard let slot = slotIndex(member.slot).map({ slots[$0] }) else { return nil }
            return RingTable.Member(
                id: member.id,
                name: name(of: member.id),
                life: slot.life,
                slot: slot.id,
                address: slot.address,
                mac: slot.mac ?? MACAddress(rawValue: 0),
                present: member.condition == .present
            )
        }
        return RingTable(epoch: epoch, members: listed, slots: entries)
    }

    // MARK: Data plane and records

    /// Tells the edge every slot whose publication has changed.
    mutating func publishSlots(into effects: inout [DirectorEffect]) {
        let all = slots.map(publication)
        // Both rise by slot.
        var former = published[...]
        for publication in all {
            former = former.drop { $0.slot < publication.slot }
            if former.first != publication { effects.append(.publish(publication)) }
        }
        published = all
    }

    private func publication(of slot: Slot) -> SlotPublication {
        let owner = holderSlot(slot)
        let settled: Bool
        switch slot.holder {
        case .owned: settled = true
        case .takingOver, .nobody, .retired: settled = false
        }
        let record = SlotRecord(
            slot: slot.id,
            state: state(of: slot),
            backend: name(of: slot.home),
            life: slot.life,
            owner: owner,
            ownerName: owner.map(ownerName) ?? "",
            epoch: epoch,
            proven: proven(slot.id, since: Epoch(rawValue: 0)),
            contenders: slot.contenders.map(\.slot),
            draining: isDraining(slot.home)
        )
        return SlotPublication(
            slot: slot.id,
            owner: settled ? owner.flatMap(slotIndex).flatMap { slots[$0].mac } : nil,
            group: slot.id.group,
            members: groupMembers(of: slot, owner: owner),
            active: slot.reachable && owner != nil,
            takeOver: slot.reachable && owner != nil && !settled || isHeld(slot),
            record: record
        )
    }

    /// Nobody has the slot, but a backup that lives may soon: after a director's restart it has still to come back. Its
    /// clients are kept waiting until then, for a RST cannot be taken back.
    private func isHeld(_ slot: Slot) -> Bool {
        slot.holder == .nobody && hasProspect(slot, contenders: slot.contenders)
    }

    /// The same machines that the table names as owner and backups, in the order in which copies are sent.
    private func groupMembers(of slot: Slot, owner: SlotID?) -> [MACAddress]? {
        guard let owner else { return nil }
        let backups = slot.backups.map(\.slot).filter { $0 != owner && memberIndex(slot: $0) != nil }
        var addresses: [MACAddress] = []
        for member in backups + [owner] {
            guard let address = slotIndex(member).flatMap({ slots[$0].mac }) else { return nil }
            if !addresses.contains(address) { addresses.append(address) }
        }
        return addresses
    }

    /// The dispatch plan of each service, told when it changes.
    ///
    /// After a restart the data plane's old plans stay until every back-end of the records has come back or the grace
    /// is over: a back-end that is only late must not lose its new flows to the first that came.
    mutating func updatePlans(into effects: inout [DirectorEffect]) {
        guard let configuration else { return }
        if graceUntil != nil, members.contains(where: { $0.lastHeartbeat == nil }) { return }
        let backends = configuration.services.map { ($0.description.id, dispatchBackends($0.description.id)) }
        // Some tables take milliseconds to make, and this is asked at every tick.
        let isSame = planned.count == backends.count && zip(planned, backends).allSatisfy {
            $0.service == $1.0 && $0.backends == $1.1
        }
        if isSame { return }
        planned = backends.map { (service: $0.0, backends: $0.1) }
        var new: [(service: ServiceID, plan: DispatchPlan)] = []
        for (service, backends) in zip(configuration.services, planned) {
            let plan = plan(service, for: backends.backends, into: &effects)
            new.append((service.description.id, plan))
            for slot in (plan.slots + [plan.sorry].compactMap { $0 }).lazy.compactMap(slotIndex) where slots[slot].openedAt == nil {
                slots[slot].openedAt = clock
            }
        }
        for former in plans where !new.contains(where: { $0.service == former.service }) {
            effects.append(.plan(former.service, .nobody))
        }
        for (service, plan) in new where plans.first(where: { $0.service == service })?.plan != plan {
            effects.append(.plan(service, plan))
        }
        plans = new
    }

    private func dispatchBackends(_ service: ServiceID) -> [DispatchBackend] {
        let chosen = members.compactMap { member -> DispatchBackend? in
            guard member.settledIn, member.condition == .present, member.healthy.contains(service),
                !isDraining(member.id), !isFailing(service, at: member.id), let slot = slotIndex(member.slot), mayOpen(member, slots[slot]),
                let backend = self.configuration(of: member.id)
            else { return nil }
            let takenOver = slots.filter { $0.id != member.slot && holderSlot($0) == member.slot }.map(\.id)
            return DispatchBackend(slot: member.slot, weight: backend.weight, takenOver: takenOver)
        }
        return chosen.sorted { $0.slot < $1.slot }
    }
}
