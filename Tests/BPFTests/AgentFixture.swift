import BPFObjects
import CContract
import Glibc
import LinuxBPF
import Model
import Testing

/// The agent's programs and maps in the kernel, attached to nothing, with one connection that tests describe.
///
/// Places of the reply stream are counted from ISS + 1, as in contract.h; `sequence` and `clientSequence` make the
/// numbers of a header from them.
final class AgentFixture {
    static let vip = IPAddress(ipv4: 0x0a00_0001)
    static let vip6 = IPAddress(high: 0x2001_0db8_0000_0000, low: 1)
    /// Without an Ethernet header bytes 12 and 13, where a test run looks for the type, lie in the client's address:
    /// these two say IPv4 and IPv6 there.
    static let client = IPAddress(ipv4: 0x0800_0064)
    static let client6 = IPAddress(high: 0x2001_0db8_86dd_0001, low: 0x64)
    static let reflectedMark: UInt32 = 0xba70_c0de

    enum Verdict: UInt32 {
        case pass = 0
        case drop = 2
        case redirect = 7
    }

    struct Outcome {
        var verdict: Verdict?
        var bytes: [UInt8]
        var mark: UInt32
        /// Nil when lengths or checksums are wrong.
        var frame: AgentFrame? { AgentFrame(bytes) }
    }

    /// As the agent's data plane has them.
    struct Address: BitwiseCopyable, Hashable {
        var high: UInt64
        var low: UInt64
        init(_ address: IPAddress) {
            high = address.high.bigEndian
            low = address.low.bigEndian
        }
    }

    let connections: BPFMap<baton_connection_key, baton_connection>
    let guarded: BPFMap<baton_connection_key, UInt64>
    let vips: BPFMap<Address, UInt32>
    let rules: BPFMap<UInt32, baton_agent_rules>
    let counters: BPFCounters
    let ingress: BPFProgram
    let egress: BPFProgram
    let tun: BPFProgram
    let tracepoint: BPFProgram
    let exitTracepoint: BPFProgram
    private var ring: BPFRingBuffer?
    private let heard = Heard()
    let isIPv6: Bool
    let iss: UInt32
    let irs: UInt32

    private final class Heard {
        var events: [baton_event] = []
    }

    init(isIPv6: Bool = false, iss: UInt32 = 5000, irs: UInt32 = 90_000, namespace: UInt32 = 0) throws {
        try Requirement.root()
        self.isIPv6 = isIPv6
        self.iss = iss
        self.irs = irs
        var object = try BPFObjectHandle(.agent)
        try object.setMaxEntries(of: "connections", 64)
        try object.setConstant("own_netns_inode", namespace)
        try object.load()
        connections = try object.map("connections")
        guarded = try object.map("guarded")
        vips = try object.map("vips")
        rules = try object.map("rules")
        counters = try object.counters("counters")
        ingress = try object.program("agent_ingress")
        egress = try object.program("agent_egress")
        tun = try object.program("agent_tun")
        tracepoint = try object.program("agent_guard")
        exitTracepoint = try object.program("agent_exit")
        ring = try object.ringBuffer("events") { [heard] bytes in
            heard.events.append(bytes.loadUnaligned(as: baton_event.self))
        }
        for address in [AgentFixture.vip, AgentFixture.vip6] { try vips.put(Address(address), 1) }
        try setLease(until: .max)
    }

    var client: IPAddress { isIPv6 ? AgentFixture.client6 : AgentFixture.client }
    var service: IPAddress { isIPv6 ? AgentFixture.vip6 : AgentFixture.vip }
    var key: baton_connection_key {
        baton_connection_key(client: client, clientPort: 40000, service: service, servicePort: 80)
    }

    // MARK: State

    func setLease(until: UInt64, fenced: UInt64 = 0) throws {
        try rules.put(0, baton_agent_rules(lease_until_ns: until, fenced: fenced))
    }

