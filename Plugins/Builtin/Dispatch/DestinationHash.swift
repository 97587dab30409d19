import ModuleInterfaces

/// By the service's address, as LVS `dh`: for services that are many addresses, such as caches. A service of one VIP
/// has one back-end under it. As in LVS, weights only say who takes part.
public struct DestinationHash: DispatchPolicy {
    static let size = 8191

    public init() {}

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        var equals = backends.filter { $0.weight > 0 }
        for index in equals.indices { equals[index].weight = 1 }
        return DispatchPlan(kind: .hashDestination, table: MaglevTable.fill(equals, size: Self.size))
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "dh",
        version: BuiltinModules.version,
        summary: "destination hash: by the service's address",
        make: { _ in DestinationHash() }
    )
}
