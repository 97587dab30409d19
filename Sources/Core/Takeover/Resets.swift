import Model
import Tracking
import Wire

// The ends of connections that are not served: the client is told so, or is gone itself.

extension TakeoverMachine {
    /// A RST at exactly what the client expects next, which alone it obeys (RFC 5961 3.2).
    ///
    /// - Parameter place: of the client's RCV.NXT, where it is another than what is known.
    func reset(
        _ item: borrowing Work,
        _ connection: borrowing BackupConnection,
        at place: SequenceNumber? = nil
    ) -> [UInt8] {
        let further = Int(truncatingIfNeeded: item.sndUna(connection) - item.plan.replyPlace(connection.sndUna))
        let known = connection.acknowledged ?? SequenceNumber(0)
        return TCPPacket(
            from: connection.flow.service,
            to: connection.flow.client,
            sequence: place ?? known.advanced(by: further),
            acknowledgment: connection.clientNext,
            flags: [.rst, .ack],
            window: 0
        ).encode()
    }

    /// Both places where the client may be, if it has said another one than what is known.
    private func sendResets(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        into effects: inout [TakeoverEffect]
    ) {
        effects.append(.sendToClient(reset(work[place], connection)))
        guard let below = work[place].below else { return }
        effects.append(.sendToClient(reset(work[place], connection, at: below)))
    }

    /// Tells the client that it is over.
    mutating func reset(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        _ cause: ResetCause,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        decide(place, reset: cause, into: &effects)
        enter(.resetting, place, now: now)
        work[place].repeats = 0
        work[place].interval = parameters.resetInterval
        sendResets(place, connection, into: &effects)
        if parameters.resetRepeats > 0 {
            schedule(place, now + parameters.resetInterval)
        } else {
            finish(place, into: &effects)
        }
    }

    mutating func repeatReset(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        sendResets(place, connection, into: &effects)
        work[place].repeats += 1
        guard work[place].repeats < parameters.resetRepeats else {
            finish(place, into: &effects)
            return
        }
        work[place].interval = work[place].interval * 2
        schedule(place, now + work[place].interval)
    }

    /// Ends a connection that is in the data plane already. The data plane forgets it before the client's RST is sent,
    /// for it lets nothing of a refused connection pass.
    mutating func resetAdopted(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        _ cause: ResetCause,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        let wasInFlight = work[place].state == .adopting || work[place].state == .trying
        closeSocket(work[place], into: &effects)
        effects.append(.uninstall(work[place].flow))
        reset(place, connection, cause, now: now, into: &effects)
        if wasInFlight {
            inFlight -= 1
            adoptReady(tracker: tracker, now: now, into: &effects)
        }
    }

    /// Ends what the local application has of the connection, as the client's RST would, before the data plane forgets
    /// it: what it goes on sending must not leave. A socket obeys a RST at its RCV.NXT alone: what it has acknowledged,
    /// or, where no segment has shown that yet, what it was given.
    private func closeSocket(_ item: borrowing Work, into effects: inout [TakeoverEffect]) {
        guard let entry = item.entry else { return }
        for offset in item.replayed == item.injected ? [item.injected] : [item.replayed, item.injected] {
            let packet = TCPPacket(
                from: entry.flow.client,
                to: entry.flow.service,
                sequence: entry.irs.advanced(by: 1 + Int(truncatingIfNeeded: offset)),
                acknowledgment: SequenceNumber(0),
                flags: [.rst],
                window: 0
            )
            effects.append(.inject(packet.encode()))
        }
    }

    /// The tracker does not know the connection any more: the client has sent a RST, or uses the port for a new one.
    /// Nothing is owed to anybody ([Z] III-B).
    mutating func vanished(
        _ place: Int,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        let wasInFlight = work[place].state == .adopting || work[place].state == .trying
        if !work[place].isDecided { decide(place, reset: .clientGone, into: &effects) }
        if wasInFlight || work[place].state == .replaying {
            closeSocket(work[place], into: &effects)
            effects.append(.uninstall(work[place].flow))
        }
        finish(place, into: &effects)
        if wasInFlight {
            inFlight -= 1
            adoptReady(tracker: tracker, now: now, into: &effects)
        }
    }
}
