import Model
import Wire

@testable import Cluster
@testable import SimulationKit

/// Drains at random instants, and flows that come where the plan sends them and end where it does not.
extension World {
    func drawDrains() {
        for _ in 0..<flowRandom.number(1...4) {
            let node = flowRandom.number(1...plan.agents)
            let mode = flowRandom.pick(DrainMode.allCases)
            let time = flowRandom.milliseconds(300...2900)
            queue.push(.fault(.drain(node, mode)), at: time)
            queue.push(.heal(.drain(node, mode)), at: time + flowRandom.milliseconds(50...1500))
        }
        // A director that was dead or cut off does not hear the operator: he says it again.
        for node in 1...plan.agents {
            for time: TrueTime in [5_400_000_000, 6_000_000_000] {
                queue.push(.heal(.drain(node, .wait)), at: time)
            }
        }
    }

    func countFlows() {
        for slot in flows.keys.sorted() where !dispatch.contains(slot) {
            // A slot whose flows nobody serves any more has none.
            if flowRandom.chance(1, in: 12) { flows[slot] = 0 }
        }
        for slot in dispatch { flows[slot] = 2 }
        let counts = flows.keys.sorted().map { SlotFlows(slot: $0, flows: flows[$0] ?? 0) }
        give(0, .director(.flows(counts, begun: nodes[0].clock.local(now))))
        checkPlan()
        queue.push(.count, at: now + 60_000_000)
    }

    /// A drained back-end is in no plan.
    private func checkPlan() {
        guard case .director(let director) = nodes[0].process, director.graceUntil == nil, !isFrozen(0) else { return }
        for drain in director.drains {
            guard let member = director.members.first(where: { $0.id == drain.backend }) else { continue }
            if dispatch.contains(member.slot) {
                violations.append("\(director.name(of: drain.backend)) is drained, and gets new flows")
            }
        }
    }

    /// Free means: no flow is left to it, neither of its own nor taken over.
    func checkDrained(_ name: String) {
        counts.drained += 1
        guard case .director(let director) = nodes[0].process, let id = director.backendID(name) else { return }
        for entry in director.table.slots where entry.owner == id && flows[entry.slot] ?? 0 > 0 {
            violations.append("\(name) is said to be free with flows of \(entry.slot)")
        }
    }
}
