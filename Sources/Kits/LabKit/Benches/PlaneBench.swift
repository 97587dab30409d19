import CContract
import LinuxBPF
import Model

/// What the director's XDP program costs for a frame, by BPF_PROG_TEST_RUN, beside a program that does nothing and one that
/// does nothing but one look-up in a map of the same kind and size; and what a flow takes of memory.
///
/// All by turns in one run: ratios and differences are what counts.
public struct PlaneBench: Sendable, Codable {
    /// Of one size of the flow table; medians in nanoseconds, the same small program before each included.
    public struct Size: Sendable, Codable {
        public var flows: Int
        /// A program that does nothing.
        public var empty: Double
        /// `hot`: always the same flow; `spread`: all of them without a pattern, so that caches do not help.
        public var lookupHot: Double
        public var lookupSpread: Double
        public var establishedHot: Double
        public var establishedSpread: Double
        /// A SYN that opens a flow, dispatched by `rr`; the table is as full as it was.
        public var new: Double
        /// What an established hot flow costs more than the empty program and one look-up; the aim is 25.
        public var overLookupHot: Double { establishedHot - lookupHot }
        public var overLookupSpread: Double { establishedSpread - lookupSpread }
        /// Bytes of kernel memory for each place of the table.
        public var bytesPerFlow: Double
        /// Of each round: the noise.
        public var rounds: [[String: Double]]

        enum CodingKeys: String, CodingKey {
            case flows, empty, new, rounds
            case lookupHot = "lookup_hot", lookupSpread = "lookup_spread", establishedHot = "established_hot"
            case establishedSpread = "established_spread", bytesPerFlow = "bytes_per_flow"
        }
    }

    public var unit = "ns"
    public var sizes: [Size]
    /// Differences by size, as the aim is put: established hot flow less empty program and one look-up.
    public var overLookupHot: [String: Double]
    public var overLookupSpread: [String: Double]
    /// Bytes of a flow's key and value in the table, without what the kernel adds.
    public var contentBytes = MemoryLayout<baton_flow_key>.size + MemoryLayout<baton_flow>.size

    enum CodingKeys: String, CodingKey {
        case unit, sizes
        case overLookupHot = "over_lookup_hot", overLookupSpread = "over_lookup_spread", contentBytes = "content_bytes"
    }

    /// Reports readably.
    public var lines: [String] {
        var lines = ["flows       empty  look-up  established  more  |  spread: look-up  established  more  |  new  bytes"]
        for size in sizes {
            let numbers = [
                size.empty, size.lookupHot, size.establishedHot, size.overLookupHot, size.lookupSpread,
                size.establishedSpread, size.overLookupSpread, size.new, size.bytesPerFlow,
            ]
            lines.append("\(size.flows): " + numbers.map { "\(rounded($0, 1))" }.joined(separator: "  "))
        }
        return lines
    }

    public static func run(
        sizes: [Int] = [1, 1_000, 100_000, 1_000_000], rounds: Int = 5, repetitions: Int = 500_000,
        _ progress: (String) -> Void = { _ in }
    ) throws -> PlaneBench {
        let measured = try sizes.map { flows in
            progress("\(flows) flows")
            return try Table(flows: flows).measure(rounds: rounds, repetitions: repetitions)
        }
        return PlaneBench(
            sizes: measured,
            overLookupHot: Dictionary(uniqueKeysWithValues: measured.map { ("\($0.flows)", $0.overLookupHot) }),
            overLookupSpread: Dictionary(uniqueKeysWithValues: measured.map { ("\($0.flows)", $0.overLookupSpread) }))
    }
}

/// A director's data plane with so many flows, and the programs that it is held against.
private struct Table {
    let flows: Int
    let plane: DirectorPlane
    let driver: BenchDriver
    /// New flows of all rounds have addresses of their own.
    let firstNew = 1 << 23

    static let own = MACAddress(rawValue: 0x0200_0000_0001)
    static let vip = IPAddress(ipv4: 0xc000_0264)
    static let clientPort: UInt16 = 40_000

