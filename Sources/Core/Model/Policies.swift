/// What a backup may do with the journal of a dead server's connection.
public enum ReplayPolicy: UInt8, Sendable, CaseIterable {
    /// Nothing: the connection is reset at once.
    case none = 0
    /// Replay all client bytes from the start of the connection ([Z] II-F).
    case stream = 1

    public var name: String {
        switch self {
        case .none: "none"
        case .stream: "stream"
        }
    }
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
        }
    }
}
