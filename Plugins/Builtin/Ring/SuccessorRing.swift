import Model
import ModuleInterfaces

/// The backups of a member are the next ones of the ring ([Z] II-B).
public struct SuccessorRing: RingModule {
    public init() {}

    public func backups(of members: [BackendID], count: Int) -> [[BackendID]] {
        let others = max(0, min(count, members.count - 1))
        return members.indices.map { index in
            (0..<others).map { members[(index + 1 + $0) % members.count] }
        }
    }

    static let descriptor = ModuleDescriptor<RingFactory>(
        name: "successor",
        version: BuiltinModules.version,
        summary: "the next back-ends of the list back one up",
        make: { SuccessorRing() }
    )
}
