import Model

/// Reads TCP segments out of captured bytes. Allocates nothing, traps on nothing: every byte is hostile.
public enum FrameParser {
    /// Parses an Ethernet frame, with up to two VLAN tags (IEEE 802.1Q, 802.1ad).
    ///
    /// - Parameter wireLength: bytes that the frame had on the wire, where the capture may have been cut short.
    public static func parse(ethernet bytes: UnsafeRawBufferPointer, wireLength: Int? = nil) -> FrameParsing {
        guard bytes.count >= 14 else { return .rejected(.malformed) }
        var type = bytes.big16(12)
        var offset = 14
        var tags = 0
        while type == 0x8100 || type == 0x88a8, tags < 2 {
            guard bytes.count >= offset + 4 else { return .rejected(.malformed) }
            type = bytes.big16(offset + 2)
            offset += 4
            tags += 1
        }
        let destination = MACAddress(rawValue: UInt64(bytes.big16(0)) << 32 | UInt64(bytes.big32(2)))
        let source = MACAddress(rawValue: UInt64(bytes.big16(6)) << 32 | UInt64(bytes.big32(8)))
        let length = max(wireLength ?? bytes.count, bytes.count)
        var parsing: FrameParsing
        switch type {
        case 0x0800: parsing = parse(ipv4: bytes, at: offset, wireLength: length)
        case 0x86dd: parsing = parse(ipv6: bytes, at: offset, wireLength: length)
        case _: return .rejected(.notIP)
        }
        if case .segment(var frame) = parsing {
            frame.destination = destination
            frame.source = source
            parsing = .segment(frame)
        }
        return parsing
    }

    /// Parses an IP packet without a link header, as a TUN device carries it.
    public static func parse(packet bytes: UnsafeRawBufferPointer) -> FrameParsing {
        guard bytes.count > 0 else { return .rejected(.malformed) }
        switch bytes[0] >> 4 {
        case 4: return parse(ipv4: bytes, at: 0, wireLength: bytes.count)
        case 6: return parse(ipv6: bytes, at: 0, wireLength: bytes.count)
        case _: return .rejected(.notIP)
        }
    }

    private static func parse(ipv4 bytes: UnsafeRawBufferPointer, at offset: Int, wireLength: Int) -> FrameParsing {
        guard bytes.count >= offset + 20, bytes[offset] >> 4 == 4 else { return .rejected(.malformed) }
        let headerLength = Int(bytes[offset] & 15) * 4
        let announced = Int(bytes.big16(offset + 2))
        let total = announced == 0 ? superLength(wireLength - offset) : announced
        guard headerLength >= 20, total >= headerLength, offset + total <= wireLength else {
            return .rejected(.malformed)
        }
        guard bytes[offset + 9] == 6 else { return .rejected(.notTCP) }
        guard bytes.big16(offset + 6) & 0x3fff == 0 else { return .rejected(.fragment) }
        return parse(
            tcp: bytes,
            at: offset + headerLength,
            end: offset + total,
            source: IPAddress(ipv4: bytes.big32(offset + 12)),
            destination: IPAddress(ipv4: bytes.big32(offset + 16))
        )
    }

    private static func parse(ipv6 bytes: UnsafeRawBufferPointer, at offset: Int, wireLength: Int) -> FrameParsing {
        guard bytes.count >= offset + 40, bytes[offset] >> 4 == 6 else { return .rejected(.malformed) }
        let announced = Int(bytes.big16(offset + 4))
        let length = announced == 0 ? superLength(wireLength - offset - 40) : announced
        guard length > 0, offset + 40 + length <= wireLength else { return .rejected(.malformed) }
        var extensionLength = 0
        switch bytes[offset + 6] {
        case 6: break
        case 44: return .rejected(.fragment)
        case 0 where announced == 0 && isJumbogram(bytes, at: offset + 40, length): extensionLength = 8
        case _: return .rejected(.notTCP)
        }
        let source = IPAddress(high: bytes.big64(offset + 8), low: bytes.big64(offset + 16))
        let destination = IPAddress(high: bytes.big64(offset + 24), low: bytes.big64(offset + 32))
        // An IPv4-mapped address never stands on a wire; here it would pass for the IPv4 flow of that address.
        guard !source.isIPv4, !destination.isIPv4 else { return .rejected(.malformed) }
        let start = offset + 40
        return parse(tcp: bytes, at: start + extensionLength, end: start + length, source: source, destination: destination)
    }

