import HTTP
import Model

/// A message between two agents over TLS: a backup asks the owner of a slot for what its own tap has missed.
///
/// Frame: as of `StreamMessage`. Every answer is bounded, and nothing is kept about the asker between two requests, so
/// that the asker sets the pace: it has one request under way for each slot. docs/design/0005-resynchronisation.md.
public enum PeerMessage: Hashable, Sendable {
    /// The first message of whoever connects.
    case hello(PeerHello)
    /// "Which connections has this slot?"
    case list(ListRequest)
    case listed(ListAnswer)
    /// "Give me these bytes."
    case fetch(FetchRequest)
    case copies(CopyAnswer)
    case refused(PeerRefusal)
}

/// Who asks, and whom it means: a message for another life must not be answered.
public struct PeerHello: Hashable, Sendable {
    public var version: UInt16
    public var sender: BackendID
    public var senderLife: Life
    public var receiverLife: Life

    public init(version: UInt16 = ControlProtocol.version, sender: BackendID, senderLife: Life, receiverLife: Life) {
        self.version = version
        self.sender = sender
        self.senderLife = senderLife
        self.receiverLife = receiverLife
    }
}

public struct ListRequest: Hashable, Sendable {
    public var slot: SlotID
    /// The asker's number for the request; the answer repeats it.
    public var serial: UInt32
    /// 0, or `next` of the answer before.
    public var cursor: UInt32
    /// Only connections of which a frame came within this time; nil: all of them.
    public var activeWithin: Interval?

    public init(slot: SlotID, serial: UInt32, cursor: UInt32 = 0, activeWithin: Interval? = nil) {
        self.slot = slot
        self.serial = serial
        self.cursor = cursor
        self.activeWithin = activeWithin
    }
}

public struct ListAnswer: Hashable, Sendable {
    public var slot: SlotID
    public var serial: UInt32
    /// Where to go on; nil at the end. A connection that lives throughout is named once, whatever comes and goes.
    public var next: UInt32?
    public var connections: [ConnectionSummary]
    /// What the servers that made the slot's connections announce. The owner of a taken-over slot is not one of them,
    /// and they may be dead.
    public var handshakes: [ServiceHandshake]

    public init(
        slot: SlotID,
        serial: UInt32,
        next: UInt32?,
        connections: [ConnectionSummary],
        handshakes: [ServiceHandshake] = []
    ) {
        self.slot = slot
        self.serial = serial
        self.next = next
        self.connections = connections
        self.handshakes = handshakes
    }
}

/// What a service's SYN-ACKs offer.
public struct ServiceHandshake: Hashable, Sendable {
    public var service: Endpoint
    public var options: HandshakeOptions

    public init(service: Endpoint, options: HandshakeOptions) {
        self.service = service
        self.options = options
    }
}

/// How far the owner has followed a connection.
public struct ConnectionSummary: Hashable, Sendable {
    public var flow: FlowKey
    public var irs: SequenceNumber
    /// The server's, where the owner knows it from the SYN-ACK; nil where it has only what the client's ACKs say.
    public var certainISS: SequenceNumber?
    /// Client bytes that the owner has, counted from IRS + 1.
    public var journalLength: UInt64
    /// Since the last frame.
    public var idle: Interval
    public var hasFIN: Bool
    public var unprotected: ResetCause?

    public init(
        flow: FlowKey,
        irs: SequenceNumber,
        certainISS: SequenceNumber? = nil,
        journalLength: UInt64,
        idle: Interval = .zero,
        hasFIN: Bool = false,
        unprotected: ResetCause? = nil
    ) {
        self.flow = flow
        self.irs = irs
        self.certainISS = certainISS
        self.journalLength = journalLength
        self.idle = idle
        self.hasFIN = hasFIN
        self.unprotected = unprotected
    }
}

public struct FetchRequest: Hashable, Sendable {
    public var slot: SlotID
    public var serial: UInt32
    public var wants: [Want]

    /// A part of one connection's journal, counted from IRS + 1; empty for the state alone.
    public struct Want: Hashable, Sendable {
        public var flow: FlowKey
        public var irs: SequenceNumber
        public var from: UInt64
        public var upTo: UInt64

        public init(flow: FlowKey, irs: SequenceNumber, from: UInt64, upTo: UInt64) {
            self.flow = flow
            self.irs = irs
            self.from = from
            self.upTo = upTo
        }
    }

    public init(slot: SlotID, serial: UInt32, wants: [Want]) {
        self.slot = slot
        self.serial = serial
        self.wants = wants
    }
}

/// The copies for a request, as many as fit; what is named in neither list is to be asked for again.
public struct CopyAnswer: Hashable, Sendable {
    public var slot: SlotID
    public var serial: UInt32
    public var copies: [ConnectionCopy]
    /// Connections that the owner does not know (any more).
    public var unknown: [FlowKey]

    public init(slot: SlotID, serial: UInt32, copies: [ConnectionCopy], unknown: [FlowKey]) {
        self.slot = slot
        self.serial = serial
        self.copies = copies
        self.unknown = unknown
    }
}

