import Model
import Wire

/// Orders to take a slot over: silence of every contender first, then the take-over, then the reports.
extension AgentMachine {
    mutating func ordered(_ order: TakeOverOrder, now: Instant, into effects: inout [AgentEffect]) {
        guard case .member = standing, let table, let backend = director?.backend, table.epoch >= order.epoch,
            table.slots.contains(where: { $0.slot == order.slot && $0.owner == backend })
        else {
            unexpected("an order for a slot that the ring table does not give to this agent", into: &effects)
            return
        }
        condemn(order.contenders)
        if let index = settled.firstIndex(where: { $0.slot == order.slot }) {
            settled[index].epoch = order.epoch
            effects.append(.send(.takeOverReport(settled[index])))
            return
        }
        let existing = orders.firstIndex { $0.slot == order.slot }
        if let existing, orders[existing].started {
            orders[existing].epoch = order.epoch
            report(fencedOrder: orders[existing], into: &effects)
            return
        }
        let known = existing.map { orders[$0].contenders } ?? []
        let waiting = order.contenders.map { contender in
            // The same order again (the director was restarted): what has been waited out stays so.
            known.first { $0.contender.life == contender.life } ?? wait(contender, holdOff: order.holdOff, now: now)
        }
        if let existing {
            orders[existing].epoch = order.epoch
            orders[existing].contenders = waiting
        } else {
            guard orders.count + settled.count < Limits.slots else {
                effects.append(.log(.limitReached("orders")))
                return
            }
            orders.append(
                Order(slot: order.slot, epoch: order.epoch, orderedAt: now, contenders: waiting, started: false))
            effects.append(.log(.takeOverOrdered(order.slot, contenders: order.contenders.map(\.id))))
        }
        if let groups = self.table.map({ membership(in: $0, backend: backend) }) {
            setMembership(groups, into: &effects)
        }
        demandFences(now: now, into: &effects)
        advanceOrders(now: now, into: &effects)
    }

    private mutating func condemn(_ contenders: [TakeOverOrder.Contender]) {
        for contender in contenders where !condemned.contains(contender.life) {
            condemned.append(contender.life)
        }
        let oldest = condemned.count - Limits.slots * 2
        if oldest > 0 { condemned.removeFirst(oldest) }
    }

    /// A contender's lease may live on this agent's own echoes, and on the director's (`holdOff`).
    private func wait(
        _ contender: TakeOverOrder.Contender,
        holdOff: Interval,
        now: Instant
    ) -> Order.Waiting {
        let promised = peers.first { $0.id == contender.id && $0.life == contender.life }?.promisedUntil ?? now
        let until = max(promised, holdOff > .zero ? now + Drift.covering(holdOff) : now)
        return Order.Waiting(contender: contender, until: until, acknowledged: false)
    }

    /// Sent with every heartbeat until it is acknowledged or no longer needed.
    mutating func demandFences(now: Instant, into effects: inout [AgentEffect]) {
        for order in orders where !order.started {
            for waiting in order.contenders where !waiting.acknowledged && waiting.until > now {
                let fence = Fence(slot: order.slot, epoch: order.epoch)
                let contender = waiting.contender
                send(.fenceDemand(fence), to: contender.address, life: contender.life, now: now, into: &effects)
            }
        }
    }

    mutating func acknowledged(
        _ fence: Fence,
        by datagram: Datagram,
        now: Instant,
        into effects: inout [AgentEffect]
    ) {
        // A life that is silent is so for all its slots.
        var used = false
        for order in orders.indices {
            for index in orders[order].contenders.indices
            where orders[order].contenders[index].contender.life == datagram.senderLife
                && !orders[order].contenders[index].acknowledged {
                orders[order].contenders[index].acknowledged = true
                used = true
            }
        }
        guard used else { return }
        effects.append(.log(.fenceAcknowledged(fence.slot, by: datagram.sender)))
        advanceOrders(now: now, into: &effects)
    }

    /// Starts what waits for nobody any more. Without a lease nothing would leave, so that is waited for as well.
    mutating func advanceOrders(now: Instant, into effects: inout [AgentEffect]) {
        guard lease.isValid(at: now), !fenced else { return }
        for index in orders.indices where !orders[index].started {
            guard orders[index].contenders.allSatisfy({ $0.acknowledged || $0.until <= now }) else { continue }
            orders[index].started = true
            let order = orders[index]
            effects.append(.log(.takeOverStarted(order.slot, waited: now - order.orderedAt)))
            effects.append(
                .startTakeOver(TakeOverStart(slot: order.slot, epoch: order.epoch, orderedAt: order.orderedAt)))
            report(fencedOrder: order, started: now, into: &effects)
        }
    }

    private func report(fencedOrder order: Order, started: Instant? = nil, into effects: inout [AgentEffect]) {
        let moments = TakeOverMoments(ordered: order.orderedAt, started: started)
        let report = TakeOverReport(slot: order.slot, epoch: order.epoch, phase: .fenced, moments: moments)
        effects.append(.send(.takeOverReport(report)))
    }

    /// What the local take-over says; passed on, and remembered once settled, since the director may have to ask again.
    mutating func takeOverNews(_ news: TakeOverReport, now: Instant, into effects: inout [AgentEffect]) {
        var report = news
        if let index = settled.firstIndex(where: { $0.slot == news.slot }) {
            report.epoch = settled[index].epoch
            // A settled slot stays settled, whatever comes late.
            if report.phase == .progress || report.phase == .fenced { report.phase = .settled }
            guard report.phase != .failed else {
                unexpected("a settled take-over was said to have failed", into: &effects)
                return
            }
            settled[index] = report
            effects.append(.send(.takeOverReport(report)))
            return
        }
        guard let index = orders.firstIndex(where: { $0.slot == news.slot && $0.started }) else {
            unexpected("news of a take-over that was not started", into: &effects)
            return
        }
        report.epoch = orders[index].epoch
        switch news.phase {
        case .fenced, .progress: break
        case .settled, .finished:
            orders.remove(at: index)
            settled.append(report)
            regroup(into: &effects)
        case .failed:
            orders.remove(at: index)
            regroup(into: &effects)
        }
        effects.append(.send(.takeOverReport(report)))
    }

    private mutating func regroup(into effects: inout [AgentEffect]) {
        guard let table, let backend = director?.backend else { return }
        setMembership(membership(in: table, backend: backend), into: &effects)
    }
}