    /// The length of a packet whose length field is 0: one that was put together beyond 64 KiB (BIG TCP), of which only
    /// the frame knows it. 0 for anything shorter, where the field is a lie that the kernel does not believe either.
    private static func superLength(_ available: Int) -> Int { available > 65_535 ? available : 0 }

    /// Whether this is the hop-by-hop header that Linux puts before such a segment (RFC 2675; `struct hop_jumbo_hdr`).
    private static func isJumbogram(_ bytes: UnsafeRawBufferPointer, at offset: Int, _ length: Int) -> Bool {
        bytes.count >= offset + 8 && bytes.big32(offset) == 0x0600_c204 && Int(bytes.big32(offset + 4)) == length
    }

    /// - Parameter end: where the segment ends on the wire, counted in the captured bytes.
    private static func parse(
        tcp bytes: UnsafeRawBufferPointer,
        at offset: Int,
        end: Int,
        source: IPAddress,
        destination: IPAddress
    ) -> FrameParsing {
        guard end - offset >= 20, bytes.count >= offset + 20 else { return .rejected(.malformed) }
        let headerLength = Int(bytes[offset + 12] >> 4) * 4
        guard headerLength >= 20, offset + headerLength <= end, offset + headerLength <= bytes.count else {
            return .rejected(.malformed)
        }
        let payloadStart = offset + headerLength
        var frame = TCPFrame(
            destination: MACAddress(rawValue: 0),
            source: MACAddress(rawValue: 0),
            flow: FlowKey(
                client: Endpoint(address: source, port: bytes.big16(offset)),
                service: Endpoint(address: destination, port: bytes.big16(offset + 2))
            ),
            sequence: SequenceNumber(bytes.big32(offset + 4)),
            acknowledgment: SequenceNumber(bytes.big32(offset + 8)),
            flags: TCPFlags(rawValue: bytes[offset + 13]),
            window: bytes.big16(offset + 14),
            // RFC 9293 3.7.1: what an absent MSS option stands for.
            options: HandshakeOptions(mss: source.isIPv4 ? 536 : 1220),
            timestamps: nil,
            payload: payloadStart..<min(end, bytes.count),
            payloadLength: end - payloadStart
        )
        parseOptions(bytes, offset + 20..<payloadStart, into: &frame)
        return .segment(frame)
    }

    /// Options that are cut off or of a wrong length end the reading; what came before them stands, as in the kernel
    /// (tcp_parse_options).
    private static func parseOptions(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, into frame: inout TCPFrame) {
        var at = range.lowerBound
        while at < range.upperBound {
            let kind = bytes[at]
            if kind == 0 { return }
            if kind == 1 {
                at += 1
                continue
            }
            guard at + 1 < range.upperBound else { return }
            let length = Int(bytes[at + 1])
            guard length >= 2, at + length <= range.upperBound else { return }
            switch (kind, length) {
            // 0 says nothing (tcp_parse_options).
            case (2, 4) where bytes.big16(at + 2) != 0: frame.options.mss = bytes.big16(at + 2)
            // RFC 7323 2.3: a shift count above 14 counts as 14.
            case (3, 3): frame.options.windowScale = min(bytes[at + 2], 14)
            case (4, 2): frame.options.sackPermitted = true
            case (8, 10):
                frame.options.timestamps = true
                frame.timestamps = TCPTimestamps(value: bytes.big32(at + 2), echo: bytes.big32(at + 6))
            // RFC 2883: the first block may be of what came twice, below the ACK.
            case (5, _):
                for block in stride(from: at + 2, to: at + length - 7, by: 8)
                where SequenceNumber(bytes.big32(block)).isAfter(frame.acknowledgment) {
                    frame.hasHole = true
                }
            case _: break
            }
            at += length
        }
    }
}

extension UnsafeRawBufferPointer {
    /// The caller has checked the bounds.
    @inline(__always)
    fileprivate func big16(_ offset: Int) -> UInt16 {
        UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    @inline(__always)
    fileprivate func big32(_ offset: Int) -> UInt32 {
        UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    @inline(__always)
    fileprivate func big64(_ offset: Int) -> UInt64 {
        UInt64(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
}
