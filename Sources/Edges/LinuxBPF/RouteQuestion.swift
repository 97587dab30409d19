public import CContract
import Clibbpf
public import Model

/// A frame that a client might send, to ask the data plane what it would do with it.
public struct RouteQuestion: Hashable, Sendable {
    /// What kind of frame; forwarding methods tell them apart.
    public enum Kind: String, Sendable {
        /// Opens a flow.
        case syn
        /// A pure acknowledgment.
        case acknowledgment
        /// An acknowledgment with one byte.
        case data
        /// Of UDP, with one byte.
        case datagram
    }

    public var client: Endpoint
    public var service: Endpoint
    public var kind: Kind
    /// The acknowledgment number. `selective` sends one to the group that is far from the last that went there.
    public var acknowledgment: UInt32 = 1

    /// - Parameters: client and service of one address family.
    public init(client: Endpoint, service: Endpoint, kind: Kind) {
        self.client = client
        self.service = service
        self.kind = kind
    }

    private var segment: [UInt8] {
        let payload: [UInt8] = kind == .data ? [0] : []
        let flags: UInt8 = kind == .syn ? 0x02 : kind == .data ? 0x18 : 0x10
        return Self.word(client.port) + Self.word(service.port) + [0, 0, 0, 1]
            + Self.double(kind == .syn ? 0 : acknowledgment) + [5 << 4, flags] + Self.word(65535) + [0, 0, 0, 0] + payload
    }

    private var datagram: [UInt8] {
        Self.word(client.port) + Self.word(service.port) + Self.word(9) + [0, 0, 0]
    }

    /// Ethernet, IPv4 or IPv6, TCP or UDP, and behind it, as an Ethernet trailer, room for the answer.
    func frame(to destination: MACAddress) -> [UInt8] {
        let (transport, number) = kind == .datagram ? (datagram, UInt8(17)) : (segment, UInt8(6))
        var frame = destination.bytes + [0x02, 0, 0, 0, 0, 1]
        if service.address.isIPv4 {
            frame += [0x08, 0x00, 0x45, 0] + Self.word(UInt16(20 + transport.count)) + [0, 0, 0x40, 0, 64, number, 0, 0]
            frame += client.address.bytes.suffix(4) + service.address.bytes.suffix(4)
        } else {
            frame += [0x86, 0xdd, 0x60, 0, 0, 0] + Self.word(UInt16(transport.count)) + [number, 64]
            frame += client.address.bytes + service.address.bytes
        }
        frame += transport
        let size = Int(BATON_ANSWER_OFFSET) + MemoryLayout<baton_answer>.size
        return frame + [UInt8](repeating: 0, count: max(0, size - frame.count))
    }

    private static func double(_ value: UInt32) -> [UInt8] { word(UInt16(value >> 16)) + word(UInt16(value & 0xffff)) }
    private static func word(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }
}

/// What the data plane would do with a frame.
public struct RouteFinding: Hashable, Sendable {
    /// Where a frame would end.
    public enum Verdict: String, Sendable {
        /// Sent out again, to `destination`.
        case forwarded
        /// Handed to the tc program that makes copies of it.
        case copied
        /// Left to this machine's own stack.
        case stack
        case dropped
    }

    public var verdict: Verdict
    /// The number of the service; nil when the frame is none's.
    public var service: UInt16?
    /// The slot of the flow, or the one that would be chosen; it need not be up.
    public var slot: UInt16?
    /// The flow is known, and keeps its slot.
    public var isExisting: Bool
    /// The client's earlier flows have chosen the slot (persistence).
    public var isPersistent: Bool
    /// Ethernet destination that the frame would leave with.
    public var destination: MACAddress
    /// What would have been counted: places of `enum baton_director_counter`.
    public var counted: Set<Int>

    init(_ run: BPFTestRun) throws(BPFError) {
        let place = Int(BATON_ANSWER_OFFSET)
        guard run.frame.count >= place + MemoryLayout<baton_answer>.size, run.verdict != 0 else {
            throw BPFError(
                operation: "ask", subject: "eBPF program baton_route", code: 0, cause: "it gave no answer",
                remedy: "the build is broken: build again")
        }
        let (answer, counts) = run.frame.withUnsafeBytes { bytes in
            let answer = bytes.loadUnaligned(fromByteOffset: place, as: baton_answer.self)
            let first = place + (MemoryLayout<baton_answer>.offset(of: \.counts) ?? 8)
            let counts = (0..<Int(BATON_DIRECTOR_COUNTERS.rawValue)).filter {
                bytes.loadUnaligned(fromByteOffset: first + $0 * 8, as: UInt64.self) > 0
            }
            return (answer, Set(counts))
        }
        let has = { (flag: baton_answer_flags) in answer.flags & UInt32(flag.rawValue) != 0 }
        counted = counts
        service = has(BATON_ANSWER_SERVICE) ? answer.service : nil
        slot = has(BATON_ANSWER_SLOT) ? answer.slot : nil
        isExisting = has(BATON_ANSWER_EXISTING)
        isPersistent = has(BATON_ANSWER_PERSISTENT)
        destination = MACAddress(bytes: run.frame.prefix(6)) ?? MACAddress(rawValue: 0)
        switch run.verdict {
        case UInt32(XDP_TX.rawValue): verdict = .forwarded
        case UInt32(XDP_DROP.rawValue): verdict = .dropped
        default: verdict = counts.contains(Int(BATON_COUNT_TO_GROUP.rawValue)) ? .copied : .stack
        }
    }

    public func hasCounted(_ counter: baton_director_counter) -> Bool { counted.contains(Int(counter.rawValue)) }
}

extension DirectorPlane {
    /// Runs the data plane's own code on a made-up frame and says what it would do; nothing is changed by it.
    ///
    /// - Parameter interfaceAddress: as given in `Configuration`; nil where there is no check.
    /// - Throws: when the kernel cannot run it, or client and service differ in their family.
    public func route(_ question: RouteQuestion, interfaceAddress: MACAddress?) throws(BPFError) -> RouteFinding {
        guard question.client.address.isIPv4 == question.service.address.isIPv4 else {
            throw BPFError(
                operation: "ask", subject: "the way from \(question.client) to \(question.service)", code: 0,
                cause: "one is an IPv4 address, the other an IPv6 address")
        }
        let destination = interfaceAddress ?? MACAddress(rawValue: 0x0200_0000_0002)
        return try RouteFinding(try router.testRun(question.frame(to: destination)))
    }
}
