import LinuxBase
import LinuxCapture
import Model
import Wire

/// Reads the SYN-ACKs that this machine sends: what they announce, and the ISS of each connection, for its backups
/// (docs/design/0016-certain-iss.md).
///
/// Belongs to the data thread. It is read when the tap of the groups is, which has seen the SYN: nobody has to wake up for
/// it.
struct SynAckWatch {
    private let tap: SynAckTap
    let addresses: [IPAddress]
    /// What is told once more, and when: a datagram may be lost, or come before the SYN has passed another's tap.
    private var again: [(at: Instant, notices: [SynAckNotice])] = []

    static let pause = Interval.milliseconds(15)
    /// SYN-ACKs of one reading. More of them, in 5 ms, are a flood's.
    static let limit = 1024

    init(interface: String, addresses: [IPAddress]) throws {
        tap = try SynAckTap(interface: interface, vips: addresses)
        self.addresses = addresses
    }

    var nextRepeat: Instant { again.first?.at ?? .never }

    /// The SYN-ACKs that were sent since the last call.
    ///
    /// - Parameter body: called with the options of each, and the service that it is of.
    mutating func read(
        _ services: [ServiceDescription],
        _ body: (Endpoint, HandshakeOptions) -> Void
    ) throws -> [SynAckNotice] {
        var notices: [SynAckNotice] = []
        try tap.dispatch(max: Self.limit) { bytes, _, _ in
            // In a SYN-ACK the service is the source.
            guard case .segment(let frame) = FrameParser.parse(ethernet: bytes) else { return }
            let (service, client) = (frame.flow.client, frame.flow.service)
            body(service, frame.options)
            guard let known = services.first(where: { $0.endpoint == service }), known.replay != .none else { return }
            notices.append(
                SynAckNotice(
                    client: client, service: known.id, iss: frame.sequence, acknowledged: frame.acknowledgment))
        }
        if !notices.isEmpty { again.append((MonotonicClock.now() + Self.pause, notices)) }
        return notices
    }

    /// What has to be told again by now.
    mutating func due(_ now: Instant) -> [SynAckNotice] {
        var notices: [SynAckNotice] = []
        while let first = again.first, first.at <= now { notices += again.removeFirst().notices }
        return notices
    }
}
