import ModuleInterfaces

/// The first back-end without an active flow, else as `sed`: LVS `nq`.
public struct NeverQueue: DispatchPolicy {
    public init() {}

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        DispatchPlan(kind: .least, candidates: DispatchPlan.Candidate.all(of: backends), rule: .idleFirst)
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "nq",
        version: BuiltinModules.version,
        summary: "never queue: an idle back-end first, else as sed",
        make: { _ in NeverQueue() }
    )
}
