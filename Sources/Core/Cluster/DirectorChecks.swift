import Model
import ModuleInterfaces
import Wire

/// A service that does not pass the director's own checks at a back-end.
struct FailingService: Hashable, Sendable {
    var backend: BackendID
    var service: ServiceID
}

/// What the director's own checks change: who gets new flows. Flows stay where they are, and nothing is taken over.
extension DirectorMachine {
    mutating func checked(
        _ service: ServiceID, at name: String, pass: Bool, into effects: inout [DirectorEffect]
    ) {
        guard let id = backend(named: name) else { return }
        let subject = FailingService(backend: id, service: service)
        if pass {
            failing.removeAll { $0 == subject }
        } else if !failing.contains(subject) {
            failing.append(subject)
        }
        updatePlans(into: &effects)
    }

    /// Whether the director's own checks of the service fail there.
    public func isFailing(_ service: ServiceID, at id: BackendID) -> Bool {
        failing.contains(FailingService(backend: id, service: service))
    }

    /// The service's plan for these back-ends: the policy's for all but the one that stands by for it.
    func plan(
        _ service: ServiceConfiguration, for backends: [DispatchBackend], into effects: inout [DirectorEffect]
    ) -> DispatchPlan {
        let sorry = service.sorry.flatMap(backend(named:))
        let isSorry = { (backend: DispatchBackend) in
            sorry != nil && slotIndex(backend.slot).map { slots[$0].home } == sorry
        }
        let others = backends.filter { !isSorry($0) }
        var plan = service.policy.plan(for: others)
        if let fault = plan.fault(for: others) {
            effects.append(.log(.planRefused(service.description.name, fault)))
            plan = .nobody
        }
        if !plan.kind.usesCandidates, plan.kind == .counter || plan.fallsBack {
            // Where the table shows none but full slots, whoever has room shall have the flow.
            let placed = Set(plan.table)
            plan.candidates = others.filter { placed.contains($0.slot) }.map(DispatchPlan.Candidate.init)
        }
        plan.sorry = backends.first(where: isSorry)?.slot
        return plan
    }
}