/// What the owner knows of one connection ([Z] II-D: "its state variables, and all the application data received so
/// far"), and a piece of its journal.
public struct ConnectionCopy: Hashable, Sendable {
    public var flow: FlowKey
    public var slot: SlotID
    public var irs: SequenceNumber
    public var iss: SequenceNumber?
    /// The owner has `iss` from the SYN-ACK, or from another owner that had.
    public var isISSCertain: Bool
    /// What the client announced in its SYN.
    public var client: HandshakeOptions
    /// Counted from ISS + 1.
    public var sndUna: UInt64
    public var rightEdge: UInt64
    public var timestamps: TCPTimestamps?
    /// Places in the client's stream count from IRS + 1.
    public var finOffset: UInt64?
    public var clientSent: UInt64
    public var unprotected: ResetCause?
    public var idle: Interval
    /// Where the replay starts: client bytes before it are forgotten, and so is the reply before `replyStart`, which is
    /// counted from ISS + 1. Both are 0 where it starts with the connection.
    public var journalStart: UInt64
    public var replyStart: UInt64
    /// What is known of the replies from `replyStart` on; nil where the owner does not follow the connection as HTTP.
    public var conversation: ConversationCopy?
    /// The end of all contiguous bytes that the owner has; `bytes` are some of them.
    public var journalLength: UInt64
    public var offset: UInt64
    public var bytes: [UInt8]

    public init(
        flow: FlowKey,
        slot: SlotID,
        irs: SequenceNumber,
        iss: SequenceNumber?,
        isISSCertain: Bool = false,
        client: HandshakeOptions,
        sndUna: UInt64 = 0,
        rightEdge: UInt64 = 0,
        timestamps: TCPTimestamps? = nil,
        finOffset: UInt64? = nil,
        clientSent: UInt64 = 0,
        unprotected: ResetCause? = nil,
        idle: Interval = .zero,
        journalStart: UInt64 = 0,
        replyStart: UInt64 = 0,
        conversation: ConversationCopy? = nil,
        journalLength: UInt64 = 0,
        offset: UInt64 = 0,
        bytes: [UInt8] = []
    ) {
        self.flow = flow
        self.slot = slot
        self.irs = irs
        self.iss = iss
        self.isISSCertain = isISSCertain
        self.client = client
        self.sndUna = sndUna
        self.rightEdge = rightEdge
        self.timestamps = timestamps
        self.finOffset = finOffset
        self.clientSent = clientSent
        self.unprotected = unprotected
        self.idle = idle
        self.journalStart = journalStart
        self.replyStart = replyStart
        self.conversation = conversation
        self.journalLength = journalLength
        self.offset = offset
        self.bytes = bytes
    }
}

public struct PeerRefusal: Hashable, Sendable {
    public enum Reason: UInt8, Hashable, Sendable, CaseIterable {
        /// By its ring table the receiver does not serve the slot, or the sender does not back it up: ask again later.
        case notOurs = 1
        /// The hello named another life, or did not come first.
        case unknownPeer = 2
    }

    public var slot: SlotID
    public var serial: UInt32
    public var reason: Reason

    public init(slot: SlotID, serial: UInt32, reason: Reason) {
        self.slot = slot
        self.serial = serial
        self.reason = reason
    }
}

/// Where a backup finds what the owner of a slot has.
public struct SlotSource: Hashable, Sendable {
    public var slot: SlotID
    public var owner: BackendID
    public var ownerLife: Life
    public var address: IPAddress

    public init(slot: SlotID, owner: BackendID, ownerLife: Life, address: IPAddress) {
        self.slot = slot
        self.owner = owner
        self.ownerLife = ownerLife
        self.address = address
    }
}

/// How many connections of a slot a backup could take over if the owner died now; from the backup to the director.
public struct SlotProtection: Hashable, Sendable {
    public enum Phase: UInt8, Hashable, Sendable, CaseIterable {
        /// No session with the owner yet.
        case waiting = 1
        /// The connections that are older than the backup's tap are on their way.
        case copying = 2
        /// Everything that the owner has is here too; from now on only losses are made good.
        case synchronised = 3

        public var name: String {
            switch self {
            case .waiting: "waiting"
            case .copying: "copying"
            case .synchronised: "synchronised"
            }
        }
    }

    public var slot: SlotID
    public var phase: Phase
    /// Connections of the slot that the backup knows.
    public var connections: UInt32
    /// Those of them that can be taken over.
    public var protected: UInt32
    /// Connections of which something is still to be fetched.
    public var missing: UInt32
    /// From the moment the backup began to listen to the group until everything older was there; nil before.
    public var timeToProtection: Interval?

    public init(
        slot: SlotID,
        phase: Phase,
        connections: UInt32 = 0,
        protected: UInt32 = 0,
        missing: UInt32 = 0,
        timeToProtection: Interval? = nil
    ) {
        self.slot = slot
        self.phase = phase
        self.connections = connections
        self.protected = protected
        self.missing = missing
        self.timeToProtection = timeToProtection
    }
}

/// The bounds of one answer: nothing else of the agent has to wait for longer than it takes to put one together.
public enum PeerLimits {
    /// Connections in one list.
    public static let summaries = 256
    /// Places of the tracker that are looked at for one list.
    public static let places = 4096
    /// Wants in one request, and copies in one answer.
    public static let wants = 64
    /// Journal bytes in one answer.
    public static let bytes = 128 << 10
    /// Slots in one report to the director.
    public static let slots = 64
}
