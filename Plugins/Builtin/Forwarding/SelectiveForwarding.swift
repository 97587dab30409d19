import ModuleInterfaces

/// To the group goes what carries SYN, FIN, RST or data, and the ACK that completes the handshake; other pure ACKs go
/// to the owner alone ([Z] III-B).
public struct SelectiveForwarding: ForwardingModule {
    public init() {}

    public var dataPlaneNumber: UInt8 { 2 }
    public var usesGroups: Bool { true }

    static let descriptor = ModuleDescriptor<ForwardingFactory>(
        name: "selective",
        version: BuiltinModules.version,
        summary: "pure ACKs to the owner alone, everything else to the slot's group",
        make: { SelectiveForwarding() }
    )
}
