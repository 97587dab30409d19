import ModuleInterfaces

/// By the client's address, as LVS `sh`: a client stays with its back-end while the back-ends stay the same, and most
/// clients stay when one comes or goes.
public struct SourceHash: DispatchPolicy {
    /// Places of the table: enough that each of 256 back-ends gets its share.
    static let size = 8191

    let usesPort: Bool
    let fallsBack: Bool

    /// - Parameters:
    ///   - usesPort: LVS's flag sh-port: the client's port is hashed too.
    ///   - fallsBack: LVS's flag sh-fallback: another back-end where the one found takes no flows.
    public init(usesPort: Bool = false, fallsBack: Bool = false) {
        self.usesPort = usesPort
        self.fallsBack = fallsBack
    }

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        DispatchPlan(
            kind: usesPort ? .hashClient : .hashSource,
            table: MaglevTable.fill(backends, size: Self.size),
            fallsBack: fallsBack
        )
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "sh",
        version: BuiltinModules.version,
        summary: "source hash: by the client's address",
        keys: [.port, .fallback],
        make: { SourceHash(usesPort: $0.flag("port"), fallsBack: $0.flag("fallback")) }
    )
}
