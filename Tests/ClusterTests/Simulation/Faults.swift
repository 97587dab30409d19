import Model
import Wire

@testable import Cluster
@testable import SimulationKit

/// What befalls the cluster, and what ends it again.
enum Fault {
    case cut(from: Int, to: Int)
    case freeze(Int, until: TrueTime)
    case killProcess(Int, downtime: TrueTime)
    /// Process and kernel.
    case powerOff(Int, downtime: TrueTime)
    case applicationCrash(Int, downtime: TrueTime)
    case stopAgent(Int, downtime: TrueTime)
    case drain(Int, DrainMode)
}

extension World {
    static let faultsEnd: TrueTime = 3_000_000_000

    /// Draws the disturbances of this seed: which kinds at all, then how many and where.
    func drawFaults() {
        let kinds = (0..<8).filter { _ in random.chance(1, in: 2) }
        plan.loss = random.pick([0, 0, 50, 500, 2000])
        plan.doubling = random.pick([0, 0, 300])
        plan.lateness = random.pick([0, 0, 100, 1000])
        plan.deathBetweenEffects = random.chance(1, in: 4) ? 5 : 0
        guard !kinds.isEmpty else { return }
        for _ in 0..<random.number(1...8) {
            let time = random.milliseconds(300...2900)
            for fault in drawFault(random.pick(kinds)) {
                queue.push(.fault(fault), at: time)
                if case .cut = fault {
                    queue.push(.heal(fault), at: min(Self.faultsEnd, time + random.milliseconds(20...2000)))
                }
            }
        }
    }

    private func drawFault(_ kind: Int) -> [Fault] {
        let node = random.number(0...plan.agents)
        let agent = random.number(1...plan.agents)
        let downtime = random.milliseconds(5...1500)
        switch kind {
        case 0:  // a cable
            return nodes.indices.filter { $0 != node }.flatMap { [.cut(from: node, to: $0), .cut(from: $0, to: node)] }
        case 1:  // one pair, perhaps one way only
            let other = (node + random.number(1...plan.agents)) % nodes.count
            let back: [Fault] = random.chance(1, in: 2) ? [.cut(from: other, to: node)] : []
            return [.cut(from: node, to: other)] + back
        case 2:  // two islands
            let side = nodes.indices.map { _ in random.chance(1, in: 2) }
            return nodes.indices.flatMap { from in
                nodes.indices.filter { side[from] != side[$0] }.map { .cut(from: from, to: $0) }
            }
        case 3: return [.freeze(node, until: 0)]
        case 4: return [.killProcess(node, downtime: downtime)]
        case 5: return [.powerOff(agent, downtime: downtime)]
        case 6: return [.applicationCrash(agent, downtime: downtime)]
        default: return [.stopAgent(agent, downtime: downtime)]
        }
    }

    func strike(_ fault: Fault) {
        trace("fault: \(fault)")
        switch fault {
        case .cut(let from, let to): links.cut(from, to)
        case .freeze(let node, _):
            let until = now + random.milliseconds(5...3000)
            nodes[node].frozenUntil = max(nodes[node].frozenUntil, until)
            queue.push(.thaw(node: node), at: until)
        case .killProcess(let node, let downtime):
            kill(node)
            queue.push(.start(node: node), at: now + downtime)
        case .powerOff(let node, let downtime):
            // Nobody hears a FIN of a machine without power.
            nodes[node].powered = false
            nodes[node].process = .dead
            nodes[node].session = nil
            nodes[node].inbox = []
            nodes[node].kernel = Kernel()
            nodes[node].frozenUntil = 0
            queue.push(.heal(fault), at: now + downtime)
        case .applicationCrash(let node, let downtime):
            applicationUp[node] = false
            give(node, .agent(.applicationCrashed(service: "www")))
            queue.push(.heal(fault), at: now + downtime)
        case .drain(let node, let mode): give(0, .director(.drain(name(node), mode)))
        case .stopAgent(let node, let downtime):
            give(node, .agent(.stop))
            kill(node)
            queue.push(.start(node: node), at: now + downtime)
        }
    }

    func heal(_ fault: Fault) {
        switch fault {
        case .cut(let from, let to): links.mend(from, to)
        case .powerOff(let node, _):
            nodes[node].powered = true
            queue.push(.start(node: node), at: now)
        case .applicationCrash(let node, _): applicationUp[node] = true
        case .drain(let node, _): give(0, .director(.undrain(name(node))))
        case .freeze, .killProcess, .stopAgent: break
        }
    }

    /// After this nothing goes wrong any more.
    func calm() {
        plan.loss = 0
        plan.doubling = 0
        plan.lateness = 0
        plan.deathBetweenEffects = 0
    }
}
