import Model
import Wire

@testable import Cluster
@testable import SimulationKit

/// What must hold at every instant, and what must hold in the end.
extension World {
    /// Whether frames of the VIPs leave this host now.
    func talks(_ node: Int) -> Bool {
        let kernel = nodes[node].kernel
        return nodes[node].powered && !kernel.fenced && kernel.lease.isValid(at: nodes[node].clock.local(now))
    }

    /// At most one host talks for a slot. A lease ends by itself but never begins so: looking after each effect is
    /// looking at every instant.
    func checkTalkers(_ cause: @autoclosure () -> String) {
        var talkers: [SlotID: Int] = [:]
        for node in 1..<nodes.count where talks(node) {
            for slot in nodes[node].kernel.sockets {
                if let other = talkers[slot] {
                    let text = "\(now / 1000) us: \(name(other)) and \(name(node)) talk for \(slot) after \(cause())"
                    trace("VIOLATION \(text)")
                    violations.append(text)
                }
                talkers[slot] = node
            }
        }
    }

    /// After the faults: every agent is a member that may talk, and every slot has an owner that does, or is retired.
    func checkRecovery() {
        guard case .director(let director) = nodes[0].process else {
            violations.append("the director is dead")
            return
        }
        for node in 1..<nodes.count {
            guard case .agent(let agent) = nodes[node].process else {
                violations.append("\(name(node)) is dead")
                continue
            }
            guard case .member(let slot) = agent.standing else {
                violations.append("\(name(node)) is no member but \(agent.standing), session \(agent.session)")
                continue
            }
            if !talks(node) { violations.append("\(name(node)) may not talk") }
            if !director.members.contains(where: { $0.slot == slot && $0.condition == .present }) {
                violations.append("\(name(node)) is unknown to the director")
            }
        }
        for slot in director.slots { checkRecovery(of: slot, director) }
    }

    private func checkRecovery(of slot: DirectorMachine.Slot, _ director: DirectorMachine) {
        switch slot.holder {
        case .retired: break
        case .owned(let owner):
            guard slot.reachable, let member = director.members.first(where: { $0.slot == owner }) else {
                violations.append("\(slot.id) is owned by \(owner), but that is not reachable")
                return
            }
            let node = Int(member.id.rawValue) + 1
            if !nodes[node].kernel.sockets.contains(slot.id) || !talks(node) {
                violations.append("\(slot.id) is owned by \(name(node)), but that does not talk for it")
            }
            guard case .agent(let agent) = nodes[node].process, agent.membership.own.contains(slot.id) else {
                violations.append("\(slot.id) is owned by \(name(node)), but that does not listen to it")
                return
            }
        case .takingOver, .nobody:
            violations.append("\(slot.id) is without an owner: \(slot.holder), contenders \(slot.contenders)")
        }
    }
}
