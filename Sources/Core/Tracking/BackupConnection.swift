import Model
import Wire

/// What a backup knows of one connection of a predecessor ([Z] II-E, `backup_sock`).
public struct BackupConnection {
    public internal(set) var flow: FlowKey
    public internal(set) var slot: SlotID
    /// The client's initial sequence number, from its SYN.
    public internal(set) var irs: SequenceNumber
    /// The server's; nil until the client has answered its SYN-ACK. From the first ACK that was seen, and so a guess, good
    /// for counting ACKs from but not for an adoption, where it is not `certainISS`.
    public internal(set) var iss: SequenceNumber?
    /// The ISS as the server's SYN-ACK had it; nil while nobody has said who saw that.
    public internal(set) var certainISS: SequenceNumber?
    /// Of the data in the SYN.
    var synBytes: UInt16 = 0
    /// What the client announced in its SYN.
    public internal(set) var client: HandshakeOptions
    /// Reply bytes that the client has acknowledged, counted from ISS + 1 without wrapping.
    public internal(set) var sndUna: UInt64
    /// Where the client's window ended, counted likewise; as if both sides had agreed to scale windows.
    public internal(set) var rightEdge: UInt64
    /// The client's latest timestamps; nil before the first and when the option is not in use.
    public internal(set) var timestamps: TCPTimestamps?
    public internal(set) var lastSeen: Instant
    /// Where the client's FIN stands, counted from IRS + 1; nil while it has not closed.
    public internal(set) var finOffset: UInt64?
    /// The end of what the client is known to have sent, counted from IRS + 1, FIN excluded. Above `journalLength`
    /// where bytes are missing: on their way, or lost to the tap.
    public internal(set) var clientSent: UInt64 = 0
    /// Why this connection cannot be replayed; nil while it can.
    public internal(set) var unprotected: ResetCause?
    /// Since when bytes that the client has sent are missing; nil while none are.
    public internal(set) var holeSince: Instant?
    /// It is among the tracker's holes.
    var isHoleListed = false
    /// False where a lost protection cannot come back, whatever the owner has.
    var isRestorable = true
    /// How often the protection came back by the owner's copy.
    var restorations: UInt8 = 0
    var journal = Journal()
    /// Its place among the tracker's conversations; none for a service that is not replayed as HTTP.
    var conversation = Conversations.none
    /// A SYN for the same flow that has not proved yet that it is a connection.
    var rival: RivalSYN?
    var generation: UInt32
    /// The place of the connection that this one has displaced, or is displaced by.
    var twin = Self.noTwin
    /// Not the flow's connection at present: its twin is.
    var isDisplaced = false

    static let noTwin: Int32 = -1

    /// Client bytes that are there, contiguous from IRS + 1; of an unprotected connection: that were seen.
    public var journalLength: UInt64 { journal.length }

    /// The client has closed its half, and everything before its FIN is there.
    public var isHalfClosed: Bool { finOffset == journal.length }

    /// The sequence number that the client's next byte has, as far as the journal knows.
    public var clientNext: SequenceNumber {
        irs.advanced(by: 1 + Int(truncatingIfNeeded: journal.length) + (isHalfClosed ? 1 : 0))
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

    /// The place in the client's stream of a sequence number, nearest to what is expected: an upload may wrap.
    func place(of sequence: SequenceNumber) -> Int64 {
        let expected = irs.advanced(by: 1 + Int(truncatingIfNeeded: journal.length))
        return Int64(bitPattern: journal.length) + Int64(sequence.distance(from: expected))
    }
}

/// A SYN that came while its flow had a connection: the port is used again, or it is a stray or forged one.
///
/// A server that knows the connection does not obey it (RFC 9293 3.10.7.4); one that has forgotten it does. The client's
/// next segment tells which it was, and until then both are known.
struct RivalSYN {
    var irs: SequenceNumber
    var options: HandshakeOptions
    var timestamps: TCPTimestamps?
    /// What the server has answered.
    var iss: SequenceNumber?
    /// It has answered twice, not the same.
    var isISSDisputed = false

    mutating func note(_ iss: SequenceNumber) {
        if let known = self.iss, known != iss { isISSDisputed = true }
        self.iss = iss
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
    /// Out-of-order data that found too many gaps already: those connections lost their protection, for the server
    /// may have kept the data and the client will not send it again.
    public var outOfOrderDropped: UInt64 = 0
    /// Frames that fit nothing: far outside the connection's sequence space, or a RST that the server will not obey.
    public var unfitting: UInt64 = 0
    public var expired: UInt64 = 0
    public var reset: UInt64 = 0
    public var replaced: UInt64 = 0
    /// Unfinished handshakes forgotten because the table was full.
    public var evicted: UInt64 = 0
    /// SYNs that found the table full: those connections are not protected.
    public var tableFull: UInt64 = 0
    /// Connections that lost their protection.
    public var unprotected: UInt64 = 0
    /// Copies of the owner's that were taken, and those that were not: of another incarnation, or not to be believed.
    public var copies: UInt64 = 0
    public var copiesRefused: UInt64 = 0
    /// Journal bytes that came from the owner, not from the tap.
    public var copiedBytes: UInt64 = 0
    /// Connections whose lost protection came back by the owner's copy.
    public var restored: UInt64 = 0
    /// Connections that lost their protection because the owner does not have the missing bytes either.
    public var holesUnfilled: UInt64 = 0

    public init() {}
}
