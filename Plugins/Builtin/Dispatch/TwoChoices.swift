import ModuleInterfaces

/// The less loaded, by (active flows + 1) / weight, of two back-ends that a hash of the flow draws by weight: nearly as
/// even as `wlc`, at the same price however many back-ends there are. LVS has no such policy.
public struct TwoChoices: DispatchPolicy {
    public init() {}

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        DispatchPlan(
            kind: .twoChoices,
            table: WeightedRoundRobin.table(for: backends),
            candidates: DispatchPlan.Candidate.all(of: backends),
            rule: .delay
        )
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "p2c",
        version: BuiltinModules.version,
        summary: "power of two choices: the less loaded of two drawn by weight",
        make: { _ in TwoChoices() }
    )
}
