import Model
import Wire

/// What a backup knows of one connection of a predecessor ([Z] II-E, `backup_sock`).
public struct BackupConnection {
    public internal(set) var flow: FlowKey
    public internal(set) var slot: SlotID
    /// The client's initial sequence number, from its SYN.
    public internal(set) var irs: SequenceNumber
    /// The server's, from the ACK that completes the handshake; nil until that was seen.
    public internal(set) var iss: SequenceNumber?
    /// What the client announced in its SYN.
    public internal(set) var client: HandshakeOptions
    /// Reply bytes that the client has acknowledged, counted from ISS + 1 without wrapping.
    public internal(set) var sndUna: UInt64
    /// Where the client's window ended, counted likewise.
    public internal(set) var rightEdge: UInt64
    /// The client's latest timestamps; nil before the first and when the option is not in use.
    public internal(set) var timestamps: TCPTimestamps?
    public internal(set) var lastSeen: Instant
    /// Where the client's FIN stands, counted from IRS + 1; nil while it has not closed.
    public internal(set) var finOffset: UInt64?
    /// Why this connection cannot be replayed; nil while it can.
    public internal(set) var unprotected: ResetCause?
    var journal = Journal()
    /// How many ranges wait behind a hole; they are in the tracker's own table.
    var waitingRanges: UInt8 = 0
    var generation: UInt32

    /// Client bytes that are journalled, contiguous from IRS + 1.
    public var journalLength: UInt64 { journal.length }

    /// The sequence number that the client's next byte has, as far as the journal knows.
    public var clientNext: SequenceNumber {
        let closed = finOffset == journal.length ? 1 : 0
        return irs.advanced(by: 1 + Int(truncatingIfNeeded: journal.length) + closed)
    }

    /// The highest ACK of the client, as it stood in the header.
    public var acknowledged: SequenceNumber? {
        iss?.advanced(by: 1 + Int(truncatingIfNeeded: sndUna))
    }

    init(flow: FlowKey, slot: SlotID, irs: SequenceNumber, client: HandshakeOptions, generation: UInt32, now: Instant) {
        self.flow = flow
        self.slot = slot
        self.irs = irs
        self.client = client
        self.sndUna = 0
        self.rightEdge = 0
        self.lastSeen = now
        self.generation = generation
    }
}

/// Names a backup connection; stays valid as long as the connection is tracked, and never names another one.
public struct ConnectionHandle: Hashable, Sendable {
    var index: Int
    var generation: UInt32
}

/// What happened to frames and connections; all numbers only rise.
public struct TrackerCounters: Hashable, Sendable {
    public var frames: UInt64 = 0
    public var connections: UInt64 = 0
    /// Frames of connections whose SYN was not seen.
    public var unknown: UInt64 = 0
    public var retransmitted: UInt64 = 0
    public var outOfOrder: UInt64 = 0
    /// Out-of-order data beyond the bound: forgotten, the client's retransmission brings it again.
    public var outOfOrderDropped: UInt64 = 0
    public var expired: UInt64 = 0
    public var reset: UInt64 = 0
    public var replaced: UInt64 = 0
    /// SYNs that found the table full: those connections are not protected.
    public var tableFull: UInt64 = 0
    /// Connections that lost their protection.
    public var unprotected: UInt64 = 0
}
