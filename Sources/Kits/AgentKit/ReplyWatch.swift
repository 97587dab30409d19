import HTTP
import LinuxBase
import LinuxCapture
import Model
import Wire

/// Reads the heads of the replies that this machine sends, for its backups ([Z] has nothing of it: see
/// docs/design/0004-http-replay.md).
///
/// Belongs to the data thread.
struct ReplyWatch {
    private let tap: ReplyTap
    private let services: [ServiceDescription]
    /// What is told once more, and when: a datagram may be lost, or come before the frames that it is about.
    private var again: [(at: Instant, notices: [ReplyNotice])] = []

    static let pause = Interval.milliseconds(15)

    /// Nil where no service is replayed as HTTP.
    init?(interface: String, services: [ServiceDescription]) throws {
        let services = services.filter { $0.replay == .http }
        guard !services.isEmpty else { return nil }
        self.services = services
        tap = try ReplyTap(interface: interface, services: services.map(\.endpoint))
    }

    var descriptor: Int32 { tap.descriptor }
    var nextRepeat: Instant { again.first?.at ?? .never }

    /// The replies that have begun since the last call.
    mutating func read() throws -> [ReplyNotice] {
        var notices: [ReplyNotice] = []
        try tap.dispatch(max: 256) { bytes, length, _ in note(bytes, length, into: &notices) }
        if !notices.isEmpty { again.append((MonotonicClock.now() + Self.pause, notices)) }
        return notices
    }

    /// What has to be told again by now.
    mutating func due(_ now: Instant) -> [ReplyNotice] {
        var notices: [ReplyNotice] = []
        while let first = again.first, first.at <= now { notices += again.removeFirst().notices }
        return notices
    }

    private func note(_ bytes: UnsafeRawBufferPointer, _ length: Int, into notices: inout [ReplyNotice]) {
        guard case .segment(let frame) = FrameParser.parse(ethernet: bytes, wireLength: length) else { return }
        // In a reply the service is the source.
        let (service, client) = (frame.flow.client, frame.flow.service)
        guard let id = services.first(where: { $0.endpoint == service })?.id else { return }
        let payload = UnsafeRawBufferPointer(rebasing: bytes[frame.payload])
        var at = 0
        // Interim heads and the final one may come in one segment.
        while at < payload.count,
            case .facts(let facts) = ReplyHead.parse(UnsafeRawBufferPointer(rebasing: payload[at...]))
        {
            let sequence = frame.sequence.advanced(by: at)
            notices.append(ReplyNotice(client: client, service: id, sequence: sequence, facts: facts))
            guard facts.isInterim else { return }
            at += Int(facts.headBytes)
        }
    }
}
