import HTTP
import Model
import Tracking
import Wire

/// One connection on its way through a take-over.
struct Work {
    enum State: Hashable {
        case probing
        /// The client has answered; its adoption waits for its turn.
        case waiting
        /// The request was made locally first; its reply's head is awaited.
        case trying
        /// The adopting ACK was written; no socket was seen yet.
        case adopting
        /// The socket is there; the journal is on its way to it, the catch-up is watched.
        case replaying
        /// The client was told that it is over, and is told again.
        case resetting
        case over
    }

    let handle: ConnectionHandle
    let flow: FlowKey
    let profile: AdoptionProfile
    var state = State.probing
    /// When the state was entered.
    var since: Instant
    var answeredAt: Instant?
    var adoptedAt: Instant?
    /// The next deadline is so far behind the last one.
    var interval = Interval.zero
    var deadline = Instant.never
    var repeats = 0
    var isDecided = false
    /// Both sides use timestamps: the client's segments carry them.
    var timestampsAgreed = false
    /// The client's window, counted from ISS + 1.
    var rightEdge: UInt64 = 0
    var entry: ConnectionEntry?
    /// The data plane does not know the connection (any more) although it should.
    var isEntryMissing = false

    /// From where it is replayed, and what has to come of it.
    var plan = ReplayPlan()
    var trial: Trial?
    var regenerated = Regenerated()
    /// The client has bytes of the dead server beyond SND.UNA, behind a hole.
    var hasHole = false
    /// The ACK of its last frame, while it is probed.
    var heard: SequenceNumber?
    /// What its last frame has acknowledged, where that is less than is known: no client goes back, so either the frame
    /// is late, or what is known is wrong.
    var below: SequenceNumber?
    /// Frames in a row of another connection of the same flow.
    var strays = 0

    // Places in the client's stream count from the IRS + 1 of the adoption; a FIN counts as one byte.

    /// What has to reach the socket: all that the tracker had when the socket was found, and later what stalls.
    var target: UInt64 = 0
    /// Acknowledged by the socket.
    var replayed: UInt64 = 0
    /// The socket's window ends here.
    var window: UInt64 = 0
    /// Handed to the socket.
    var injected: UInt64 = 0
    /// What the socket has sent, counted from the ISS + 1 of the adoption.
    var sent: UInt64 = 0
    /// What the client has acknowledged, as far as the data plane knows; counted likewise.
    var acknowledged: UInt64 = 0
    /// When the socket last took or sent something new.
    var progressAt: Instant
    var retryAt = Instant.never
    var retryInterval = Interval.zero
    var isLive = false
    /// Since when bytes of the client are known to be missing; nil while none are.
    var holeSince: Instant?
    /// Where the first of them stands.
    var holeAt: UInt64 = 0

    /// It was last seen waiting for bytes that are missing, and has not got them. A journal that has lost its protection
    /// does not tell any more what it lacks.
    var isStuck: Bool { holeSince != nil && replayed <= holeAt }

    init(handle: ConnectionHandle, flow: FlowKey, profile: AdoptionProfile, now: Instant) {
        self.handle = handle
        self.flow = flow
        self.profile = profile
        since = now
        progressAt = now
    }

    /// Shift counts hold only where both sides announced one (RFC 7323 2.2).
    func scalesWindows(_ client: HandshakeOptions) -> Bool {
        client.windowScale != nil && profile.server?.windowScale != nil
    }

    /// A window of the client's header in bytes.
    func bytes(ofWindow field: UInt16, _ client: HandshakeOptions) -> UInt64 {
        UInt64(field) << UInt64(scalesWindows(client) ? client.windowScale ?? 0 : 0)
    }

    /// SND.UNA: the highest of what the tap and the data plane have seen.
    func sndUna(_ connection: borrowing BackupConnection) -> UInt64 {
        max(plan.replyPlace(connection.sndUna), acknowledged)
    }

    /// The end of the journal.
    func length(_ connection: borrowing BackupConnection) -> UInt64 { plan.clientPlace(connection.journalLength) }

    /// A packet from the client to the local socket, at a place of the client's stream.
    ///
    /// Its ACK has to be near what the socket has sent, for the data of a segment with an older one is thrown away
    /// (RFC 5961 5.2), and never above it, nor above what the client has.
    func packet(
        at place: UInt64,
        _ connection: borrowing BackupConnection,
        flags: TCPFlags,
        payload: [UInt8]
    ) -> TCPPacket {
        let iss = entry?.iss ?? SequenceNumber(0)
        let acknowledged = min(sent, sndUna(connection))
        return TCPPacket(
            from: flow.client,
            to: flow.service,
            sequence: connection.irs.advanced(by: 1 + Int(plan.clientOrigin) + Int(truncatingIfNeeded: place)),
            acknowledgment: iss.advanced(by: 1 + Int(truncatingIfNeeded: acknowledged)),
            flags: flags,
            window: window(from: acknowledged, connection),
            // The adopting ACK starts the clocks. What comes after goes without: the data plane may have shown the
            // socket a newer clock of the client than the tap has seen, and PAWS would drop it (RFC 7323 5.3). Linux
            // takes segments without the option.
            timestamps: state == .replaying ? nil : entry?.timestamps,
            payload: payload
        )
    }

    /// The window field that lets the socket get as far as it should.
    ///
    /// Below SND.UNA nothing that it sends leaves, so that it must never be held back there: a client that reads slowly
    /// has a window of 0, what is cut off in scaling may be less than the rest of the way, and a sender waits for room
    /// for a whole segment. So it has room for two segments beyond SND.UNA; the first of them that leaves brings the
    /// client's real window. From SND.UNA on only that counts.
    private func window(from place: UInt64, _ connection: borrowing BackupConnection) -> UInt16 {
        let scale = UInt64(entry?.clientWindowScale ?? 0)
        let una = sndUna(connection)
        let edge = plan.replyPlace(rightEdge)
        guard place < una else {
            return UInt16(min((edge > place ? edge - place : 0) >> scale, 65_535))
        }
        let least = max(edge, una + 2 * UInt64(connection.client.mss))
        return UInt16(min((least - place + (1 << scale) - 1) >> scale, 65_535))
    }
}
