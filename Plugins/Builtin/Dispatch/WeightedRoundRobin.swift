import Model
import ModuleInterfaces

/// In proportion to the weights, evenly interleaved, as LVS `wrr`.
///
/// The smooth variant (each turn adds its weight to every back-end and picks the highest) rather than LVS's, which
/// sends the heaviest back-end its surplus in one run. Over a whole round each has its share in both.
public struct WeightedRoundRobin: DispatchPolicy {
    public init() {}

    /// Places of the longest table.
    static let longestTable = 8192

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        DispatchPlan(kind: .counter, table: Self.table(for: backends))
    }

    /// Every back-end with a weight in proportion to it, evenly interleaved.
    static func table(for backends: [DispatchBackend]) -> [SlotID] {
        let weights = reduced(backends.filter { $0.weight > 0 })
        let total = weights.reduce(0) { $0 + $1.weight }
        var credit = Array(repeating: 0, count: weights.count)
        var table: [SlotID] = []
        table.reserveCapacity(total)
        for _ in 0..<total {
            var best = 0
            for index in weights.indices {
                credit[index] += weights[index].weight
                if credit[index] > credit[best] { best = index }
            }
            credit[best] -= total
            table.append(weights[best].slot)
        }
        return table
    }

    /// The smallest weights of the same proportions; scaled down, at least to 1, where their sum is above the table's
    /// bound.
    private static func reduced(_ backends: [DispatchBackend]) -> [(slot: SlotID, weight: Int)] {
        let divisor = backends.reduce(0) { greatestCommonDivisor($0, Int($1.weight)) }
        guard divisor > 0 else { return [] }
        var weights = backends.map { (slot: $0.slot, weight: Int($0.weight) / divisor) }
        let total = weights.reduce(0) { $0 + $1.weight }
        if total > longestTable {
            // Room for those that are rounded up to 1.
            let room = longestTable - weights.count
            for index in weights.indices { weights[index].weight = max(1, weights[index].weight * room / total) }
        }
        return weights
    }

    static func greatestCommonDivisor(_ left: Int, _ right: Int) -> Int {
        var (high, low) = (left, right)
        while low != 0 { (high, low) = (low, high % low) }
        return high
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "wrr",
        version: BuiltinModules.version,
        summary: "weighted round robin: in proportion to the weights",
        make: { _ in WeightedRoundRobin() }
    )
}
