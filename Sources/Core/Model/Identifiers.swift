/// A back-end, by its place in the director's list; names stand in configuration and logs, numbers on the wire.
public struct BackendID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public var rawValue: UInt16
    @inlinable
    public init(rawValue: UInt16) { self.rawValue = rawValue }
    @inlinable
    public static func < (left: BackendID, right: BackendID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "backend \(rawValue)" }
}

/// One life of one back-end. Flows point to slots, never to machines; a revived back-end is a new slot.
public struct SlotID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public var rawValue: UInt16
    @inlinable
    public init(rawValue: UInt16) { self.rawValue = rawValue }
    @inlinable
    public static func < (left: SlotID, right: SlotID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "slot \(rawValue)" }
}

extension SlotID {
    /// The multicast MAC address of this slot's group: locally administered, `03:ba:70:6e:` and the slot number.
    ///
    /// The bits 0x03 of the first byte say "group" and "local" (IEEE 802-2014 8.4), so that no vendor's or protocol's
    /// multicast address can be hit.
    @inlinable
    public var group: MACAddress { MACAddress(rawValue: 0x03ba_706e_0000 | UInt64(rawValue)) }

    /// The slot of a group address; nil when the address is not one of Baton's groups.
    @inlinable
    public init?(group: MACAddress) {
        guard group.rawValue >> 16 == 0x03ba_706e else { return nil }
        self.init(rawValue: UInt16(truncatingIfNeeded: group.rawValue))
    }

    /// The slot's mark: the group address with the group bit cleared.
    ///
    /// The forwarding `duplicate` sends each member of the group a unicast copy, whose source address this is: it takes
    /// the group address's part in saying which slot a frame belongs to. A network sees one more station at the
    /// director's port for each slot.
    @inlinable
    public var mark: MACAddress { MACAddress(rawValue: 0x02ba_706e_0000 | UInt64(rawValue)) }

    /// The slot of a mark; nil when the address is none.
    @inlinable
    public init?(mark: MACAddress) {
        guard mark.rawValue >> 16 == 0x02ba_706e else { return nil }
        self.init(rawValue: UInt16(truncatingIfNeeded: mark.rawValue))
    }
}

/// One run of one process of Baton: a random number drawn at its start.
///
/// A message that names another life than the one agreed over TLS is old, and is dropped.
public struct Life: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public var rawValue: UInt64
    @inlinable
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public var description: String { String(rawValue, radix: 16) }
}

/// The version of the ring and of slot ownership; every change makes a higher one.
public struct Epoch: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public var rawValue: UInt64
    @inlinable
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable
    public static func < (left: Epoch, right: Epoch) -> Bool { left.rawValue < right.rawValue }
    public var next: Epoch { Epoch(rawValue: rawValue + 1) }
    public var description: String { "epoch \(rawValue)" }
}
