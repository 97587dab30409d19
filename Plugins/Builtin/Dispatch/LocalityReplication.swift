import ModuleInterfaces

/// As `lblc`, but an overloaded destination keeps its back-ends and gets one more, up to eight, as LVS `lblcr`.
///
/// The least loaded of its back-ends gets the flow. A set that has not changed for a day loses its most loaded one.
public struct LocalityReplication: DispatchPolicy {
    public init() {}

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        DispatchPlan(
            kind: .cacheSet,
            candidates: DispatchPlan.Candidate.all(of: backends),
            rule: .overhead,
            cacheSeconds: 86_400
        )
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "lblcr",
        version: BuiltinModules.version,
        summary: "the same with replication: an overloaded destination gets one more back-end",
        make: { _ in LocalityReplication() }
    )
}
