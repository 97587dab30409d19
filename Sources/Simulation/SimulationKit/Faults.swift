import Cluster
import Model
import Wire

/// A disturbance that has struck, and what has to be undone.
enum Fault {
    case power(Int)
    case cuts([(from: Int, to: Int)])
    case frozen(Int)
    case process(Int)
}

extension Simulation {
    private static let singles: [Disturbance] = [
        .power, .power, .cable, .freeze, .application, .application, .agent, .director, .directorFreeze, .oneWay,
    ]

    /// Draws what goes wrong: mostly at a moment that matters to some client.
    func drawFaults() {
        let count = scenario.faults ?? random.pick([0, 1, 1, 2, 3])
        let kinds = scenario.kinds.isEmpty ? Self.singles + (count > 1 && !scenario.succession ? [.islands] : []) : scenario.kinds
        for number in 0..<count {
            let client = random.number(0...scenario.clients - 1)
            let plan = clients[client].plan
            var trigger: PlannedFault.Trigger
            switch scenario.succession && number > 0 ? 10 : random.number(0...(number == 0 ? 7 : 9)) {
            case 10: trigger = .protected(client: client, delay: random.microseconds(0...60_000))
            case 0: trigger = .at(random.microseconds(100_000...1_200_000))
            case 1, 2: trigger = .started(client: client, delay: random.microseconds(0...60_000))
            case 3...7:
                let bytes = random.number(0...max(plan.replyBytes - 1, 0))
                trigger = .received(client: client, bytes: bytes, delay: random.microseconds(0...3_000))
            case _: trigger = .takingOver(delay: random.microseconds(0...60_000))
            }
            if scenario.strikesLast, number == 0 {
                trigger = .answered(client: client, delay: random.microseconds(0...60_000))
            }
            let victim: PlannedFault.Victim
            if scenario.strikesTaker, number > 0 {
                trigger = .takingOver(delay: random.microseconds(0...3_000))
                victim = .taker
            } else if case .takingOver = trigger, random.chance(1, in: 2) {
                victim = .taker
            } else {
                victim = random.chance(1, in: 6) ? .agent(random.number(1...scenario.agents)) : .owner
            }
            faults.append(
                PlannedFault(
                    kind: random.pick(kinds), trigger: trigger, victim: victim,
                    duration: random.microseconds(5_000...1_800_000)))
        }
        activeFaults = faults.count
        for (index, fault) in faults.enumerated() {
            if case .at(let time) = fault.trigger { arm(index, time) }
        }
    }

    func arm(_ index: Int, _ time: TrueTime) {
        guard faults[index].isArmed else { return }
        faults[index].isArmed = false
        queue.push(.fault(index), at: time)
    }

    /// Fires the faults whose trigger answers with a delay.
    func trigger(_ delay: (PlannedFault.Trigger) -> TrueTime?) {
        guard activeFaults > 0 else { return }
        for index in faults.indices where faults[index].isArmed {
            if let delay = delay(faults[index].trigger) { arm(index, now + delay) }
        }
    }

    /// Faults that wait for what will not come any more.
    func disarm() {
        for index in faults.indices where faults[index].isArmed {
            faults[index].isArmed = false
            activeFaults -= 1
        }
    }

    private func victim(of fault: PlannedFault) -> Int {
        switch fault.victim {
        case .agent(let host): return host
        case .taker: return checker.lastTaker ?? 1
        case .owner:
            var client = 0
            switch fault.trigger {
            case .started(let index, _): client = index
            case .received(let index, _, _): client = index
            case .protected(let index, _): client = index
            case .answered(let index, _): client = index
            case .at, .takingOver: break
            }
            return plane.slot(of: clients[client].plan.flow).flatMap { checker.talkers[$0] } ?? 1
        }
    }

    func strike(_ index: Int) {
        let fault = faults[index]
        let host = victim(of: fault)
        counts.faults += 1
        checker.disturbedAt = now
        noteProtection(victim: host)
        trace("FAULT \(fault.kind) of \(hosts[host].name) for \(fault.duration / 1_000_000) ms")
        let node = hosts[host]
        let healed: Fault
        switch fault.kind {
        case .power:
            powerOff(host)
            healed = .power(host)
        case .cable:
            let others = (0...hosts.count).filter { $0 != host }
            healed = cut(others.flatMap { [(from: host, to: $0), (from: $0, to: host)] })
        case .freeze:
            node.frozenUntil = max(node.frozenUntil, now + fault.duration)
            healed = .frozen(host)
        case .application:
            if node.application != nil {
                node.application = nil
                node.kernel?.applicationDied()
            }
            healed = .process(host)
        case .agent:
            killAgent(host)
            healed = .process(host)
        case .director:
            if director != nil {
                closeSessions(of: 0)
                director = nil
                trace("director dies")
            }
            healed = .process(0)
        case .directorFreeze:
            hosts[0].frozenUntil = max(hosts[0].frozenUntil, now + fault.duration)
            healed = .frozen(0)
        case .oneWay:
            let other = (host + random.number(1...hosts.count)) % (hosts.count + 1)
            let pair = random.chance(1, in: 2) ? (from: host, to: other) : (from: other, to: host)
            healed = cut([pair])
        case .islands:
            let side = (0...hosts.count).map { _ in random.chance(1, in: 2) }
            healed = cut(
                side.indices.flatMap { from in
                    side.indices.filter { side[from] != side[$0] }.map { (from: from, to: $0) }
                })
        }
        queue.push(.heal(healed), at: now + fault.duration)
    }

    private func cut(_ pairs: [(from: Int, to: Int)]) -> Fault {
        for pair in pairs { links.cut(pair.from, pair.to) }
        return .cuts(pairs)
    }

    func heal(_ fault: Fault) {
        activeFaults -= 1
        checker.disturbedAt = now
        if scenario.succession { queue.push(.watch(since: now), at: now) }
        trace("healed: \(fault)")
        switch fault {
        case .power(let host): powerOn(host, after: 0)
        case .cuts(let pairs): for pair in pairs { links.mend(pair.from, pair.to) }
        case .frozen(let host): thaw(host)
        case .process(let host):
            if host == 0 {
                startDirector()
            } else {
                startAgent(host)
                startApplication(host)
            }
        }
    }

    private func powerOff(_ host: Int) {
        let node = hosts[host]
        // Nobody hears a FIN of a machine without power.
        for index in sessions.indices where sessions[index].host == host {
            sessions[index].up.items = []
            sessions[index].down.deaf = true
        }
        node.powered = false
        node.agent = nil
        node.data = nil
        node.application = nil
        node.kernel = nil
        node.session = nil
        node.frozenUntil = 0
        node.kernelLife += 1
    }

    func powerOn(_ host: Int, after delay: TrueTime) {
        let node = hosts[host]
        guard node.kernel == nil else { return }
        node.powered = true
        node.kernelLife += 1
        node.kernel = ModelKernel(self, host: host)
        startApplication(host)
        queue.push(.startAgent(host), at: now + delay)
    }
}
