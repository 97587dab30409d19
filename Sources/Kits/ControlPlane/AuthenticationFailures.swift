import Logging
import Model

/// Why something that came over the control network was dropped.
public enum AuthenticationFailureCause: UInt8, Sendable, CaseIterable {
    /// A datagram with no room for a tag and one byte.
    case datagramTooShort = 0
    /// A datagram longer than `Limits.datagramBytes`.
    case datagramTooLong = 1
    /// A datagram whose tag is wrong: another key, or changed on its way.
    case datagramForged = 2
    /// A TLS peer with another pre-shared key.
    case handshakeWrongKey = 3
    /// A TLS peer that does not offer our pre-shared key and suite at all.
    case handshakeWithoutKey = 4
    /// Bytes that are not TLS, or a garbled handshake.
    case handshakeNotTLS = 5
    /// A TLS handshake that broke off: closed or reset by the peer.
    case handshakeAbandoned = 6
    /// A TLS handshake not finished in time.
    case handshakeTimedOut = 7
    /// An unfinished handshake closed to make room for a newer one.
    case handshakeCrowdedOut = 8
    /// An authenticated session more than the bound.
    case sessionsTooMany = 9
    /// A record within a session whose tag is wrong, or that is not TLS.
    case recordForged = 10
    /// A frame longer than the bound.
    case frameTooLong = 11
    /// For the users of this layer: an authentic message that cannot be decoded.
    case messageMalformed = 12
    /// For the users of this layer: an authentic message that is older than one already seen.
    case messageOld = 13
    /// For the users of this layer: an authentic message of another life than the one agreed.
    case messageOfAnotherLife = 14
    /// For the users of this layer: an authentic message of a peer that is not in the configuration.
    case peerUnknown = 15

    /// The name in `batonctl` and in logs.
    public var name: String {
        switch self {
        case .datagramTooShort: "datagram-too-short"
        case .datagramTooLong: "datagram-too-long"
        case .datagramForged: "datagram-forged"
        case .handshakeWrongKey: "handshake-wrong-key"
        case .handshakeWithoutKey: "handshake-without-key"
        case .handshakeNotTLS: "handshake-not-tls"
        case .handshakeAbandoned: "handshake-abandoned"
        case .handshakeTimedOut: "handshake-timed-out"
        case .handshakeCrowdedOut: "handshake-crowded-out"
        case .sessionsTooMany: "sessions-too-many"
        case .recordForged: "record-forged"
        case .frameTooLong: "frame-too-long"
        case .messageMalformed: "message-malformed"
        case .messageOld: "message-old"
        case .messageOfAnotherLife: "message-of-another-life"
        case .peerUnknown: "peer-unknown"
        }
    }
}

/// Counts what was dropped, by cause, and logs each pair of peer address and cause once.
///
/// Source addresses may be forged, so the table of pairs is bounded: beyond it failures are counted only. One object
/// serves all sockets of a daemon. Use it on the control loop only.
public final class AuthenticationFailures {
    /// Pairs of peer address and cause that are remembered.
    public static let rememberedLimit = 1024

    private struct Pair: Hashable {
        var address: IPAddress
        var cause: AuthenticationFailureCause
    }

    private let logger: Logger
    private let limit: Int
    private var remembered: Set<Pair> = []
    private var counts = [UInt64](repeating: 0, count: AuthenticationFailureCause.allCases.count)
    private var fullLogged = false

    public init(logger: Logger, rememberedLimit: Int = AuthenticationFailures.rememberedLimit) {
        self.logger = logger
        limit = rememberedLimit
    }

    /// Counts one failure; logs it when it is the first one of this address and cause.
    ///
    /// - Parameter detail: What else is known; read only when the line is logged.
    public func record(
        _ cause: AuthenticationFailureCause,
        from peer: Endpoint,
        detail: @autoclosure () -> String = ""
    ) {
        counts[Int(cause.rawValue)] &+= 1
        let pair = Pair(address: peer.address, cause: cause)
        if remembered.contains(pair) { return }
        guard remembered.count < limit else {
            if !fullLogged {
                fullLogged = true
                logger.warning(
                    "control traffic of more than \(limit) peers dropped; further peers are counted, not logged")
            }
            return
        }
        remembered.insert(pair)
        let detail = detail()
        logger.warning(
            """
            control traffic dropped: \(cause.name), from \(peer)\(detail.isEmpty ? "" : ": \(detail)") \
            (further ones of this peer and cause are counted, not logged)
            """
        )
    }

    /// Failures of one cause since the start.
    public func count(_ cause: AuthenticationFailureCause) -> UInt64 { counts[Int(cause.rawValue)] }

    /// Failures of all causes since the start.
    public var total: UInt64 { counts.reduce(0, &+) }

    /// The causes that occurred, in their order, with their counts: what `batonctl status` shows.
    public var nonZero: [(cause: AuthenticationFailureCause, count: UInt64)] {
        AuthenticationFailureCause.allCases.compactMap { cause in
            let count = count(cause)
            return count == 0 ? nil : (cause, count)
        }
    }

    /// Pairs of address and cause in the table.
    public var rememberedCount: Int { remembered.count }
}
