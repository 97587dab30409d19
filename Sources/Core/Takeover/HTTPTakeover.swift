import HTTP
import Model
import Tracking
import Wire

// What is different for a service that is replayed as HTTP: the replay point, the trial that finds out where the
// regenerated body will start, and the verdict before the first byte that is new to the client.
// docs/design/0004-http-replay.md has the reasons.

/// What is to be done with a connection whose turn has come.
enum Preparation {
    case adopt
    case tryFirst([UInt8])
    case reset(ResetCause)
}

extension TakeoverMachine {
    /// Decides from where a connection is replayed.
    mutating func prepare(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        tracker: borrowing Tracker
    ) -> Preparation {
        guard work[place].profile.replay == .http else { return .adopt }
        // A connection from before its service was one of HTTP.
        guard let conversation = tracker.conversation(work[place].handle) else { return .reset(.replyUnknown) }
        let replay: Replay
        do throws(ReplayRefusal) {
            replay = try conversation.replay(
                methods: work[place].profile.http.methods,
                clientSent: connection.clientSent,
                received: connection.journalLength
            )
        } catch {
            return .reset(error.cause)
        }
        if let last = replay.last { return close(place, connection, replay, behind: last, tracker: tracker) }
        // The client would join what it has behind a hole to whatever comes before it: right only within a body that is
        // shown to be the same.
        let isSilent = !tellsHoles(place, connection)
        let mayHaveHole = work[place].hasHole || isSilent && replay.request?.headEnd != nil
        if mayHaveHole, !replay.isInsideBody(acknowledged: connection.sndUna) { return .reset(.replyUnknown) }
        work[place].plan = ReplayPlan(
            clientOrigin: Int64(clamping: replay.start),
            replyOrigin: Int64(clamping: replay.replyStart),
            check: SpliceCheck(replay: replay)
        )
        return trial(place, connection, replay, tracker: tracker, mayRewrite: true)
    }

    /// Without SACK a client says nothing of the bytes that it has behind a hole.
    private func tellsHoles(_ place: Int, _ connection: borrowing BackupConnection) -> Bool {
        let isPermitted = connection.client.sackPermitted
        return isPermitted && work[place].profile.server?.sackPermitted ?? false
    }

    // MARK: Trial

    /// A trial is worth while where the client has a part of a body, and nothing but where it will start is in doubt.
    private mutating func trial(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        _ replay: Replay,
        tracker: borrowing Tracker,
        mayRewrite: Bool
    ) -> Preparation {
        let held = replay.bodyBytes(acknowledged: connection.sndUna)
        guard let request = replay.request, let headEnd = request.headEnd, let facts = replay.final, held > 0,
            replay.heads.count == 1, request.isComplete, request.count == 1, request.method.isSafe,
            !request.traits.contains(.hasBody), !request.traits.contains(.asksUpgrade),
            ReplyComparison.whole(facts, facts, answering: request.method) == .same
        else { return .adopt }
        let head = tracker.journal(work[place].handle, request.start..<headEnd)
        var rewritten: RangeRewrite.Rewritten?
        if mayRewrite {
            rewritten = try? RangeRewrite.rewrite(
                head,
                request,
                facts: facts,
                held: held,
                minimum: work[place].profile.http.rangeFrom
            )
        }
        work[place].trial = Trial(replay: replay, rewritten: rewritten)
        return .tryFirst(rewritten?.head ?? head)
    }

    mutating func makeTrial(
        _ place: Int,
        _ request: [UInt8],
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        enter(.trying, place, now: now)
        effects.append(.trial(work[place].flow, request))
        schedule(place, now + parameters.trialTimeout)
    }

    /// The head of the reply to a trial; nil where none came. An answer that comes late is not asked for any more.
    public mutating func tried(
        _ flow: FlowKey,
        _ facts: ReplyFacts?,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard let place = places[flow], work[place].state == .trying else { return }
        if let connection = tracker[work[place].handle] {
            decideTrial(place, connection, facts, tracker: tracker, now: now, into: &effects)
        } else {
            vanished(place, tracker: tracker, now: now, into: &effects)
        }
        conclude(now: now, into: &effects)
    }

    /// What a trial showed is advice on where to start; what comes of it is judged when it comes.
    mutating func decideTrial(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        _ facts: ReplyFacts?,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        if let cause = obstacle(to: connection, work[place].profile, now: now) {
            resetAdopted(place, connection, cause, tracker: tracker, now: now, into: &effects)
            return
        }
        if let trial = work[place].trial, let closing = trial.closing {
            planEnd(place, connection, trial.replay, closing, answer: facts.flatMap(ClosingRequest.answerBytes))
        } else if let trial = work[place].trial, let facts, let original = trial.replay.final, let request = trial.replay.request {
            if let rewritten = trial.rewritten {
                if ReplyComparison.rest(original, facts, asked: rewritten.asked) == .same {
                    planRest(place, trial.replay, original, facts, rewritten)
                } else if case .tryFirst(let whole) = self.trial(
                    place,
                    connection,
                    trial.replay,
                    tracker: tracker,
                    mayRewrite: false
                ) {
                    makeTrial(place, whole, now: now, into: &effects)
                    return
                }
            } else if case .aligned(let difference) = ReplyComparison.whole(
                original,
                facts,
                answering: request.method
            ) {
                work[place].plan.replyOrigin = Int64(clamping: trial.replay.replyStart) - Int64(difference)
                work[place].plan.check?.expectation = .whole(longerBy: difference)
            }
        }
        adopt(place, connection, tracker: tracker, now: now, into: &effects)
    }

