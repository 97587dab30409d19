import Model
import ModuleInterfaces
import Wire

/// Suspicion, condemnation, and the choice of who takes over.
extension DirectorMachine {
    /// Suspects whom the detector suspects, and gives away what can be given away safely.
    mutating func evaluate(now: Instant, into effects: inout [DirectorEffect]) {
        for index in members.indices {
            let member = members[index]
            guard member.condition == .present, member.detector.suspects(at: now) else { continue }
            members[index].condition = .silent(since: now)
            let silence = member.lastHeartbeat.map { now - $0 } ?? timings.grace
            effects.append(.log(.suspected(name(of: member.id), silent: silence)))
        }
        let idle = members.allSatisfy { $0.condition == .present } && slots.allSatisfy { $0.holder != .nobody }
        if !idle { assignSlots(now: now, into: &effects) }
    }

    /// Finds a new holder for every slot that needs one, until nothing more can be done now.
    ///
    /// A silent life is condemned only when one of its slots finds a backup at the same moment. So a director that is
    /// itself cut off, and hears nobody, condemns nobody: the back-ends go on, and are back when the cut has healed.
    mutating func assignSlots(now: Instant, into effects: inout [DirectorEffect]) {
        // Each round condemns one life.
        for _ in 0...members.count {
            var victim: SlotID?
            for index in members.indices where victim == nil && isReplaceable(members[index], now: now) {
                if isFenced(index, now: now, into: &effects) { victim = members[index].slot }
            }
            guard let victim else { break }
            condemn(victim, .host, now: now, into: &effects)
        }
        for member in members {
            guard case .silent(let since) = member.condition, now - since >= patience else { continue }
            markUnreachable(member, into: &effects)
        }
        var ordered: [SlotID] = []
        for index in slots.indices where slots[index].holder == .nobody {
            if let backup = candidate(for: slots[index], contenders: slots[index].contenders, now: now) {
                let id = slots[index].id
                slots[index].holder = .takingOver(by: backup.slot)
                slots[index].reachable = true
                slots[index].contenders.append(Contender(slot: backup.slot, since: epoch.next))
                ordered.append(id)
            } else {
                settleOrphan(index, now: now, into: &effects)
            }
        }
        rebuild(now: now, into: &effects)
        for id in ordered {
            guard let index = slotIndex(id) else { continue }
            begin(index, now: now, into: &effects)
        }
        updatePlans(into: &effects)
    }

    /// Flows of a silent back-end that nobody can replace are reset only after this: a short silence must not cost
    /// connections that it did not break.
    private var patience: Interval { max(timings.window * 10, .milliseconds(500)) }

    private func isReplaceable(_ member: Member, now: Instant) -> Bool {
        guard case .silent = member.condition else { return false }
        return held(by: member.slot).contains { index in
            candidate(for: slots[index], contenders: contendersWithoutHolder(slots[index]), now: now) != nil
        }
    }

    /// Who may be talking for a slot once its holder is given up.
    private func contendersWithoutHolder(_ slot: Slot) -> [Contender] {
        switch slot.holder {
        case .owned(let owner): [Contender(slot: owner, since: Epoch(rawValue: 0))]
        case .takingOver, .nobody, .retired: slot.contenders
        }
    }

    private mutating func markUnreachable(_ member: Member, into effects: inout [DirectorEffect]) {
        for index in held(by: member.slot) where slots[index].reachable {
            let contenders = contendersWithoutHolder(slots[index])
            guard !hasProspect(slots[index], contenders: contenders) else { continue }
            slots[index].reachable = false
            effects.append(.log(.slotOrphaned(slots[index].id)))
        }
    }

    /// Nobody may have the slot now. When nobody may talk for it either, and nobody can come, it is over.
    private mutating func settleOrphan(_ index: Int, now: Instant, into effects: inout [DirectorEffect]) {
        let slot = slots[index]
        if slot.contenders.isEmpty, !hasProspect(slot, contenders: []) {
            slots[index].holder = .retired
            slots[index].backups = []
            slots[index].restingSince = now
            effects.append(.log(.slotRetired(slot.id)))
        }
    }

    // MARK: Candidates

    /// The backups whose silence certainly ends the lease of a life, in every ring table that it may live by.
    func proven(_ id: SlotID, since: Epoch) -> [SlotID] {
        guard let index = slotIndex(id) else { return [] }
        let sets = slots[index].asked.filter { $0.epoch >= since }
        guard let first = sets.first else { return [] }
        return first.backups.filter { backup in sets.allSatisfy { $0.backups.contains(backup) } }
    }

