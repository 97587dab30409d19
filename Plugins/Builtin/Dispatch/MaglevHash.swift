import ModuleInterfaces

/// By the client's address over a Maglev table, as LVS `mh`: each back-end has its share, and next to nothing but the
/// places of a back-end that leaves changes hands.
public struct MaglevHash: DispatchPolicy {
    /// The paper's smaller table; LVS's default is 4093.
    static let usualSize = 65_537

    let size: Int
    let usesPort: Bool
    let fallsBack: Bool

    /// - Parameters:
    ///   - size: one of `MaglevTable.sizes`.
    ///   - usesPort: LVS's flag mh-port: the client's port is hashed too.
    ///   - fallsBack: LVS's flag mh-fallback: another back-end where the one found takes no flows.
    init(size: Int = usualSize, usesPort: Bool = false, fallsBack: Bool = false) {
        self.size = size
        self.usesPort = usesPort
        self.fallsBack = fallsBack
    }

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        DispatchPlan(
            kind: usesPort ? .hashClient : .hashSource,
            table: MaglevTable.fill(backends, size: size),
            fallsBack: fallsBack
        )
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "mh",
        version: BuiltinModules.version,
        summary: "Maglev hash: by the client's address, little moves when a back-end comes or goes",
        keys: [
            .port, .fallback,
            ModuleKey(
                name: "size", documentation: "places of the table; default 65537", kind: .number(MaglevTable.sizes)),
        ],
        make: {
            MaglevHash(
                size: $0.number("size", default: usualSize),
                usesPort: $0.flag("port"),
                fallsBack: $0.flag("fallback")
            )
        }
    )
}
