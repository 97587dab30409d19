import Model
import ModuleInterfaces

/// In proportion to the weights, evenly interleaved, as LVS `wrr`.
///
/// The smooth variant (each turn adds its weight to every back-end and picks the highest) rather than LVS's, which
/// sends the heaviest back-end its surplus in one run.
public struct WeightedRoundRobin: DispatchPolicy {
    public init() {}

    public func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        let weights = Self.reduced(backends.filter { $0.weight > 0 })
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
        return DispatchPlan(kind: .counter, table: table)
    }

    /// The smallest weights of the same proportions; scaled down, at least to 1, where their sum is above a plan's
    /// bound.
    private static func reduced(_ backends: [DispatchBackend]) -> [(slot: SlotID, weight: Int)] {
        let divisor = backends.reduce(0) { greatestCommonDivisor($0, Int($1.weight)) }
        guard divisor > 0 else { return [] }
        var weights = backends.map { (slot: $0.slot, weight: Int($0.weight) / divisor) }
        let total = weights.reduce(0) { $0 + $1.weight }
        // Room for those that are rounded up to 1.
        let room = DispatchPlan.longestTable - weights.count
        if total > room {
            for index in weights.indices { weights[index].weight = max(1, weights[index].weight * room / total) }
        }
        return weights
    }

    private static func greatestCommonDivisor(_ left: Int, _ right: Int) -> Int {
        var (high, low) = (left, right)
        while low != 0 { (high, low) = (low, high % low) }
        return high
    }

    static let descriptor = ModuleDescriptor<DispatchFactory>(
        name: "wrr",
        version: BuiltinModules.version,
        summary: "weighted round robin: in proportion to the weights",
        make: { WeightedRoundRobin() }
    )
}
