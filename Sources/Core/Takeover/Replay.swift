import Model
import Tracking
import Wire

// The part of a take-over that begins when the client has answered: the entry in the data plane, the journal on its way
// to the socket, and the watch over the catch-up.

extension TakeoverMachine {
    /// Tells the data plane all that it needs for adoption and catch-up.
    mutating func install(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard let iss = connection.iss else { return }
        let profile = profile(connection.flow.service)
        let elapsed = UInt32(truncatingIfNeeded: (now - (work[place].answeredAt ?? now)).nanoseconds / 1_000_000)
        var timestamps: TCPTimestamps?
        if connection.client.timestamps, let known = connection.timestamps {
            // RFC 7323 5.3: a TSval below what the client has seen would be dropped, one far above spoils its RTT.
            timestamps = TCPTimestamps(
                value: known.value,
                echo: known.echo &+ elapsed &+ parameters.timestampMargin
            )
        }
        let scales = connection.client.windowScale != nil && profile.server.windowScale != nil
        let entry = ConnectionEntry(
            flow: connection.flow,
            slot: slot,
            iss: iss,
            irs: connection.irs,
            sndUna: connection.sndUna,
            rightEdge: work[place].rightEdge,
            timestamps: timestamps,
            sackPermitted: connection.client.sackPermitted && profile.server.sackPermitted,
            clientWindowScale: scales ? connection.client.windowScale : nil,
            serverWindowScale: scales ? profile.server.windowScale : nil,
            mss: connection.client.mss
        )
        work[place].entry = entry
        effects.append(.install(entry))
    }

    /// Writes journal bytes of a range into the TUN device, in segments; the FIN follows the last byte.
    func inject(
        _ item: borrowing Work,
        _ range: Range<UInt64>,
        tracker: borrowing Tracker,
        into effects: inout [TakeoverEffect]
    ) {
        guard let connection = tracker[item.handle] else { return }
        let end = min(range.upperBound, connection.journalLength)
        var at = range.lowerBound
        while at < end {
            let next = min(at + UInt64(parameters.segmentBytes), end)
            let isLast = next == connection.journalLength
            let closes = isLast && connection.finOffset == next
            let flags: TCPFlags = closes ? [.ack, .psh, .fin] : isLast ? [.ack, .psh] : [.ack]
            let payload = tracker.journal(item.handle, at..<next)
            effects.append(.inject(item.packet(at: at, flags: flags, payload: payload).encode()))
            at = next
        }
        if connection.journalLength == range.lowerBound {
            // Nothing to replay, or all of it is there: a pure ACK finds the socket, a FIN closes the client's half.
            let flags: TCPFlags = connection.finOffset == connection.journalLength ? [.ack, .fin] : [.ack]
            effects.append(.inject(item.packet(at: at, flags: flags, payload: []).encode()))
        }
    }

    /// Takes in what the data plane knows and goes on from there.
    mutating func apply(
        _ progress: AdoptionProgress,
        to place: Int,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard work[place].state == .adopting || work[place].state == .replaying else { return }
        if work[place].state == .adopting {
            guard progress.isAdopted else { return }
            adopted(place, progress, tracker: tracker, now: now, into: &effects)
        }
        switch progress.state {
        case .refused:
            noteTimes(place, progress)
            resetAdopted(place, tracker: tracker, .replyShorter, into: &effects)
        case .gone:
            markOver(place, into: &effects)
        case .live, .catchingUp, .adopting:
            advance(place, progress, tracker: tracker, now: now, into: &effects)
        }
    }

