import ModuleInterfaces

/// Every frame of a flow goes to its slot's group ([Z] III-A).
public struct MulticastForwarding: ForwardingModule {
    public init() {}

    public var dataPlaneNumber: UInt8 { 1 }
    public var usesGroups: Bool { true }

    static let descriptor = ModuleDescriptor<ForwardingFactory>(
        name: "multicast",
        version: BuiltinModules.version,
        summary: "every frame to the slot's group",
        make: { MulticastForwarding() }
    )
}