    /// A connection in the given state: the client has 10,000 bytes of the reply and room for 20,000 more; the adopted
    /// socket has sent 4,000 and acknowledged 100 bytes of the request, with room for 64,000.
    func install(_ state: baton_connection_state, _ change: (inout baton_connection) -> Void = { _ in }) throws {
        var entry = baton_connection()
        entry.state = state.rawValue
        entry.flags = BATON_CONNECTION_ASSIGNED.rawValue
        entry.iss = iss
        entry.irs = irs
        entry.snd_una = 10_000
        entry.right_edge = 30_000
        entry.snd_nxt = 4000
        entry.client_tsval = 700
        entry.server_tsval = 900
        entry.local_ack = clientSequence(100)
        entry.local_right_edge = clientSequence(64_100)
        entry.mss = 1460
        change(&entry)
        try connections.put(key, entry)
    }

    var entry: baton_connection {
        get throws { try #require(try connections.get(key)) }
    }

    var isKnown: Bool {
        get throws { try connections.get(key) != nil }
    }

    func count(_ counter: baton_agent_counter) throws -> UInt64 {
        try counters.sum(counter.rawValue)[0]
    }

    /// The events since the last call.
    func events() throws -> [baton_event] {
        try ring?.consume()
        defer { heard.events = [] }
        return heard.events
    }

    func kinds() throws -> [baton_event_kind] {
        try events().map { baton_event_kind(rawValue: $0.kind) }
    }

    // MARK: Numbers

    /// Of a place in the reply.
    func sequence(_ place: UInt64) -> UInt32 { iss &+ 1 &+ UInt32(truncatingIfNeeded: place) }
    /// Of a byte of the request.
    func clientSequence(_ place: UInt64) -> UInt32 { irs &+ 1 &+ UInt32(truncatingIfNeeded: place) }

    // MARK: Frames

    /// A pure ACK of the client for all up to a place.
    func acknowledgment(_ place: UInt64, from: UInt64 = 100, window: UInt16 = 20_000) -> AgentPacket {
        AgentPacket(
            client: client, service: service, sequence: clientSequence(from), acknowledgment: sequence(place),
            window: window
        )
    }

    /// A segment of the adopted socket.
    func reply(_ place: UInt64, bytes: Int, flags: TCPFlags = .ack, window: UInt16 = 64_000) -> AgentPacket {
        AgentPacket(
            direction: .fromService, client: client, service: service, sequence: sequence(place),
            acknowledgment: clientSequence(100), flags: flags, window: window,
            payload: Array(repeating: 0x61, count: bytes)
        )
    }

    func receive(_ packet: AgentPacket, mark: UInt32 = 0) throws -> Outcome {
        try run(ingress, packet.bytes(), mark: mark)
    }

    /// - Parameter segmentBytes: what the device is to cut it to; 0 for a segment that is not cut.
    func send(_ packet: AgentPacket, segmentBytes: UInt32 = 0) throws -> Outcome {
        try run(egress, packet.bytes(), segmentBytes: segmentBytes)
    }

    func inject(_ packet: AgentPacket) throws -> Outcome {
        var packet = packet
        packet.hasEthernet = false
        return try run(tun, packet.bytes())
    }

    func run(
        _ program: BPFProgram, _ frame: [UInt8], mark: UInt32 = 0, segmentBytes: UInt32 = 0
    ) throws -> Outcome {
        // struct __sk_buff: mark, gso_size.
        var context = [UInt8](repeating: 0, count: 192)
        withUnsafeBytes(of: mark) { context.replaceSubrange(8..<12, with: $0) }
        withUnsafeBytes(of: segmentBytes) { context.replaceSubrange(176..<180, with: $0) }
        let result = try program.testRun(frame, context: context)
        let after = result.context.withUnsafeBytes { $0.load(fromByteOffset: 8, as: UInt32.self) }
        return Outcome(verdict: Verdict(rawValue: result.verdict), bytes: result.frame, mark: after)
    }
}
