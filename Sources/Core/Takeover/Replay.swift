import HTTP
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
        guard let iss = connection.iss, let server = work[place].profile.server else { return }
        var timestamps: TCPTimestamps?
        if work[place].timestampsAgreed, let known = connection.timestamps {
            // RFC 7323 5.3: a TSval below what the client has seen would be dropped, one far above spoils its RTT.
            let silence = max(now - (work[place].answeredAt ?? now), .zero)
            let elapsed = UInt32(truncatingIfNeeded: silence.nanoseconds / 1_000_000)
            timestamps = TCPTimestamps(value: known.value, echo: known.echo &+ elapsed &+ parameters.timestampMargin)
        }
        let scales = work[place].scalesWindows(connection.client)
        work[place].rightEdge = max(work[place].rightEdge, connection.sndUna)
        let plan = work[place].plan
        let entry = ConnectionEntry(
            flow: connection.flow,
            slot: slot,
            iss: iss.advanced(by: Int(plan.replyOrigin)),
            irs: connection.irs.advanced(by: Int(plan.clientOrigin)),
            sndUna: plan.replyPlace(connection.sndUna),
            rightEdge: plan.replyPlace(work[place].rightEdge),
            timestamps: timestamps,
            sackPermitted: connection.client.sackPermitted && server.sackPermitted,
            clientWindowScale: scales ? connection.client.windowScale : nil,
            serverWindowScale: scales ? server.windowScale : nil,
            mss: connection.client.mss,
            isChecked: isChecked(place, connection)
        )
        work[place].entry = entry
        work[place].isEntryMissing = false
        effects.append(.install(entry))
    }

    /// The dead server has begun to answer, as far as anybody knows: what comes is looked at before the client gets it,
    /// even where the client has shown nothing of that yet.
    private func isChecked(_ place: Int, _ connection: borrowing BackupConnection) -> Bool {
        guard let replay = work[place].plan.check?.replay, !work[place].regenerated.isReleased else { return false }
        if replay.last != nil { return true }
        return connection.sndUna > replay.replyStart || !replay.heads.isEmpty
    }

    /// All that can be replayed of a connection, a FIN counted as a byte.
    private func end(_ item: borrowing Work, _ connection: borrowing BackupConnection) -> UInt64 {
        item.length(connection) + (connection.isHalfClosed ? 1 : 0)
    }

    /// Writes journal bytes into the TUN device, from what is injected already to `limit`; the FIN follows the last
    /// byte. A window has room for bytes only, so the limit does not hold the FIN back.
    mutating func inject(
        _ place: Int,
        to limit: UInt64,
        _ connection: borrowing BackupConnection,
        tracker: borrowing Tracker,
        into effects: inout [TakeoverEffect]
    ) {
        let length = work[place].length(connection)
        let isHalfClosed = connection.isHalfClosed
        let stop = min(limit, length)
        while work[place].injected < stop {
            let at = work[place].injected
            let next = min(at + UInt64(parameters.segmentBytes), stop)
            let closes = isHalfClosed && next == length
            let flags: TCPFlags = closes ? [.ack, .psh, .fin] : next == length ? [.ack, .psh] : [.ack]
            let payload = work[place].plan.bytes(at..<next, of: work[place].handle, tracker)
            // No bytes: the connection has lost its protection, and the next look at it ends it.
            guard payload.count == Int(next - at) else { return }
            let packet = work[place].packet(at: at, connection, flags: flags, payload: payload)
            effects.append(.inject(packet.encode()))
            work[place].injected = next + (closes ? 1 : 0)
        }
        if isHalfClosed, work[place].injected == length {
            let packet = work[place].packet(at: length, connection, flags: [.ack, .fin], payload: [])
            effects.append(.inject(packet.encode()))
            work[place].injected = length + 1
        }
    }

    // MARK: Progress

    /// Takes in what the data plane knows and goes on from there.
    mutating func apply(
        _ progress: AdoptionProgress,
        to place: Int,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard work[place].state == .adopting || work[place].state == .replaying else { return }
        guard let connection = tracker[work[place].handle] else {
            vanished(place, tracker: tracker, now: now, into: &effects)
            return
        }
        if work[place].state == .adopting {
            guard progress.isAdopted || progress.state == .refused else {
                work[place].isEntryMissing = progress.state == .gone
                return
            }
            adopted(place, connection, progress, tracker: tracker, now: now, into: &effects)
        }
        work[place].acknowledged = max(work[place].acknowledged, progress.acknowledged)
        if progress.state == .live { work[place].isLive = true }
        switch progress.state {
        case .refused:
            noteTimes(place, progress)
            resetAdopted(place, connection, .replyShorter, tracker: tracker, now: now, into: &effects)
        case .gone:
            // A socket that closes below the client's place leaves a client that waits.
            if work[place].isLive {
                finish(place, into: &effects)
            } else {
                resetAdopted(place, connection, .replyShorter, tracker: tracker, now: now, into: &effects)
            }
        case .live, .catchingUp, .adopting:
            advance(place, connection, progress, tracker: tracker, now: now, into: &effects)
        }
    }

    private mutating func adopted(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        _ progress: AdoptionProgress,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        let answeredAt = work[place].answeredAt ?? work[place].since
        inFlight -= 1
        enter(.replaying, place, now: now)
        let adoptedAt = progress.adoptedAt ?? now
        work[place].adoptedAt = adoptedAt
        work[place].progressAt = now
        // Until its first segment shows its window, it has the one that the first flight was cut for.
        work[place].window = UInt64(parameters.firstFlightBytes)
        // What the client sent before now did not reach the socket; what it sends from now on does.
        work[place].target = end(work[place], connection)
        work[place].retryInterval = parameters.replayInterval
        work[place].retryAt = now + parameters.replayInterval
        work[place].interval = parameters.feedInterval
        schedule(place, now + parameters.feedInterval)
        figures.reconstruction.append((adoptedAt - answeredAt).nanoseconds)
        if figures.firstAdoptedAt.map({ adoptedAt < $0 }) ?? true { figures.firstAdoptedAt = adoptedAt }
        figures.adopted += 1
        markDecided(place)
        adoptReady(tracker: tracker, now: now, into: &effects)
    }

    /// Feeds the journal within the socket's window, and ends the watch once everything is where it belongs.
    private mutating func advance(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        _ progress: AdoptionProgress,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        if notePlaces(place, connection, progress) {
            work[place].progressAt = now
            work[place].retryInterval = parameters.replayInterval
            work[place].retryAt = now + parameters.replayInterval
        }
        let isReplayed = work[place].replayed >= work[place].target
        if let cause = connection.unprotected, !isReplayed || work[place].isStuck {
            resetAdopted(place, connection, cause, tracker: tracker, now: now, into: &effects)
            return
        }
        if let cause = hopeless(place, connection, now: now) {
            resetAdopted(place, connection, cause, tracker: tracker, now: now, into: &effects)
            return
        }
        if isReplayed, work[place].isLive, work[place].holeSince == nil {
            noteTimes(place, progress)
            figures.live += 1
            finish(place, isServed: true, into: &effects)
            return
        }
        feed(place, connection, tracker: tracker, now: now, into: &effects)
    }

    /// Takes over what the socket has acknowledged and sent; true when it is more than before.
    private mutating func notePlaces(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        _ progress: AdoptionProgress
    ) -> Bool {
        var moved = progress.sent > work[place].sent
        work[place].sent = max(work[place].sent, progress.sent)
        let first = connection.irs.advanced(by: 1 + Int(work[place].plan.clientOrigin))
        if let ack = progress.localAck {
            let distance = ack.distance(from: first.advanced(by: Int(truncatingIfNeeded: work[place].replayed)))
            if distance > 0 {
                work[place].replayed += UInt64(distance)
                moved = true
            }
        }
        work[place].injected = max(work[place].injected, work[place].replayed)
        if let edge = progress.localRightEdge {
            let distance = edge.distance(from: first.advanced(by: Int(truncatingIfNeeded: work[place].replayed)))
            work[place].window = work[place].replayed + UInt64(max(distance, 0))
        }
        return moved
    }

    /// Why the client has to be told that it is over; nil while there is hope.
    private mutating func hopeless(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        now: Instant
    ) -> ResetCause? {
        // The socket may have what the tap has missed.
        let sent = work[place].plan.clientPlace(connection.clientSent)
        let length = work[place].length(connection)
        let reached = max(length, work[place].replayed)
        if reached < sent {
            var since = work[place].holeSince ?? .never
            if since == .never || reached > work[place].holeAt {
                // Where the socket has less than the tap, the tap knows since when; else it is another hole than the tap's.
                since = reached == length ? connection.holeSince ?? now : now
            }
            work[place].holeSince = since
            work[place].holeAt = reached
            if now - since >= parameters.holeTimeout { return .journalHole }
        } else {
            work[place].holeSince = nil
        }
        let silence = now - work[place].progressAt
        // Who has everything but the FIN loses more by a RST than by waiting.
        let isAtEnd = work[place].plan.check?.replay.last != nil
        guard silence >= (isAtEnd ? parameters.closeTimeout : parameters.catchUpTimeout) else { return nil }
        // An application that does not read is slow, not lost.
        if work[place].replayed < work[place].target {
            return work[place].window > work[place].replayed ? .adoptionRefused : nil
        }
        return work[place].isLive ? nil : .replyShorter
    }

    /// Gives the socket what it has room for; after a while without progress, from where it stands, with whatever the
    /// client has sent meanwhile that did not reach it.
    private mutating func feed(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        var isWindowProbe = false
        if now >= work[place].retryAt {
            work[place].retryInterval = min(work[place].retryInterval * 2, .seconds(1))
            work[place].retryAt = now + work[place].retryInterval
            work[place].target = max(work[place].target, end(work[place], connection))
            work[place].injected = work[place].replayed
            isWindowProbe = work[place].window <= work[place].replayed
        }
        let from = work[place].injected
        guard from < work[place].target else { return }
        // A window that is shut is asked about with one byte, as TCP does (RFC 9293 3.8.6.1); it is not taken for sent.
        let limit = isWindowProbe ? from + 1 : min(work[place].window, work[place].target)
        inject(place, to: limit, connection, tracker: tracker, into: &effects)
        let hasInjected = work[place].injected > from
        if isWindowProbe { work[place].injected = from }
        if hasInjected {
            work[place].interval = parameters.feedInterval
            schedule(place, now + parameters.feedInterval)
        }
    }

    private mutating func noteTimes(_ place: Int, _ progress: AdoptionProgress) {
        figures.caughtUpBytes += progress.caughtUpBytes
        guard let adoptedAt = work[place].adoptedAt else { return }
        if let reply = progress.firstReplyAt {
            figures.application.append((reply - adoptedAt).nanoseconds)
            if figures.firstReplyAt.map({ reply < $0 }) ?? true { figures.firstReplyAt = reply }
        }
        guard let live = progress.liveAt else { return }
        if let reply = progress.firstReplyAt { figures.catchUp.append((live - reply).nanoseconds) }
        if figures.firstNewByteAt.map({ live < $0 }) ?? true { figures.firstNewByteAt = live }
    }
}
