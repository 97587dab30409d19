import ModuleInterfaces

/// One after the other, as LVS `rr`: weights only say who takes part.
public struct RoundRobin: DispatchPolicy {
    public init() {}

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        DispatchPlan(kind: .counter, table: backends.filter { $0.weight > 0 }.map(\.slot))
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "rr",
        version: BuiltinModules.version,
        summary: "round robin: one back-end after the other",
        make: { _ in RoundRobin() }
    )
}
