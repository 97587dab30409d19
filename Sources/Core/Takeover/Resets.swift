import Model
import Tracking
import Wire

// The ends of connections that are not served: the client is told so, or is gone itself.

extension TakeoverMachine {
    /// A RST at exactly what the client expects next, which alone it obeys (RFC 5961 3.2).
    func reset(_ connection: borrowing BackupConnection) -> [UInt8] {
        TCPPacket(
            from: connection.flow.service,
            to: connection.flow.client,
            sequence: connection.acknowledged ?? SequenceNumber(0),
            acknowledgment: connection.clientNext,
            flags: [.rst, .ack],
            window: 0
        ).encode()
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
        effects.append(.sendToClient(reset(connection)))
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
        effects.append(.sendToClient(reset(connection)))
        work[place].repeats += 1
        guard work[place].repeats < parameters.resetRepeats else {
            finish(place, into: &effects)
            return
        }
        work[place].interval = work[place].interval * 2
        schedule(place, now + work[place].interval)
    }

    /// Ends a connection that is in the data plane already. The data plane forgets it first, for it lets nothing of a
    /// refused connection pass.
    mutating func resetAdopted(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        _ cause: ResetCause,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        let wasInFlight = work[place].state == .adopting
        effects.append(.uninstall(work[place].flow))
        reset(place, connection, cause, now: now, into: &effects)
        if wasInFlight {
            inFlight -= 1
            adoptReady(tracker: tracker, now: now, into: &effects)
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
        let wasInFlight = work[place].state == .adopting
        // An adopted connection's socket gets the RST as well, and closes.
        if !work[place].isDecided { decide(place, reset: .clientGone, into: &effects) }
        if wasInFlight { effects.append(.uninstall(work[place].flow)) }
        finish(place, into: &effects)
        if wasInFlight {
            inFlight -= 1
            adoptReady(tracker: tracker, now: now, into: &effects)
        }
    }
}
