import ModuleInterfaces

/// The back-end of the highest weight until it has more active flows than its weight, then the next: LVS `ovf`. Where
/// all are full, a SYN finds no back-end.
public struct WeightedOverflow: DispatchPolicy {
    public init() {}

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        DispatchPlan(kind: .first, candidates: DispatchPlan.Candidate.byWeight(backends), rule: .overflow)
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "ovf",
        version: BuiltinModules.version,
        summary: "overflow: the highest weight until it has more active flows than that, then the next",
        make: { _ in WeightedOverflow() }
    )
}
