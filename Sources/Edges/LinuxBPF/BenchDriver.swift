import BPFObjects
public import CContract
import Clibbpf
public import Model

/// Runs XDP programs on the frames of many flows, for `baton-lab bench xdp`.
///
/// All are run behind one small program that writes the next flow's address into the frame; `empty` says what that and the
/// measuring cost by themselves.
public struct BenchDriver: Sendable {
    /// Which flows the frames are of.
    public enum Flows: Hashable, Sendable {
        /// The first `count` addresses, in an order without a pattern.
        case known(Int)
        /// Addresses that no frame had before.
        case new
    }

    /// Does nothing.
    public let empty: BPFProgram
    /// Looks the flow up in `table`, and does nothing else.
    public let lookup: BPFProgram
    /// As the director's `flows`.
    public let table: BPFMap<baton_flow_key, baton_flow>
    private let driver: BPFProgram
    private let measured: BPFMap<UInt32, UInt32>
    private let turns: BPFMap<UInt32, UInt64>

    /// - Parameters:
    ///   - capacity: entries of `table`.
    ///   - address: where the frames are sent to.
    public init(capacity: Int, address: MACAddress) throws(BPFError) {
        var object = try BPFObjectHandle(.bench)
        try object.setMaxEntries(of: "bench_flows", UInt32(capacity))
        try object.setConstant("own_address", address.contract)
        try object.load()
        empty = try object.program("bench_empty")
        lookup = try object.program("bench_lookup")
        driver = try object.program("bench_drive")
        table = try object.map("bench_flows")
        measured = try object.map("measured")
        turns = try object.map(".bss")
    }

    /// The address of a flow's client.
    public static func client(_ number: Int) -> IPAddress {
        IPAddress(ipv4: 0x0b00_0000 &+ UInt32(truncatingIfNeeded: number))
    }

    /// Nanoseconds for one run, those of the driver included; the kernel rounds down.
    ///
    /// - Parameters:
    ///   - frame: Ethernet, IPv4 without options, TCP; the client's address does not matter.
    ///   - start: which turn the first run is.
    public func nanoseconds(
        of program: BPFProgram, _ flows: Flows, frame: [UInt8], repetitions: Int, start: Int
    ) throws(BPFError) -> Int {
        try measured.put(0, UInt32(program.descriptor.number))
        let count: UInt64 = if case .known(let count) = flows { UInt64(count) } else { 0 }
        try turns.put(0, count | UInt64(UInt32(truncatingIfNeeded: start)) << 32)
        let run = try driver.testRun(frame, repetitions: repetitions)
        guard run.verdict == XDP_TX.rawValue else {
            throw BPFError(
                operation: "measure", subject: "eBPF program \(program.name)", code: 0,
                cause: "its verdict was \(run.verdict), not XDP_TX: it did not do what is measured")
        }
        return Int(run.nanoseconds)
    }
}
