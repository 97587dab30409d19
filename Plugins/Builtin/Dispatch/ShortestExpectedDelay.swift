import ModuleInterfaces

/// The least (active flows + 1) / weight, as LVS `sed`: an idle slow back-end does not get what a fast one would have
/// done sooner.
public struct ShortestExpectedDelay: DispatchPolicy {
    public init() {}

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        DispatchPlan(kind: .least, candidates: DispatchPlan.Candidate.all(of: backends), rule: .delay)
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "sed",
        version: BuiltinModules.version,
        summary: "shortest expected delay: (flows + 1) / weight",
        make: { _ in ShortestExpectedDelay() }
    )
}
