import ModuleInterfaces

/// A destination stays with its back-end, for the sake of that one's cache, as LVS `lblc`.
///
/// Another is chosen as by `wlc` when that one is down, or when it has more active flows than its weight while some
/// back-end has fewer than half of its own. A destination is forgotten after a day, as in LVS.
public struct LocalityLeastConnection: DispatchPolicy {
    public init() {}

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        DispatchPlan(
            kind: .cache, candidates: DispatchPlan.Candidate.all(of: backends), rule: .overhead, cacheSeconds: 86_400)
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "lblc",
        version: BuiltinModules.version,
        summary: "locality-based least connections: a destination stays with its back-end",
        make: { _ in LocalityLeastConnection() }
    )
}
