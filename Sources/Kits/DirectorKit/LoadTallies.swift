import CContract
import LinuxBPF
import Model
import Wire

/// Active and inactive flows by service and slot, counted in the flow table itself.
///
/// The data plane counts at SYN, FIN and RST. It does not see when the LRU drives a flow out, when one ends without a
/// word, and when a closed one is over: each walk over the table finds the difference, and writes it where the data
/// plane adds it.
struct LoadTallies {
    private let services: [ServiceID]
    /// The index in `services` by number; -1 for others.
    private var index = [Int](repeating: -1, count: Limits.services)
    private var active: [UInt32]
    private var inactive: [UInt32]
    private let before: [baton_loads]

    /// Notes what the data plane has counted, before the walk.
    init(_ plane: DirectorPlane, services: [ServiceID]) throws {
        self.services = services.filter { Int($0.rawValue) < Limits.services }
        active = [UInt32](repeating: 0, count: self.services.count * Limits.slots)
        inactive = active
        for (place, service) in self.services.enumerated() { index[Int(service.rawValue)] = place }
        before = try self.services.map { try plane.loads.get(UInt32($0.rawValue)) ?? baton_loads() }
    }

    mutating func add(service: UInt16, slot: Int, isClosing: Bool) {
        guard Int(service) < index.count, slot < Limits.slots, index[Int(service)] >= 0 else { return }
        let place = index[Int(service)] * Limits.slots + slot
        if isClosing { inactive[place] += 1 } else { active[place] += 1 }
    }

    /// Writes the differences, after the walk. What the data plane counted meanwhile is no difference.
    func correct(_ plane: DirectorPlane) throws {
        for (place, service) in services.enumerated() {
            let key = UInt32(service.rawValue)
            let after = try plane.loads.get(key) ?? baton_loads()
            var corrections = baton_loads()
            for slot in 0..<Limits.slots {
                let (old, new) = (before[place][slot], after[slot])
                let found = (active[place * Limits.slots + slot], inactive[place * Limits.slots + slot])
                corrections[slot] = baton_load(
                    active: Self.correction(found.0, old.active, new.active),
                    inactive: Self.correction(found.1, old.inactive, new.inactive)
                )
            }
            try plane.loadCorrections.put(key, corrections)
        }
    }

    /// What has to be added to a count that was `before` and `after` the walk, which found `found`; modulo 2^32.
    static func correction(_ found: UInt32, _ before: UInt32, _ after: UInt32) -> UInt32 {
        let low = min(Int32(bitPattern: before), Int32(bitPattern: after))
        let high = max(Int32(bitPattern: before), Int32(bitPattern: after))
        let found = Int64(found)
        if found < Int64(low) { return UInt32(truncatingIfNeeded: found - Int64(low)) }
        return found > Int64(high) ? UInt32(truncatingIfNeeded: found - Int64(high)) : 0
    }
}
