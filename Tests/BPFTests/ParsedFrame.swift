import Model

/// One frame, read the slow and plain way.
enum ParsedFrame {
    struct Segment {
        var source: IPAddress
        var destination: IPAddress
        var sourcePort: UInt16
        var destinationPort: UInt16
        var flags: TCPFlags
        var acknowledgment: UInt32
        var payload: Int
    }

    case other
    /// Of TCP, or of anything in IPv6.
    case fragment(isFirst: Bool)
    case malformed(Segment)
    case tcp(Segment)

    init(_ frame: [UInt8]) {
        self = ParsedFrame.parse(frame) ?? .other
    }

    private static func parse(_ frame: [UInt8]) -> ParsedFrame? {
        guard var type = word(frame, 12) else { return nil }
        var offset = 14
        for _ in 0..<2 where type == 0x8100 || type == 0x88a8 {
            guard let next = word(frame, offset + 2) else { return nil }
            type = next
            offset += 4
        }
        switch type {
        case 0x0800: return parseIPv4(frame, offset)
        case 0x86dd: return parseIPv6(frame, offset)
        default: return nil
        }
    }

    private static func parseIPv4(_ frame: [UInt8], _ offset: Int) -> ParsedFrame? {
        guard frame.count >= offset + 20, frame[offset] >> 4 == 4, frame[offset + 9] == 6 else { return nil }
        let header = Int(frame[offset] & 15) * 4
        guard header >= 20, let fragment = word(frame, offset + 6), let total = word(frame, offset + 2) else {
            return nil
        }
        if fragment & 0x3fff != 0 { return .fragment(isFirst: fragment & 0x3fff == 0x2000) }
        let address = { (place: Int) in
            IPAddress(ipv4: (0..<4).reduce(UInt32(0)) { $0 << 8 | UInt32(frame[offset + place + $1]) })
        }
        return parseTCP(frame, offset + header, space: Int(total) - header, from: address(12), to: address(16))
    }

    private static func parseIPv6(_ frame: [UInt8], _ offset: Int) -> ParsedFrame? {
        guard frame.count >= offset + 40, frame[offset] >> 4 == 6, let length = word(frame, offset + 4),
            let source = IPAddress(bytes: frame[offset + 8..<offset + 24]),
            let destination = IPAddress(bytes: frame[offset + 24..<offset + 40])
        else { return nil }
        var next = frame[offset + 6]
        var place = offset + 40
        var space = Int(length)
        var extensions = 0
        while next != 6 {
            if extensions == 4 { return nil }
            if next == 44 { return .fragment(isFirst: word(frame, place + 2).map { $0 & 0xfff9 == 1 } ?? false) }
            guard next == 0 || next == 60, place + 2 <= frame.count else { return nil }
            let bytes = (Int(frame[place + 1]) + 1) * 8
            next = frame[place]
            place += bytes
            space -= bytes
            extensions += 1
        }
        return parseTCP(frame, place, space: space, from: source, to: destination)
    }

    private static func parseTCP(
        _ frame: [UInt8], _ offset: Int, space: Int, from source: IPAddress, to destination: IPAddress
    ) -> ParsedFrame? {
        guard frame.count >= offset + 20, let sourcePort = word(frame, offset),
            let destinationPort = word(frame, offset + 2), let high = word(frame, offset + 8),
            let low = word(frame, offset + 10)
        else { return nil }
        let header = Int(frame[offset + 12] >> 4) * 4
        let segment = Segment(
            source: source,
            destination: destination,
            sourcePort: sourcePort,
            destinationPort: destinationPort,
            flags: TCPFlags(rawValue: frame[offset + 13]),
            acknowledgment: UInt32(high) << 16 | UInt32(low),
            payload: space - header
        )
        let fits = header >= 20 && space >= header && offset + space <= frame.count
        return fits ? .tcp(segment) : .malformed(segment)
    }

    private static func word(_ frame: [UInt8], _ offset: Int) -> UInt16? {
        guard offset + 2 <= frame.count else { return nil }
        return UInt16(frame[offset]) << 8 | UInt16(frame[offset + 1])
    }
}