    private mutating func adopted(
        _ place: Int,
        _ progress: AdoptionProgress,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        inFlight -= 1
        work[place].state = .replaying
        work[place].adoptedAt = progress.adoptedAt ?? now
        work[place].progressAt = now
        work[place].interval = parameters.replayInterval
        work[place].deadline = now + parameters.replayInterval
        work[place].injected = UInt64(parameters.firstFlightBytes)
        let adoptedAt = progress.adoptedAt ?? now
        let started = work[place].adoptionStartedAt
        note { figures in
            figures.reconstruction.append((adoptedAt - started).nanoseconds)
            if figures.firstAdoptedAt.map({ adoptedAt < $0 }) ?? true { figures.firstAdoptedAt = adoptedAt }
        }
        markAdopted(place)
        adoptReady(tracker: tracker, now: now, into: &effects)
    }

    /// Feeds the journal within the socket's window, and ends the watch once everything is where it belongs.
    private mutating func advance(
        _ place: Int,
        _ progress: AdoptionProgress,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard let connection = tracker[work[place].handle] else {
            markOver(place, into: &effects)
            return
        }
        let first = connection.irs.advanced(by: 1)
        if let ack = progress.localAck {
            let base = first.advanced(by: Int(truncatingIfNeeded: work[place].replayed))
            let moved = ack.distance(from: base)
            if moved > 0 {
                work[place].replayed += UInt64(moved)
                work[place].progressAt = now
                work[place].interval = parameters.replayInterval
            }
        }
        let isReplayed = work[place].replayed >= connection.journalLength
        if isReplayed, progress.state == .live {
            noteTimes(place, progress)
            note { $0.live += 1 }
            markOver(place, into: &effects)
            return
        }
        if !isReplayed, let edge = progress.localRightEdge {
            let base = first.advanced(by: Int(truncatingIfNeeded: work[place].replayed))
            let window = UInt64(max(edge.distance(from: base), 0))
            let from = max(work[place].injected, work[place].replayed)
            let to = min(work[place].replayed + window, connection.journalLength)
            if from < to {
                inject(work[place], from..<to, tracker: tracker, into: &effects)
                work[place].injected = to
            }
        }
    }

    /// The timer of a connection that is being replayed: what the socket did not acknowledge is sent again, and a
    /// catch-up that does not come to its end is ended.
    mutating func replayAgain(
        _ place: Int,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard let connection = tracker[work[place].handle] else {
            markOver(place, into: &effects)
            return
        }
        if work[place].replayed < connection.journalLength {
            let from = work[place].replayed
            let to = min(from + UInt64(parameters.firstFlightBytes), connection.journalLength)
            inject(work[place], from..<to, tracker: tracker, into: &effects)
            work[place].injected = max(work[place].injected, to)
        } else if now - work[place].progressAt >= parameters.catchUpTimeout {
            resetAdopted(place, tracker: tracker, .replyShorter, into: &effects)
            return
        }
        work[place].interval = min(work[place].interval * 2, .seconds(1))
        work[place].deadline = now + work[place].interval
    }

    /// Ends a connection that is in the data plane already.
    mutating func resetAdopted(
        _ place: Int,
        tracker: borrowing Tracker,
        _ cause: ResetCause,
        into effects: inout [TakeoverEffect]
    ) {
        effects.append(.uninstall(work[place].flow))
        if let connection = tracker[work[place].handle] {
            reset(place, connection, cause, into: &effects)
        } else {
            decide(place, reset: cause, into: &effects)
        }
    }

    private mutating func noteTimes(_ place: Int, _ progress: AdoptionProgress) {
        let adoptedAt = work[place].adoptedAt
        note { figures in
            figures.caughtUpBytes += progress.caughtUpBytes
            guard let adoptedAt else { return }
            if let reply = progress.firstReplyAt {
                figures.application.append((reply - adoptedAt).nanoseconds)
                if figures.firstReplyAt.map({ reply < $0 }) ?? true { figures.firstReplyAt = reply }
            }
            guard let live = progress.liveAt else { return }
            if let reply = progress.firstReplyAt { figures.catchUp.append((live - reply).nanoseconds) }
            if figures.firstNewByteAt.map({ live < $0 }) ?? true { figures.firstNewByteAt = live }
        }
    }
}
