import ModuleInterfaces

/// A unicast copy of every frame of a flow for its owner and for each backup: [Z]'s basic scheme (II-E), which works
/// where multicast does not.
public struct DuplicateForwarding: ForwardingModule {
    public init() {}

    public var dataPlaneNumber: UInt8 { 0 }
    public var usesGroups: Bool { false }

    static let descriptor = ModuleDescriptor<ForwardingFactory>(
        name: "duplicate",
        version: BuiltinModules.version,
        summary: "unicast copies of every frame to the owner and to each backup",
        make: { DuplicateForwarding() }
    )
}
