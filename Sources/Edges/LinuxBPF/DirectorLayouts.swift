import CContract

extension LayoutHistory {
    /// The director's layouts (contract.h, BATON_LAYOUT_VERSION). Who raises the version adds the step to it here, or
    /// leaves it out: then the maps of the former version are refused.
    public static let director = LayoutHistory(steps: [
        // 2 to 3: plans of IPVS's schedulers. `struct baton_service` grew behind its first 16 bytes, and tables came to lie
        // in rows. Flows, slots and their records are the same.
        2: LayoutStep(changes: [
            "services": MapChange(keyBytes: 20, valueBytes: 16) { entries in
                entries.mapValues(to: 32) { value in
                    // Two elements of `candidates` a service; both are empty yet. Behind it zeros: no rule, no persistence.
                    let element = (UInt32(value[value.startIndex]) | UInt32(value[value.startIndex + 1]) << 8) * 2
                    let bytes = (0..<4).map { UInt8(truncatingIfNeeded: element >> UInt32($0 * 8)) }
                    return Array(value) + bytes + [UInt8](repeating: 0, count: 12)
                }
            },
            "plan": MapChange(keyBytes: 4, valueBytes: 2, convert: rows),
        ])
    ])

    /// The agent's maps, which no version has changed so far.
    public static let agent = LayoutHistory(steps: [2: LayoutStep()])

    /// Places, one an element, in rows of 32; the kernel lists an array in its order.
    private static let rows: @Sendable (RawEntries) -> RawEntries = { places in
        let row = 32
        let count = places.count / row
        var keys: [UInt8] = []
        keys.reserveCapacity(count * 4)
        for number in 0..<UInt32(count) { for shift in [0, 8, 16, 24] as [UInt32] { keys.append(UInt8(truncatingIfNeeded: number >> shift)) } }
        return RawEntries(
            keyBytes: 4, valueBytes: row * 2, keys: keys, values: Array(places.values.prefix(count * row * 2)))
    }
}
