import Model

/// The control bits of a TCP header (RFC 9293 3.1).
public struct TCPFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    @inlinable
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let fin = TCPFlags(rawValue: 0x01)
    public static let syn = TCPFlags(rawValue: 0x02)
    public static let rst = TCPFlags(rawValue: 0x04)
    public static let psh = TCPFlags(rawValue: 0x08)
    public static let ack = TCPFlags(rawValue: 0x10)
    public static let urg = TCPFlags(rawValue: 0x20)
}

/// The timestamps option (RFC 7323 3.2).
public struct TCPTimestamps: Hashable, Sendable {
    public var value: UInt32
    public var echo: UInt32

    @inlinable
    public init(value: UInt32, echo: UInt32) {
        self.value = value
        self.echo = echo
    }
}

/// One TCP segment as it was captured: the fields of its headers, and where its payload stands.
///
/// The flow is that of a frame from client to service: the source is the client.
public struct TCPFrame: Hashable, Sendable {
    /// Zero where there was no Ethernet header.
    public var destination: MACAddress
    public var source: MACAddress
    public var flow: FlowKey
    public var sequence: SequenceNumber
    public var acknowledgment: SequenceNumber
    public var flags: TCPFlags
    /// As in the header, not scaled.
    public var window: UInt16
    public var options: HandshakeOptions
    public var timestamps: TCPTimestamps?
    /// A SACK block says that bytes beyond `acknowledgment` have arrived, with a hole before them (RFC 2018 3).
    public var hasHole = false
    /// Where the captured payload stands in the bytes that were parsed.
    public var payload: Range<Int>
    /// Bytes of payload that the segment had on the wire; more than `payload.count` when the capture was cut short.
    public var payloadLength: Int

    /// Whether bytes of the payload were not captured.
    @inlinable
    public var isCutShort: Bool { payload.count < payloadLength }

    /// The sequence number behind the segment: payload, SYN and FIN count.
    @inlinable
    public var end: SequenceNumber {
        sequence.advanced(by: payloadLength + (flags.contains(.syn) ? 1 : 0) + (flags.contains(.fin) ? 1 : 0))
    }
}

/// Why bytes are no TCP segment that Baton tracks.
public enum FrameRejection: Hashable, Sendable {
    /// Neither IPv4 nor IPv6.
    case notIP
    /// IP, but another protocol than TCP (or TCP behind extension headers).
    case notTCP
    case fragment
    /// A length field contradicts another, or the bytes end within a header.
    case malformed
}

public enum FrameParsing: Hashable, Sendable {
    case segment(TCPFrame)
    case rejected(FrameRejection)

    @inlinable
    public var frame: TCPFrame? {
        if case .segment(let frame) = self { return frame }
        return nil
    }
}
