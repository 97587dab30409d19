import Model
import Wire

/// One TCP segment as the model stacks see it; on the wire it is a real packet.
struct Segment {
    var sequence: SequenceNumber
    var acknowledgment: SequenceNumber
    var flags: TCPFlags
    /// As in the header, not scaled.
    var window: UInt16
    var timestamps: TCPTimestamps?
    var options: HandshakeOptions
    var payload: ArraySlice<UInt8>

    init(_ frame: TCPFrame, in bytes: [UInt8]) {
        sequence = frame.sequence
        acknowledgment = frame.acknowledgment
        flags = frame.flags
        window = frame.window
        timestamps = frame.timestamps
        options = frame.options
        payload = bytes[frame.payload]
    }

    init(_ packet: TCPPacket) {
        sequence = packet.sequence
        acknowledgment = packet.acknowledgment
        flags = packet.flags
        window = packet.window
        timestamps = packet.timestamps
        options = packet.handshake ?? HandshakeOptions()
        payload = packet.payload[...]
    }
}

/// What stands in front of a packet on the LAN.
enum Ethernet {
    static let headerBytes = 14

    static func frame(_ packet: [UInt8], to destination: MACAddress, from source: MACAddress) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(headerBytes + packet.count)
        bytes += destination.bytes
        bytes += source.bytes
        bytes += [0x08, 0x00]
        bytes += packet
        return bytes
    }

    static func redirect(_ frame: inout [UInt8], to destination: MACAddress) {
        for (index, byte) in destination.bytes.enumerated() { frame[index] = byte }
    }

    static func destination(_ frame: [UInt8]) -> MACAddress {
        MACAddress(rawValue: frame[0..<6].reduce(0) { $0 << 8 | UInt64($1) })
    }
}

extension [UInt8] {
    func parsedFrame() -> TCPFrame? { withUnsafeBytes { FrameParser.parse(ethernet: $0).frame } }
    func parsedPacket() -> TCPFrame? { withUnsafeBytes { FrameParser.parse(packet: $0).frame } }
}

/// Where a sequence number stands in a stream, counted from its first byte, nearest to a place that is known.
func place(of sequence: SequenceNumber, first: SequenceNumber, near known: Int) -> Int {
    known + sequence.distance(from: first.advanced(by: known))
}

/// The deterministic application protocol: a request says how long it is and what is wanted; the reply is a pure
/// function of the request's bytes.
enum Exchange {
    static let headerBytes = 12

    struct Header {
        var requestBytes: Int
        var replyBytes: Int
        var serverCloses: Bool
        /// How long the server thinks, in units of two milliseconds.
        var thinking: Int
    }

    static func request(_ header: Header, _ random: inout SimulationRandom) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(header.requestBytes)
        for shift in [24, 16, 8, 0] { bytes.append(UInt8(truncatingIfNeeded: header.requestBytes >> shift)) }
        for shift in [24, 16, 8, 0] { bytes.append(UInt8(truncatingIfNeeded: header.replyBytes >> shift)) }
        bytes += [header.serverCloses ? 1 : 0, UInt8(header.thinking), 0, 0]
        while bytes.count < header.requestBytes { bytes.append(UInt8(truncatingIfNeeded: random.next())) }
        return bytes
    }

    /// Nil while the header is not there; what no client sends is read as the shortest request.
    static func header(of bytes: ArraySlice<UInt8>) -> Header? {
        guard bytes.count >= headerBytes else { return nil }
        let at = bytes.startIndex
        let number = { (from: Int) in bytes[from..<from + 4].reduce(0) { $0 << 8 | Int($1) } }
        return Header(
            requestBytes: max(number(at), headerBytes),
            replyBytes: min(number(at + 4), 1 << 20),
            serverCloses: bytes[at + 8] & 1 == 1,
            thinking: Int(bytes[at + 9])
        )
    }

    static func reply(to request: ArraySlice<UInt8>) -> [UInt8] {
        guard let header = header(of: request) else { return [] }
        var digest: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in request { digest = (digest ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return stream(digest, header.replyBytes)
    }

    /// What a server says first, where the service is of that kind.
    static let greeting = stream(0x6261_746f_6e21, 73)

    static func stream(_ digest: UInt64, _ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count + 8) { buffer, used in
            var at = 0
            var counter = digest
            while at < count {
                var word = SimulationRandom.mix(counter)
                counter &+= 0x9e37_79b9_7f4a_7c15
                for _ in 0..<8 {
                    buffer[at] = UInt8(truncatingIfNeeded: word)
                    word >>= 8
                    at += 1
                }
            }
            used = count
        }
    }
}
