import Model
import Testing
import Tracking
import Wire

/// A small generator with a seed (SplitMix64), so that a failing case can be run again.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }
}

/// A tracker and a client whose frames it sees.
final class TrackingFixture {
    static let slot = SlotID(rawValue: 3)
    static let service = Endpoint(address: IPAddress(ipv4: 0x0a00_0064), port: 80)
    static let offered = HandshakeOptions(mss: 1460, windowScale: 7, sackPermitted: true)

    var tracker: Tracker
    var now = Instant(nanoseconds: 1_000_000_000)
    let irs: UInt32
    let iss: UInt32
    /// The owner tells its SYN-ACKs, at once.
    var ownerTells = true

    init(irs: UInt32 = 1000, iss: UInt32 = 5000, _ configure: (inout TrackerParameters) -> Void = { _ in }) {
        self.irs = irs
        self.iss = iss
        var parameters = TrackerParameters()
        parameters.connections = 64
        configure(&parameters)
        tracker = Tracker(parameters: parameters, secret: (1, 2))
    }

    static func flow(_ port: UInt16 = 40_000) -> FlowKey {
        FlowKey(client: Endpoint(address: IPAddress(ipv4: 0xc0a8_0105), port: port), service: service)
    }

    /// Gives the tracker a frame; places are offsets from IRS + 1 and ISS + 1.
    func send(
        _ flags: TCPFlags,
        at place: Int = 0,
        ack: Int = 0,
        _ payload: [UInt8] = [],
        window: UInt16 = 500,
        timestamps: TCPTimestamps? = nil,
        port: UInt16 = 40_000,
        slot: SlotID = TrackingFixture.slot,
        handshake: HandshakeOptions? = nil,
        captured: Int? = nil
    ) {
        let flow = TrackingFixture.flow(port)
        let packet = TCPPacket(
            from: flow.client,
            to: flow.service,
            sequence: SequenceNumber(irs &+ 1).advanced(by: flags.contains(.syn) ? -1 : place),
            acknowledgment: SequenceNumber(iss &+ 1).advanced(by: ack),
            flags: flags,
            window: window,
            timestamps: timestamps,
            handshake: handshake,
            payload: payload
        ).encode()
        var bytes = slot.group.bytes + [2, 0, 0, 0, 0, 1, 8, 0] + packet
        let wireLength = bytes.count
        if let captured { bytes.removeLast(payload.count - captured) }
        bytes.withUnsafeBytes { raw in
            guard let frame = FrameParser.parse(ethernet: raw, wireLength: wireLength).frame else {
                Issue.record("the fixture's frame does not parse")
                return
            }
            tracker.handle(frame, in: raw, slot: slot, now: now)
        }
        if flags.contains(.syn), ownerTells { tell(port: port) }
        tracker.checkInvariants()
    }

    /// The owner's SYN-ACK.
    func tell(iss other: UInt32? = nil, taken: Int = 0, port: UInt16 = 40_000) {
        tracker.announced(
            TrackingFixture.flow(port), iss: SequenceNumber(other ?? iss),
            acknowledged: SequenceNumber(irs &+ 1).advanced(by: taken))
        tracker.checkInvariants()
    }

    func connect(
        port: UInt16 = 40_000,
        _ offered: HandshakeOptions = TrackingFixture.offered,
        slot: SlotID = TrackingFixture.slot
    ) {
        send([.syn], port: port, slot: slot, handshake: offered)
        send([.ack], port: port, slot: slot)
    }

    func handle(_ port: UInt16 = 40_000) -> ConnectionHandle? { tracker.handle(of: TrackingFixture.flow(port)) }

    func connection(_ port: UInt16 = 40_000) throws -> BackupConnection {
        let known = handle(port).flatMap { tracker[$0] }
        return try #require(known)
    }

    func journal(_ port: UInt16 = 40_000) -> [UInt8] {
        guard let handle = handle(port) else { return [] }
        return tracker.journal(handle, 0..<UInt64.max)
    }
}

/// Bytes that tell where they stand.
func pattern(_ range: Range<Int>) -> [UInt8] {
    range.map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
}