    /// The head of the rest lies over bytes that the client has, so that the rest starts where it stands.
    private mutating func planRest(
        _ place: Int,
        _ replay: Replay,
        _ original: ReplyFacts,
        _ rest: ReplyFacts,
        _ rewritten: RangeRewrite.Rewritten
    ) {
        let skipped = rewritten.asked.first - (original.contentRange?.first ?? 0)
        let body = replay.replyStart + UInt64(original.headBytes) + skipped
        work[place].plan.clientOrigin = Int64(clamping: replay.start) - Int64(rewritten.inserted)
        work[place].plan.replyOrigin = Int64(clamping: body) - Int64(rest.headBytes)
        work[place].plan.rewritten = rewritten.head
        work[place].plan.check?.expectation = .rest(rewritten.asked, headBytes: Int(rest.headBytes))
    }

    // MARK: Close

    /// The client has all but the FIN. It shall come from a server that has closed, so one is asked to.
    private mutating func close(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        _ replay: Replay,
        behind last: Request,
        tracker: borrowing Tracker
    ) -> Preparation {
        // Of the dead server, behind its last reply: it did not close.
        if work[place].hasHole { return .reset(.replyUnknown) }
        let head = tracker.journal(work[place].handle, last.start..<(last.headEnd ?? last.start))
        let request = ClosingRequest.head(like: head, last.version)
        work[place].trial = Trial(replay: replay, closing: request)
        return .tryFirst(request)
    }

    /// The answer to the closing request lies over the last bytes that the client has, so that the FIN stands behind them.
    /// The request lies over the last that the client has sent: what is there is answered, or void. Where the trial has
    /// not shown an answer that will do, the socket is given nothing, and closes when its application has had enough.
    private mutating func planEnd(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        _ replay: Replay,
        _ request: [UInt8],
        answer bytes: UInt64?
    ) {
        let inserted = bytes == nil ? [] : request
        work[place].plan = ReplayPlan(
            clientOrigin: Int64(clamping: connection.journalLength) - Int64(inserted.count),
            replyOrigin: Int64(clamping: replay.replyStart) - Int64(bytes ?? 0),
            rewritten: inserted,
            check: SpliceCheck(replay: replay, expectation: .end(bytes: Int(bytes ?? 0)))
        )
    }

    // MARK: Verdict

    /// A segment of the adopted socket that the data plane has held back.
    ///
    /// - Parameters:
    ///   - frame: the segment; its source is the service.
    ///   - packet: its bytes from the IP header on.
    public mutating func regenerated(
        _ frame: TCPFrame,
        _ packet: UnsafeRawBufferPointer,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        let flow = FlowKey(client: frame.flow.service, service: frame.flow.client)
        guard let place = places[flow], let entry = work[place].entry, let check = work[place].plan.check,
            work[place].state == .adopting || work[place].state == .replaying
        else { return }
        guard !work[place].regenerated.isReleased else {
            effects.append(.sendToClient(Array(packet)))
            return
        }
        guard let connection = tracker[work[place].handle] else {
            vanished(place, tracker: tracker, now: now, into: &effects)
            conclude(now: now, into: &effects)
            return
        }
        let payload = UnsafeRawBufferPointer(rebasing: packet[frame.payload])
        work[place].regenerated.take(
            payload, at: frame.sequence.distance(from: entry.iss.advanced(by: 1)), hasFIN: frame.flags.contains(.fin))
        work[place].regenerated.hold(Array(packet))
        judge(place, connection, check, tracker: tracker, now: now, into: &effects)
        conclude(now: now, into: &effects)
    }

    /// Judges what is held back, once more as time passes.
    mutating func judgeAgain(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard let check = work[place].plan.check, !work[place].regenerated.isReleased,
            !work[place].regenerated.packets.isEmpty
        else { return }
        judge(place, connection, check, tracker: tracker, now: now, into: &effects)
    }

    private mutating func judge(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        _ check: SpliceCheck,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        let origin = work[place].plan.replyOrigin
        let acknowledged = UInt64(max(Int64(clamping: work[place].sndUna(connection)) + origin, 0))
        // A server was heard to begin, and the client shows nothing of it. What was taken for its answer may be one to the
        // probe of a backup that has died since, and a frame that says more be on its way.
        let age = now - (work[place].answeredAt ?? now)
        if acknowledged == check.replay.replyStart, !check.replay.heads.isEmpty, age < parameters.lateAnswers { return }
        let regenerated = work[place].regenerated
        switch check.judge(regenerated.bytes, end: regenerated.end, acknowledged: acknowledged) {
        case .undecided: return
        case .continues:
            work[place].regenerated.isReleased = true
            effects.append(.release(work[place].flow))
            for packet in work[place].regenerated.packets { effects.append(.sendToClient(packet)) }
            work[place].regenerated.packets = []
        case .breaks(let cause):
            resetAdopted(place, connection, cause, tracker: tracker, now: now, into: &effects)
        }
    }
}
