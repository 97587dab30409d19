import ModuleInterfaces

/// The back-end of the highest weight that is up, as LVS `fo`; the next one stands by.
public struct WeightedFailover: DispatchPolicy {
    public init() {}

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        DispatchPlan(kind: .first, candidates: DispatchPlan.Candidate.byWeight(backends), rule: .any)
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "fo",
        version: BuiltinModules.version,
        summary: "failover: the back-end of the highest weight that is up",
        make: { _ in WeightedFailover() }
    )
}
