import ModuleInterfaces

/// The back-end with the fewest flows for its weight, as LVS `wlc`.
public struct WeightedLeastConnection: DispatchPolicy {
    public init() {}

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        DispatchPlan(kind: .least, candidates: DispatchPlan.Candidate.all(of: backends), rule: .overhead)
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "wlc",
        version: BuiltinModules.version,
        summary: "weighted least connections: the fewest flows for its weight",
        make: { _ in WeightedLeastConnection() }
    )
}
