import Model
import ModuleInterfaces

/// Fills the table of a hash after Eisenbud et al., *Maglev: A Fast and Reliable Software Network Load Balancer* (NSDI
/// 2016), 3.4, with weights as IPVS `mh` has them (net/netfilter/ipvs/ip_vs_mh.c).
///
/// Each back-end walks the places in an order of its own (an offset and a stride by hashes of its slot), and has as
/// many steps in a round as its weight says. It differs from the paper in one thing: a step onto a place that is taken is
/// lost, where Maglev goes on to the next free place; and a back-end that has its share stops. So a place belongs to
/// whoever comes to it first, which does not change when another leaves. Maglev's own rule moves up to 0.95 % of the
/// others' places at 65,537 (measured, at 500 back-ends), this one under 0.5 % (docs/design/0010-dispatch-plans.md).
enum MaglevTable {
    /// The primes that IPVS knows (ip_vs_mh.c, `primes`), as far as a plan may be long, and the 65,537 of the paper.
    static let sizes = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 65537, 131_071]

    /// A back-end on its way through the places.
    private struct Walker {
        var slot: UInt16
        var place: Int
        var stride: Int
        /// Steps in a round.
        var steps: Int
        /// Places that it may still take.
        var room: Int
    }

    /// - Parameter size: a prime, so that every stride comes to every place.
    /// - Complexity: about size * ln(size) steps of one to four nanoseconds.
    static func fill(_ backends: [DispatchBackend], size: Int) -> [SlotID] {
        let chosen = backends.filter { $0.weight > 0 }
        guard !chosen.isEmpty else { return [] }
        var walkers = self.walkers(chosen, size: size)
        let free = UInt16.max
        var table = [UInt16](repeating: free, count: size)
        var left = size
        // One place for each, whatever its weight.
        for index in walkers.indices where left > 0 {
            while table[walkers[index].place] != free { step(&walkers[index], size) }
            take(&walkers[index], &table, &left)
        }
        while left > 0 {
            for index in walkers.indices {
                for _ in 0..<walkers[index].steps where left > 0 && walkers[index].room > 0 {
                    if table[walkers[index].place] == free { take(&walkers[index], &table, &left) }
                    step(&walkers[index], size)
                }
            }
        }
        return table.map { SlotID(rawValue: $0) }
    }

    private static func take(_ walker: inout Walker, _ table: inout [UInt16], _ left: inout Int) {
        table[walker.place] = walker.slot
        walker.room -= 1
        left -= 1
    }

    private static func step(_ walker: inout Walker, _ size: Int) {
        walker.place += walker.stride
        if walker.place >= size { walker.place -= size }
    }

    private static func walkers(_ backends: [DispatchBackend], size: Int) -> [Walker] {
        let total = backends.reduce(0) { $0 + Int($1.weight) }
        let steps = self.steps(backends.map { Int($0.weight) }, size: size)
        return zip(backends, steps).map { backend, steps in
            let slot = backend.slot.rawValue
            return Walker(
                slot: slot,
                place: Int(mix(UInt64(slot)) % UInt64(size)),
                stride: 1 + Int(mix(UInt64(slot) | 1 << 32) % UInt64(size - 1)),
                steps: steps,
                // Rounded up, so that together they fill the table.
                room: size * Int(backend.weight) / total + 1
            )
        }
    }

    /// The weights in their smallest proportions; halved until a round fits many times into the table. Nobody's fall
    /// to 0.
    private static func steps(_ weights: [Int], size: Int) -> [Int] {
        let divisor = weights.reduce(0) { WeightedRoundRobin.greatestCommonDivisor($0, $1) }
        var steps = weights.map { $0 / divisor }
        while steps.reduce(0, +) > size / 8, steps.contains(where: { $0 > 1 }) { steps = steps.map { max(1, $0 / 2) } }
        return steps
    }

    /// The finaliser of SplitMix64. Wraps on purpose.
    private static func mix(_ value: UInt64) -> UInt64 {
        var word = value &+ 0x9e37_79b9_7f4a_7c15
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }
}

extension ModuleKey {
    /// Of `sh` and `mh`, as LVS's flags sh-port, mh-port, sh-fallback and mh-fallback.
    static let port = ModuleKey(name: "port", documentation: "hash the client's port too; default false")
    static let fallback = ModuleKey(
        name: "fallback", documentation: "hash again where the back-end found takes no flows; default false")
}
