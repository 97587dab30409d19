import Model

/// An IP packet with one TCP segment, to be written: probes, resets, adopting ACKs, journal bytes.
public struct TCPPacket: Hashable, Sendable {
    public var source: Endpoint
    public var destination: Endpoint
    public var sequence: SequenceNumber
    public var acknowledgment: SequenceNumber
    public var flags: TCPFlags
    /// As in the header, not scaled.
    public var window: UInt16
    public var timestamps: TCPTimestamps?
    /// Of a SYN or SYN-ACK; nil for every other segment.
    public var handshake: HandshakeOptions?
    public var payload: [UInt8]

    public init(
        from source: Endpoint,
        to destination: Endpoint,
        sequence: SequenceNumber,
        acknowledgment: SequenceNumber,
        flags: TCPFlags,
        window: UInt16,
        timestamps: TCPTimestamps? = nil,
        handshake: HandshakeOptions? = nil,
        payload: [UInt8] = []
    ) {
        self.source = source
        self.destination = destination
        self.sequence = sequence
        self.acknowledgment = acknowledgment
        self.flags = flags
        self.window = window
        self.timestamps = timestamps
        self.handshake = handshake
        self.payload = payload
    }

    /// The packet's bytes: IPv4 or IPv6 header, TCP header with checksum, payload.
    ///
    /// The payload may have at most 65,000 bytes: what is above an IP packet's length is the caller's error.
    public func encode() -> [UInt8] {
        let options = optionBytes()
        let tcpLength = 20 + options.count + payload.count
        let isIPv4 = source.address.isIPv4 && destination.address.isIPv4
        precondition(tcpLength <= 65_535 - 40, "a segment of \(tcpLength) bytes does not fit an IP packet")
        var bytes: [UInt8] = []
        bytes.reserveCapacity(40 + tcpLength)
        if isIPv4 {
            writeIPv4(tcpLength, to: &bytes)
        } else {
            writeIPv6(tcpLength, to: &bytes)
        }
        let start = bytes.count
        bytes.append16(source.port)
        bytes.append16(destination.port)
        bytes.append32(sequence.rawValue)
        bytes.append32(flags.contains(.ack) ? acknowledgment.rawValue : 0)
        bytes.append(UInt8((20 + options.count) / 4) << 4)
        bytes.append(flags.rawValue)
        bytes.append16(window)
        bytes.append32(0)
        bytes += options
        bytes += payload
        bytes.set16(start + 16, checksum(bytes[start...], pseudoHeader(tcpLength, isIPv4: isIPv4)))
        return bytes
    }

    private func optionBytes() -> [UInt8] {
        var bytes: [UInt8] = []
        if let handshake {
            bytes += [2, 4]
            bytes.append16(handshake.mss)
            if handshake.sackPermitted { bytes += [1, 1, 4, 2] }
            if let scale = handshake.windowScale { bytes += [1, 3, 3, scale] }
        }
        if let timestamps {
            bytes += [1, 1, 8, 10]
            bytes.append32(timestamps.value)
            bytes.append32(timestamps.echo)
        }
        return bytes
    }

    private func writeIPv4(_ tcpLength: Int, to bytes: inout [UInt8]) {
        bytes += [0x45, 0]
        bytes.append16(UInt16(20 + tcpLength))
        // Don't fragment, no identification (RFC 6864), 64 hops, TCP.
        bytes += [0, 0, 0x40, 0, 64, 6, 0, 0]
        bytes.append32(source.address.ipv4 ?? 0)
        bytes.append32(destination.address.ipv4 ?? 0)
        bytes.set16(10, checksum(bytes[0..<20], 0))
    }

    private func writeIPv6(_ tcpLength: Int, to bytes: inout [UInt8]) {
        bytes += [0x60, 0, 0, 0]
        bytes.append16(UInt16(tcpLength))
        bytes += [6, 64]
        bytes += source.address.bytes
        bytes += destination.address.bytes
    }

    /// RFC 9293 3.1 and RFC 8200 8.1: the sum of addresses, protocol and length.
    private func pseudoHeader(_ tcpLength: Int, isIPv4: Bool) -> UInt32 {
        var sum: UInt32 = 6 + UInt32(tcpLength)
        for address in [source.address, destination.address] {
            if isIPv4, let bits = address.ipv4 {
                sum += (bits >> 16) + (bits & 0xffff)
            } else {
                for word in [address.high, address.low] {
                    for shift in [48, 32, 16, 0] as [UInt64] { sum += UInt32(word >> shift & 0xffff) }
                }
            }
        }
        return sum
    }

    /// The Internet checksum (RFC 1071) of bytes and a sum that is there already.
    private func checksum(_ bytes: ArraySlice<UInt8>, _ initial: UInt32) -> UInt16 {
        var sum = UInt64(initial)
        var index = bytes.startIndex
        while index + 1 < bytes.endIndex {
            sum += UInt64(bytes[index]) << 8 | UInt64(bytes[index + 1])
            index += 2
        }
        if index < bytes.endIndex { sum += UInt64(bytes[index]) << 8 }
        while sum >> 16 != 0 { sum = (sum & 0xffff) + (sum >> 16) }
        return ~UInt16(truncatingIfNeeded: sum)
    }
}

extension [UInt8] {
    fileprivate mutating func append16(_ value: UInt16) {
        append(UInt8(value >> 8))
        append(UInt8(truncatingIfNeeded: value))
    }

    fileprivate mutating func append32(_ value: UInt32) {
        append16(UInt16(value >> 16))
        append16(UInt16(truncatingIfNeeded: value))
    }

    fileprivate mutating func set16(_ offset: Int, _ value: UInt16) {
        self[offset] = UInt8(value >> 8)
        self[offset + 1] = UInt8(truncatingIfNeeded: value)
    }
}