    private func mayTakeOver(_ backup: SlotID, contenders: [Contender]) -> Bool {
        contenders.allSatisfy { $0.slot != backup && proven($0.slot, since: $0.since).contains(backup) }
    }

    /// The first backup that may have the slot and will hear the order; one whose services are up is preferred.
    func candidate(for slot: Slot, contenders: [Contender], now: Instant) -> Member? {
        guard contenders.count < SlotRecord.contenderLimit else { return nil }
        let able = slot.backups.compactMap { backup -> Member? in
            guard let index = memberIndex(slot: backup.slot), mayTakeOver(backup.slot, contenders: contenders) else {
                return nil
            }
            let member = members[index]
            // Who was told to give everything away gets nothing.
            guard !hasLeft(member.id) else { return nil }
            return member.session != nil && member.settledIn && isFresh(member, now: now) ? member : nil
        }
        let services = configuration?.services.count ?? 0
        let healthy = able.filter { $0.healthy.count >= services }
        return healthy.first { !isDraining($0.id) } ?? healthy.first ?? able.first
    }

    /// Whether a backup that lives may yet be able to take the slot over.
    func hasProspect(_ slot: Slot, contenders: [Contender]) -> Bool {
        guard contenders.count < SlotRecord.contenderLimit else { return false }
        return slot.backups.contains { backup in
            guard let index = memberIndex(slot: backup.slot) else { return false }
            return members[index].condition == .present && !hasLeft(members[index].id)
                && mayTakeOver(backup.slot, contenders: contenders)
        }
    }

    // MARK: Condemning and ordering

    /// Ends a life: its slots need new holders, it is never echoed again, and its agent must come back with a new one.
    mutating func condemn(
        _ life: SlotID,
        _ sign: FailureSign,
        now: Instant,
        into effects: inout [DirectorEffect]
    ) {
        guard let victim = memberIndex(slot: life).map({ members[$0] }) else { return }
        // Nothing had to be detected where the life was told to end.
        let last = sign == .planned ? now : victim.lastHeartbeat ?? now
        let failure = Failure(victim: victim.id, sign: sign, lastHeartbeat: last, detected: now)
        for index in held(by: life) {
            var contenders = contendersWithoutHolder(slots[index])
            // Everything but silence means that the life has fenced itself first.
            if sign != .host { contenders.removeAll { $0.slot == life } }
            slots[index].contenders = contenders
            slots[index].holder = .nobody
            slots[index].reachable = false
            slots[index].restingSince = nil
            slots[index].failure = failure
        }
        if let session = victim.session {
            effects.append(.send(.fence(Fence(slot: life, epoch: epoch)), to: session))
            effects.append(.close(session))
        }
        members.removeAll { $0.slot == life }
        for index in slots.indices { slots[index].backups.removeAll { $0.slot == life } }
        effects.append(.log(.condemned(name(of: victim.id), life, sign)))
    }

    private mutating func begin(_ index: Int, now: Instant, into effects: inout [DirectorEffect]) {
        let slot = slots[index]
        guard case .takingOver(let backup) = slot.holder else { return }
        let failure = slot.failure
        let record = TakeOverRecord(
            slot: slot.id,
            victim: name(of: failure?.victim ?? slot.home),
            backup: ownerName(backup),
            sign: failure?.sign ?? .host,
            lastHeartbeat: failure?.lastHeartbeat ?? now,
            detected: failure?.detected ?? now,
            ordered: now
        )
        takeOvers.append(record)
        if takeOvers.count > Self.takeOverHistory { takeOvers.removeFirst() }
        effects.append(.log(.takeOverOrdered(slot.id, from: record.victim, to: record.backup)))
        sendOrder(index, now: now, into: &effects)
    }

