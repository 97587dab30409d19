import Model
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

enum Sample {
    static let client = Endpoint(address: IPAddress(ipv4: 0xc0a8_0105), port: 40_000)
    static let service = Endpoint(address: IPAddress(ipv4: 0x0a00_0064), port: 80)
    static let client6 = Endpoint(address: IPAddress(high: 0x2001_0db8_0000_0001, low: 5), port: 40_001)
    static let service6 = Endpoint(address: IPAddress(high: 0x2001_0db8_0000_0002, low: 0x64), port: 443)
    static let group = SlotID(rawValue: 7).group
    static let router = MACAddress(rawValue: 0x0200_0000_0001)

    static func packet(
        ipv6: Bool = false,
        flags: TCPFlags = [.ack, .psh],
        timestamps: TCPTimestamps? = TCPTimestamps(value: 100, echo: 200),
        handshake: HandshakeOptions? = nil,
        payload: [UInt8] = Array("GET / HTTP/1.1\r\n\r\n".utf8)
    ) -> [UInt8] {
        TCPPacket(
            from: ipv6 ? client6 : client,
            to: ipv6 ? service6 : service,
            sequence: SequenceNumber(0xffff_fff0),
            acknowledgment: SequenceNumber(77),
            flags: flags,
            window: 501,
            timestamps: timestamps,
            handshake: handshake,
            payload: payload
        ).encode()
    }

    /// An Ethernet frame around an IP packet.
    static func frame(_ packet: [UInt8], tags: [UInt16] = [], type: UInt16? = nil, padding: Int = 0) -> [UInt8] {
        var bytes = group.bytes + router.bytes
        for tag in tags { bytes += [UInt8(tag >> 8), UInt8(tag & 0xff), 0x20, 0x05] }
        let type = type ?? (packet.first.map { $0 >> 4 } == 6 ? 0x86dd : 0x0800)
        bytes += [UInt8(type >> 8), UInt8(type & 0xff)]
        return bytes + packet + Array(repeating: 0xee, count: padding)
    }

    static func parse(_ bytes: [UInt8], wireLength: Int? = nil) -> FrameParsing {
        bytes.withUnsafeBytes { FrameParser.parse(ethernet: $0, wireLength: wireLength) }
    }
}
