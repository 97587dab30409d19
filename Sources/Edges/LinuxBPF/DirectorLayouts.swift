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
        ]),
        // 3 to 4: services of several ports. A flow's key has the service's port, `struct baton_service` the idle time of
        // UDP behind the rest, and there are two counters more.
        3: LayoutStep(
            changes: [
                "services": MapChange(keyBytes: 20, valueBytes: 32) { entries in
                    entries.mapValues(to: 40) { Array($0) + [UInt8](repeating: 0, count: 8) }
                },
                "flows": flowsWithPorts,
                "half_open": flowsWithPorts,
            ],
            dropped: ["counters", "answers"]
        ),
    ])

    /// The agent's maps, which no version has changed so far.
    public static let agent = LayoutHistory(steps: [2: LayoutStep(), 3: LayoutStep()])

    /// A service had one port, which stands in its key (at 16); its number begins its value, and stands at 18 of a flow's
    /// key. The last two bytes of that, at 22, were zeros.
    private static let flowsWithPorts = MapChange(
        keyBytes: 24, valueBytes: 16, isWrittenByPrograms: true, reads: ["services"]
    ) { flows, others in
        guard let services = others["services"] else { return flows }
        let number = { (bytes: [UInt8], place: Int) in Int(bytes[place]) | Int(bytes[place + 1]) << 8 }
        var ports: [Int: (UInt8, UInt8)] = [:]
        for place in 0..<services.count {
            let key = place * services.keyBytes
            let port = (services.keys[key + 16], services.keys[key + 17])
            ports[number(services.values, place * services.valueBytes)] = port
        }
        var converted = flows
        for start in stride(from: 0, to: flows.keys.count, by: 24) {
            guard let port = ports[number(flows.keys, start + 18)] else { continue }
            (converted.keys[start + 22], converted.keys[start + 23]) = port
        }
        return converted
    }

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
