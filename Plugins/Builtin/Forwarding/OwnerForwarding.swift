import ModuleInterfaces

/// Every frame of a flow goes to its slot's owner alone: for services that need no take-over. No backup hears of their
/// connections, and they end with their server, as behind any other balancer.
public struct OwnerForwarding: ForwardingModule {
    public init() {}

    public var dataPlaneNumber: UInt8 { 3 }
    public var usesGroups: Bool { false }

    static let descriptor = ModuleDescriptor<ForwardingFactory>(
        name: "owner",
        version: BuiltinModules.version,
        summary: "every frame to the owner alone; such connections are not taken over",
        make: { OwnerForwarding() }
    )
}