    init(flows: Int) throws {
        self.flows = flows
        // The kernel's LRU hands out places in lots to each CPU: a table that is full to the brim forgets some early.
        let capacity = flows + flows / 8 + 2048
        plane = try DirectorPlane.load(.init(flows: UInt32(capacity), interfaceAddress: Table.own))
        driver = try BenchDriver(capacity: capacity, address: Table.own)
        try plane.putTable([1, 2, 3])
        for slot in UInt16(1)...3 {
            let owner = MACAddress(rawValue: 0x0200_0000_0100 | UInt64(slot))
            let value = baton_slot(
                owner: owner, group: SlotID(rawValue: slot).group, flags: UInt16(BATON_SLOT_ACTIVE.rawValue))
            try plane.slots.put(UInt32(slot), value)
        }
        var service = baton_service()
        service.forwarding = UInt8(BATON_FORWARD_SELECTIVE.rawValue)
        service.plan_length = 3
        try plane.setService(baton_service_key(address: Table.vip, port: 80), service)
        for number in 0..<flows {
            let key = baton_flow_key(
                client: BenchDriver.client(number), clientPort: Table.clientPort, service: 0, servicePort: 80)
            var value = baton_flow()
            value.slot = 1 + UInt16(number % 3)
            value.flags = UInt8(BATON_FLOW_ESTABLISHED.rawValue)
            value.last_seen_ns = Instant.now().nanoseconds
            value.group_time = UInt8(truncatingIfNeeded: value.last_seen_ns >> UInt64(BATON_GROUP_TIME_SHIFT))
            try plane.flows.put(key, value)
            try driver.table.put(key, value)
        }
    }

    func measure(rounds count: Int, repetitions: Int) throws -> PlaneBench.Size {
        let acknowledgment = frame(flags: 0x10)
        let syn = frame(flags: 0x02)
        let parts: [(String, BPFProgram, BenchDriver.Flows, [UInt8])] = [
            ("empty", driver.empty, .known(1), acknowledgment),
            ("lookup_hot", driver.lookup, .known(1), acknowledgment),
            ("established_hot", plane.program, .known(1), acknowledgment),
            ("lookup_spread", driver.lookup, .known(flows), acknowledgment),
            ("established_spread", plane.program, .known(flows), acknowledgment),
        ]
        var rounds: [[String: Double]] = []
        for round in 0..<count {
            var times: [String: Double] = [:]
            for (name, program, which, frame) in parts {
                times[name] = Double(
                    try driver.nanoseconds(
                        of: program, which, frame: frame, repetitions: repetitions, start: round * repetitions))
            }
            rounds.append(times)
        }
        // Last, for these drive the others out of the table. Few, where the table is small.
        for round in 0..<count {
            let runs = min(repetitions, 100_000)
            rounds[round]["new"] = Double(
                try driver.nanoseconds(
                    of: plane.program, .new, frame: syn, repetitions: runs, start: firstNew + round * runs))
        }
        let median = { (name: String) in
            let values = rounds.compactMap { $0[name] }.sorted()
            return values.isEmpty ? 0 : values[values.count / 2]
        }
        return PlaneBench.Size(
            flows: flows, empty: median("empty"), lookupHot: median("lookup_hot"), lookupSpread: median("lookup_spread"),
            establishedHot: median("established_hot"), establishedSpread: median("established_spread"),
            new: median("new"),
            bytesPerFlow: Double(try plane.flows.memoryBytes()) / Double(plane.flows.maxEntries), rounds: rounds)
    }

    /// Ethernet, IPv4, TCP; padded to the least length of a frame.
    private func frame(flags: UInt8) -> [UInt8] {
        let word = { (value: UInt16) in [UInt8(value >> 8), UInt8(value & 0xff)] }
        var frame = Table.own.bytes + [0x02, 0, 0, 0, 0, 9, 0x08, 0x00]
        frame += [0x45, 0] + word(40) + [0, 0, 0x40, 0, 64, 6, 0, 0] + BenchDriver.client(0).bytes.suffix(4)
        frame += Table.vip.bytes.suffix(4)
        frame += word(Table.clientPort) + word(80) + [0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, flags] + word(65535) + [0, 0, 0, 0]
        return frame + [UInt8](repeating: 0, count: 60 - frame.count)
    }
}