    /// The table that names the backup as the slot's next owner was sent on the same session before.
    mutating func sendOrder(_ index: Int, now: Instant, into effects: inout [DirectorEffect]) {
        let slot = slots[index]
        guard case .takingOver(let backup) = slot.holder, let member = memberIndex(slot: backup),
            let session = members[member].session
        else { return }
        var holdOff = Interval.zero
        var contenders: [TakeOverOrder.Contender] = []
        for contender in slot.contenders where contender.slot != backup {
            guard let home = slotIndex(contender.slot).map({ slots[$0] }) else { continue }
            contenders.append(TakeOverOrder.Contender(id: home.home, life: home.life, address: home.address))
            if home.promisedUntil > now { holdOff = max(holdOff, home.promisedUntil - now) }
        }
        let order = TakeOverOrder(slot: slot.id, epoch: epoch, contenders: contenders, holdOff: holdOff)
        effects.append(.send(.takeOver(order), to: session))
    }

    // MARK: Reports

    mutating func received(
        _ report: TakeOverReport,
        member index: Int,
        now: Instant,
        into effects: inout [DirectorEffect]
    ) {
        let reporter = members[index].slot
        guard let slot = slotIndex(report.slot) else {
            unexpected("a report of an unknown slot", into: &effects)
            return
        }
        let record = takeOvers.lastIndex { $0.slot == report.slot && $0.backup == ownerName(reporter) }
        if let record { merge(report, into: record) }
        guard slots[slot].holder == .takingOver(by: reporter) else {
            if slots[slot].holder == .owned(by: reporter), report.phase == .finished, let record {
                effects.append(.log(.takeOverFinished(takeOvers[record])))
            } else if slots[slot].holder != .owned(by: reporter) {
                unexpected("a report of a slot that the reporter does not take over", into: &effects)
            }
            return
        }
        switch report.phase {
        case .fenced, .progress:
            contestOver(slot, reporter, into: &effects)
        case .settled, .finished:
            slots[slot].holder = .owned(by: reporter)
            slots[slot].contenders = []
            if let record { takeOvers[record].settled = now }
            effects.append(.log(.takeOverSettled(report.slot, by: ownerName(reporter))))
            rebuild(now: now, into: &effects)
            if report.phase == .finished, let record { effects.append(.log(.takeOverFinished(takeOvers[record]))) }
        case .failed:
            slots[slot].holder = .nobody
            slots[slot].reachable = false
            slots[slot].contenders.removeAll { $0.slot == reporter }
            slots[slot].backups.removeAll { $0.slot == reporter }
            effects.append(.log(.takeOverFailed(report.slot, by: ownerName(reporter))))
            assignSlots(now: now, into: &effects)
        }
    }

    /// A later report may know less of the moments than an earlier one (after a restart of the director, say).
    private mutating func merge(_ report: TakeOverReport, into record: Int) {
        guard let former = takeOvers[record].report, former.moments.started != nil, report.moments.started == nil else {
            takeOvers[record].report = report
            return
        }
        var merged = report
        merged.moments.started = former.moments.started
        merged.moments.ordered = report.moments.ordered ?? former.moments.ordered
        takeOvers[record].report = merged
    }

    /// The former owner and everybody ordered before is silent for good: only the reporter may talk.
    private mutating func contestOver(_ slot: Int, _ reporter: SlotID, into effects: inout [DirectorEffect]) {
        guard slots[slot].contenders.contains(where: { $0.slot != reporter }) else { return }
        slots[slot].contenders.removeAll { $0.slot != reporter }
        effects.append(.log(.takeOverFenced(slots[slot].id, by: ownerName(reporter))))
        publishSlots(into: &effects)
    }

    // MARK: Rest

    /// A slot that was taken over and has no flows left is retired after its rest, and free after another.
    mutating func counted(
        _ counts: [SlotFlows],
        begun: Instant?,
        now: Instant,
        into effects: inout [DirectorEffect]
    ) {
        countedAt = begun ?? now
        for index in slots.indices {
            let id = slots[index].id
            let count = counts.first { $0.slot == id }
            slots[index].flows = count?.flows ?? 0
            slots[index].busy = count?.busy ?? 0
            if slots[index].busy == 0 { slots[index].emptyAt = countedAt }
            switch slots[index].holder {
            case .owned(let owner) where owner != id && slots[index].flows == 0:
                let since = slots[index].restingSince ?? now
                slots[index].restingSince = since
                guard now - since >= timings.slotRest else { continue }
                slots[index].holder = .retired
                slots[index].backups = []
                slots[index].restingSince = now
                effects.append(.log(.slotRetired(id)))
            case .owned, .takingOver, .nobody: slots[index].restingSince = nil
            case .retired: break
            }
        }
        rebuild(now: now, into: &effects)
        updatePlans(into: &effects)
    }
}
