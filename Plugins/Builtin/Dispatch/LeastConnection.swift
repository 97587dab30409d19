import ModuleInterfaces

/// The back-end with the fewest active flows, as LVS `lc`: a flow that its client has closed counts one 256th of an
/// active one. Weights only say who takes part.
public struct LeastConnection: DispatchPolicy {
    public init() {}

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        var candidates = DispatchPlan.Candidate.all(of: backends)
        for index in candidates.indices { candidates[index].weight = 1 }
        return DispatchPlan(kind: .least, candidates: candidates, rule: .overhead)
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "lc",
        version: BuiltinModules.version,
        summary: "least connections: the back-end with the fewest flows",
        make: { _ in LeastConnection() }
    )
}
