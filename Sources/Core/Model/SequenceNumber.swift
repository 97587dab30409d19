/// A TCP sequence number: a position in a 32-bit circle of bytes.
///
/// Comparison follows RFC 9293 3.4 (modulo 2^32): `a` is before `b` when the forward distance from `a` to `b` is
/// shorter than half the circle. All arithmetic wraps on purpose. Host byte order; the wire formats convert.
public struct SequenceNumber: Hashable, Sendable {
    public var rawValue: UInt32

    @inlinable
    public init(_ rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// Bytes to go forward from `other` to reach this number; negative when this number is before `other`.
    @inlinable
    public func distance(from other: SequenceNumber) -> Int {
        Int(Int32(bitPattern: rawValue &- other.rawValue))
    }

    /// Bytes to go forward from `other`, as an unsigned count (0 ..< 2^32).
    @inlinable
    public func offset(from other: SequenceNumber) -> UInt32 {
        rawValue &- other.rawValue
    }

    @inlinable
    public func advanced(by bytes: Int) -> SequenceNumber {
        SequenceNumber(rawValue &+ UInt32(truncatingIfNeeded: bytes))
    }

    @inlinable
    public func isBefore(_ other: SequenceNumber) -> Bool { distance(from: other) < 0 }

    @inlinable
    public func isAfter(_ other: SequenceNumber) -> Bool { distance(from: other) > 0 }

    @inlinable
    public func isAtOrBefore(_ other: SequenceNumber) -> Bool { distance(from: other) <= 0 }

    @inlinable
    public func isAtOrAfter(_ other: SequenceNumber) -> Bool { distance(from: other) >= 0 }
}

extension SequenceNumber: CustomStringConvertible {
    public var description: String { String(rawValue) }
}
