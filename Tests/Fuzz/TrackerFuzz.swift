import Model
import Tracking
import Wire

/// Any sequence of frames of four clients: seven bytes a frame, which are its flags and port, where it stands, what it
/// acknowledges, and how long it is. The tracker's invariants must hold after each.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzTracker(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    var parameters = TrackerParameters()
    parameters.connections = 8
    parameters.journalBytes = 64 << 10
    parameters.journalBytesPerConnection = 32 << 10
    parameters.gapsPerConnection = 4
    parameters.gaps = 8
    var tracker = Tracker(parameters: parameters, secret: (1, 2))
    var now = Instant(nanoseconds: 0)
    var at = 0
    while at + 7 <= size {
        feed(UnsafeBufferPointer(start: data + at, count: 7), &tracker, now)
        if data[at + 5] & 0xf == 7 {
            let flow = FlowKey(
                client: Endpoint(address: IPAddress(ipv4: 1), port: UInt16(data[at + 6] & 3)),
                service: Endpoint(address: IPAddress(ipv4: 2), port: 80))
            let place = Int16(bitPattern: UInt16(data[at + 1]) << 8 | UInt16(data[at + 2]))
            tracker.announced(
                flow, iss: SequenceNumber(UInt32(data[at + 3]) << 24),
                acknowledged: SequenceNumber(0xffff_f001).advanced(by: Int(place)))
        }
        tracker.checkInvariants()
        now = now + .milliseconds(Int64(data[at + 6]) * 100)
        if data[at + 6] > 250 { tracker.expire(now: now) }
        at += 7
    }
    return 0
}

private func feed(_ bytes: UnsafeBufferPointer<UInt8>, _ tracker: inout Tracker, _ now: Instant) {
    let place = Int16(bitPattern: UInt16(bytes[1]) << 8 | UInt16(bytes[2]))
    let isFar = bytes[0] & 0x80 != 0
    let length = Int(bytes[5]) * (isFar ? 1 : 32)
    let packet = TCPPacket(
        from: Endpoint(address: IPAddress(ipv4: 1), port: UInt16(bytes[6] & 3)),
        to: Endpoint(address: IPAddress(ipv4: 2), port: 80),
        sequence: SequenceNumber(0xffff_f000).advanced(by: Int(place) << (isFar ? 16 : 0)),
        acknowledgment: SequenceNumber(UInt32(bytes[3]) << 24 | UInt32(bytes[4])),
        flags: TCPFlags(rawValue: bytes[0] & 0x3f),
        window: 100,
        timestamps: bytes[0] & 0x40 == 0 ? nil : TCPTimestamps(value: UInt32(bytes[4]), echo: 0),
        payload: Array(repeating: bytes[3] & 1, count: length)
    ).encode()
    packet.withUnsafeBytes { raw in
        guard let frame = FrameParser.parse(packet: raw).frame else { fatalError("the packet does not parse") }
        tracker.handle(frame, in: raw, slot: SlotID(rawValue: UInt16(bytes[6] >> 6)), now: now)
    }
}
