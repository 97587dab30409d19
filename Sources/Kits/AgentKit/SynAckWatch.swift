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
    private var untold: [SynAckNotice] = []
    /// Where the latest reading's begin, and when that was.
    private var fresh = 0
    private var readAt = Instant(nanoseconds: 0)
    private var toldAt = Instant(nanoseconds: 0)
    /// When `due` has something to be told.
    private(set) var nextTelling = Instant.never

    /// Until the SYN has passed every backup's tap, and our own.
    static let settling = Interval.milliseconds(2)
    /// Under load a datagram tells of all connections of so long: each datagram costs as much as 30 of them.
    static let pace = Interval.milliseconds(20)
    /// SYN-ACKs of one reading. More of them, in 5 ms, are a flood's.
    static let limit = 1024

    init(interface: String, addresses: [IPAddress]) throws {
        tap = try SynAckTap(interface: interface, vips: addresses)
        self.addresses = addresses
    }

    /// Takes the SYN-ACKs that were sent since the last call.
    ///
    /// - Parameter body: called with the options of each, and the service that it is of.
    mutating func read(
        _ services: [ServiceDescription],
        _ body: (Endpoint, HandshakeOptions) -> Void
    ) throws {
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
        guard !notices.isEmpty else { return }
        fresh = untold.count
        readAt = MonotonicClock.now()
        untold += notices
        if nextTelling == .never { nextTelling = max(readAt + Self.settling, toldAt + Self.pace) }
    }

    /// What has to be told by now; each is told once, and the list of connections repeats it.
    mutating func due(_ now: Instant) -> [SynAckNotice] {
        guard nextTelling <= now || now == .never else { return [] }
        // What has just been read may be over in a moment, and then need not be told.
        let settled = now == .never || now - readAt >= Self.settling ? untold.count : fresh
        let notices = Array(untold[..<settled])
        untold.removeFirst(settled)
        (fresh, toldAt) = (0, now)
        nextTelling = untold.isEmpty ? .never : toldAt + Self.pace
        return notices
    }
}
