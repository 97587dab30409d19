import Model
import Tracking
import Wire

/// One connection on its way through a take-over.
struct Work {
    enum State: Hashable {
        case probing
        /// The client has answered; its adoption waits for its turn.
        case waiting
        /// The adopting ACK was written; no socket was seen yet.
        case adopting
        /// The socket is there; the journal is on its way to it, the catch-up is watched.
        case replaying
        case over
    }

    let handle: ConnectionHandle
    let flow: FlowKey
    var state = State.probing
    var startedAt: Instant
    var answeredAt: Instant?
    var adoptionStartedAt: Instant
    var adoptedAt: Instant?
    var interval = Interval.zero
    var deadline: Instant
    var isDecided = false
    /// The client's window, counted from ISS + 1.
    var rightEdge: UInt64 = 0
    var entry: ConnectionEntry?
    /// Journal bytes that the socket has acknowledged, counted from IRS + 1.
    var replayed: UInt64 = 0
    /// Journal bytes handed to it.
    var injected: UInt64 = 0
    var finInjected = false
    /// When the socket last acknowledged something new.
    var progressAt: Instant

    init(handle: ConnectionHandle, flow: FlowKey, now: Instant) {
        self.handle = handle
        self.flow = flow
        startedAt = now
        adoptionStartedAt = now
        deadline = now
        progressAt = now
    }

    /// A packet from the client to the local socket, `offset` journal bytes behind IRS + 1.
    ///
    /// The ACK is ISS + 1 in all of them: the socket has sent nothing yet as far as they know, and the window is told
    /// from there.
    func packet(at offset: UInt64, flags: TCPFlags, payload: [UInt8]) -> TCPPacket {
        let iss = entry?.iss ?? SequenceNumber(0)
        let irs = entry?.irs ?? SequenceNumber(0)
        let scale = UInt64(entry?.clientWindowScale ?? 0)
        return TCPPacket(
            from: flow.client,
            to: flow.service,
            sequence: irs.advanced(by: 1 + Int(truncatingIfNeeded: offset)),
            acknowledgment: iss.advanced(by: 1),
            flags: flags,
            window: UInt16(min((entry?.rightEdge ?? 0) >> scale, 65_535)),
            timestamps: entry?.timestamps,
            payload: payload
        )
    }
}
