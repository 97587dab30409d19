import Model
import ModuleInterfaces

/// By the client's address, as LVS `sh`: a client stays with its back-end while the back-ends stay the same.
///
/// Rendezvous hashing fills the table: for each place the slot of the highest score. When a back-end leaves, only its
/// own places change hands.
public struct SourceHash: DispatchPolicy {
    /// Places of the table: enough that each back-end gets its share; primes, so that a weak hash still spreads.
    static func places(for backends: Int) -> Int { backends <= 16 ? 1021 : 8191 }

    public init() {}

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        let chosen = backends.filter { $0.weight > 0 }
        guard let first = chosen.first else { return .nobody }
        let table = (0..<Self.places(for: chosen.count)).map { place in
            var best = (slot: first.slot, score: UInt64(0))
            for backend in chosen {
                let score = Self.mix(UInt64(place) << 16 | UInt64(backend.slot.rawValue))
                if score > best.score { best = (backend.slot, score) }
            }
            return best.slot
        }
        return DispatchPlan(kind: .hashSource, table: table)
    }

    /// The finaliser of SplitMix64. Wraps on purpose.
    private static func mix(_ value: UInt64) -> UInt64 {
        var word = value &+ 0x9e37_79b9_7f4a_7c15
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "sh",
        version: BuiltinModules.version,
        summary: "source hash: by the client's address",
        make: { SourceHash() }
    )
}
