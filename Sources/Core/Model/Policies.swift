/// What a backup may do with the journal of a dead server's connection.
public enum ReplayPolicy: UInt8, Sendable, CaseIterable {
    /// Nothing: the connection is reset at once.
    case none = 0
    /// Replay all client bytes from the start of the connection ([Z] II-F).
    case stream = 1
    /// Replay HTTP/1 requests from the oldest that is not answered in full, and hold the regenerated reply against what
    /// the dead server had begun to answer.
    case http = 2

    public var name: String {
        switch self {
        case .none: "none"
        case .stream: "stream"
        case .http: "http"
        }
    }
}

/// Requests of which methods may be asked again of another server (RFC 9110 9.2.1, 9.2.2).
public enum ReplayMethods: UInt8, Sendable, CaseIterable {
    case safe = 0
    case idempotent = 1
    /// The operator vouches for it that asking twice does no harm.
    case all = 2

    public var name: String {
        switch self {
        case .safe: "safe"
        case .idempotent: "idempotent"
        case .all: "all"
        }
    }
}

/// What a service with `ReplayPolicy.http` allows.
public struct HTTPReplay: Hashable, Sendable {
    public var methods: ReplayMethods
    /// A client that has at least so many bytes of a body gets only the rest of it regenerated; nil: never.
    public var rangeFrom: UInt64?

    public init(methods: ReplayMethods = .safe, rangeFrom: UInt64? = HTTPReplay.usualRangeFrom) {
        self.methods = methods
        self.rangeFrom = rangeFrom
    }

    public static let usualRangeFrom: UInt64 = 1_000_000
}

/// Why a connection could not be taken over, or ended during the take-over; counted by `batonctl`.
public enum ResetCause: UInt8, Sendable, CaseIterable {
    /// The service's replay policy is `none`.
    case replayForbidden = 0
    /// The handshake was not seen whole: ISS or IRS is unknown.
    case handshakeUnknown = 1
    /// Client bytes are missing from the journal.
    case journalHole = 2
    /// The journal outgrew its bound.
    case journalFull = 3
    /// The client sent different bytes for the same sequence numbers.
    case conflictingBytes = 4
    /// No answer to the probes.
    case probeUnanswered = 5
    /// The client answered the probe with RST: the connection was over ([Z] III-B).
    case clientGone = 6
    /// The local kernel or application did not accept the adoption.
    case adoptionRefused = 7
    /// The regenerated reply ended before the place that the client had reached.
    case replyShorter = 8
    /// The client says that it received bytes the connection cannot have carried.
    case acknowledgmentImpossible = 9
    /// An option of the connection cannot be carried over (MSS below the kernel's minimum, say).
    case optionUnsupported = 10
    /// A request that would have to be asked again has a method that the service does not allow to be.
    case methodNotAllowed = 11
    /// The regenerated reply is another than the one that the client has a part of.
    case replyDiffers = 12
    /// What the client has a part of is not known, or nothing shows that the regenerated reply is the same.
    case replyUnknown = 13
    /// What the client sent is no HTTP/1 that can be read in one way only, or has become another protocol.
    case requestNotUnderstood = 14

    /// The name in `batonctl` and in logs.
    public var name: String {
        switch self {
        case .replayForbidden: "replay-forbidden"
        case .handshakeUnknown: "handshake-unknown"
        case .journalHole: "journal-hole"
        case .journalFull: "journal-full"
        case .conflictingBytes: "conflicting-bytes"
        case .probeUnanswered: "probe-unanswered"
        case .clientGone: "client-gone"
        case .adoptionRefused: "adoption-refused"
        case .replyShorter: "reply-shorter"
        case .acknowledgmentImpossible: "acknowledgment-impossible"
        case .optionUnsupported: "option-unsupported"
        case .methodNotAllowed: "method-not-allowed"
        case .replyDiffers: "reply-differs"
        case .replyUnknown: "reply-unknown"
        case .requestNotUnderstood: "request-not-understood"
        }
    }
}
