import Model
import Tracking
import Wire

/// Takes over the connections of one slot ([Z] II-F, III-B): probe, adopt, replay, watch the catch-up.
///
/// Made when nobody else may talk for the slot any more. A pure machine; the journals stay in the tracker, which goes
/// on taking what the clients send. One thread owns both. No input costs more than the connections that it concerns.
public struct TakeoverMachine: ~Copyable {
    public let slot: SlotID
    public internal(set) var figures = TakeoverFigures()
    public private(set) var isSettled = false
    public private(set) var isFinished = false

    let parameters: TakeoverParameters
    let profile: (Endpoint) -> AdoptionProfile
    private let only: Set<FlowKey>?
    var work: [Work] = []
    private(set) var places: [FlowKey: Int] = [:]
    private var deadlines = DeadlineHeap()
    var inFlight = 0
    private var undecided = 0
    private var unfinished = 0
    /// Connections whose client has answered, waiting for their turn to be adopted.
    private var ready: [Int] = []
    private var readyNext = 0

    /// - Parameters:
    ///   - only: the connections that it is about; nil: all of the slot.
    ///   - profile: what is known of a service, asked once for each connection.
    public init(
        slot: SlotID,
        parameters: TakeoverParameters = TakeoverParameters(),
        only: Set<FlowKey>? = nil,
        profile: @escaping (Endpoint) -> AdoptionProfile
    ) {
        self.slot = slot
        self.parameters = parameters
        self.only = only
        self.profile = profile
    }

    // MARK: Inputs

    /// Begins: probes every connection of the slot, the first ones at once and the others in the ticks that follow, so
    /// that answers are seen, and connections adopted, while there are still some to be probed.
    ///
    /// A handshake that is not finished is none yet: that client sends its SYN again, or, when it has got the dead
    /// server's SYN-ACK, something that lets `received` take it in.
    public mutating func start(tracker: borrowing Tracker, now: Instant, into effects: inout [TakeoverEffect]) {
        figures.startedAt = now
        for handle in tracker.connections(of: slot) {
            guard let connection = tracker[handle], connection.iss != nil, isMeant(connection.flow) else { continue }
            let place = add(handle, connection, now: now)
            if place < parameters.deadlinesAtATime {
                probe(place, connection, now: now, into: &effects)
            } else {
                schedule(place, now)
            }
        }
        conclude(now: now, into: &effects)
    }

    private func isMeant(_ flow: FlowKey) -> Bool { only?.contains(flow) ?? true }

    private mutating func add(
        _ handle: ConnectionHandle,
        _ connection: borrowing BackupConnection,
        now: Instant
    ) -> Int {
        let place = work.count
        let flow = connection.flow
        places[flow] = place
        work.append(Work(handle: handle, flow: flow, profile: profile(flow.service), now: now))
        figures.connections += 1
        undecided += 1
        unfinished += 1
        return place
    }

    /// A client's frame of this slot; the tracker has taken it already.
    public mutating func received(
        _ frame: TCPFrame,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard figures.startedAt != nil else { return }
        if let place = places[frame.flow], work[place].state != .over {
            if isOfTwin(frame.flow, place, tracker: tracker, now: now, into: &effects) {
                // Not what is probed; `isOfTwin` has done what there is to do.
            } else if let connection = tracker[work[place].handle] {
                take(frame, place, connection, tracker: tracker, now: now, into: &effects)
            } else {
                vanished(place, tracker: tracker, now: now, into: &effects)
            }
        } else if !isSettled, places[frame.flow] == nil, isMeant(frame.flow), let handle = tracker.handle(of: frame.flow),
            let connection = tracker[handle], connection.iss != nil, connection.slot == slot
        {
            let place = add(handle, connection, now: now)
            take(frame, place, connection, tracker: tracker, now: now, into: &effects)
            if work[place].state == .probing { probe(place, connection, now: now, into: &effects) }
        }
        conclude(now: now, into: &effects)
    }

    /// While it is probed, a flow is the connection that its client's frames fit: after two of them in a row, that one is
    /// probed instead. So who has forged a handshake, before or just now, takes the client from nobody. The time that
    /// the client is given stays the same.
    private mutating func isOfTwin(
        _ flow: FlowKey,
        _ place: Int,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) -> Bool {
        guard work[place].state == .probing, let handle = tracker.handle(of: flow) else { return false }
        guard handle != work[place].handle else {
            work[place].strays = 0
            return false
        }
        guard let connection = tracker[handle], connection.iss != nil, connection.slot == slot else { return false }
        work[place].strays += 1
        if work[place].strays >= 2 || tracker[work[place].handle] == nil {
            work[place] = Work(handle: handle, flow: flow, profile: work[place].profile, now: work[place].since)
            probe(place, connection, now: now, into: &effects)
        }
        return true
    }

    /// What the data plane says of a connection.
    public mutating func progress(
        _ flow: FlowKey,
        _ progress: AdoptionProgress,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard let place = places[flow] else { return }
        apply(progress, to: place, tracker: tracker, now: now, into: &effects)
        conclude(now: now, into: &effects)
    }

    /// Time has passed; returns when to come again, nil when there is nothing to wait for. What is due may be more than
    /// one call does: the caller looks at what else has come, and comes again.
    public mutating func tick(
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) -> Instant? {
        var left = parameters.deadlinesAtATime
        while left > 0, let first = deadlines.first, first.at <= now {
            deadlines.removeFirst()
            if work[first.place].deadline == first.at {
                left -= 1
                work[first.place].deadline = .never
                expire(first.place, tracker: tracker, now: now, into: &effects)
            }
        }
        conclude(now: now, into: &effects)
        while let first = deadlines.first, work[first.place].deadline != first.at { deadlines.removeFirst() }
        return deadlines.first?.at
    }

    /// When `tick` has to be called next, or earlier; nil when there is nothing to wait for. Every input may change it.
    public var nextDeadline: Instant? { deadlines.first?.at }

    // MARK: Probe

    private mutating func probe(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard let acknowledged = connection.acknowledged else { return }
        // One byte below what the client has acknowledged: a keepalive, which every stack answers at once, whereas an
        // empty segment at ISS - 1 ([Z] III-B) is rate-limited and, with an old timestamp, not answered at all.
        let packet = TCPPacket(
            from: connection.flow.service,
            to: connection.flow.client,
            sequence: acknowledged.advanced(by: -1),
            acknowledgment: connection.clientNext,
            flags: [.ack],
            window: probeWindow(work[place], connection.client),
            timestamps: connection.timestamps.map { TCPTimestamps(value: $0.echo, echo: $0.value) },
            payload: [0]
        )
        effects.append(.sendToClient(packet.encode()))
        // Two answers, for `isAnswer`.
        if work[place].profile.replay == .http { effects.append(.sendToClient(packet.encode())) }
        let interval = work[place].interval == .zero ? parameters.probeInterval : work[place].interval * 2
        work[place].interval = min(interval, parameters.probeIntervalMax)
        schedule(place, now + work[place].interval)
    }

    /// About 64 KiB. The client takes the window of a probe for its own (SEQ is within its window's edge), and one of 0
    /// would hold its next request back until its persist timer runs out.
    private func probeWindow(_ item: borrowing Work, _ client: HandshakeOptions) -> UInt16 {
        let scale = item.scalesWindows(client) ? item.profile.server?.windowScale ?? 0 : 0
        return max(UInt16.max >> UInt16(scale), 1)
    }

    private mutating func take(
        _ frame: TCPFrame,
        _ place: Int,
        _ connection: borrowing BackupConnection,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        // A RST that ended the connection has ended the tracker's record too; this one did not.
        guard frame.flags.contains(.ack), !frame.flags.contains(.rst) else { return }
        // The tracker has gone along with this ACK; an older one on its way says nothing new, but for a RST.
        guard let known = connection.acknowledged, frame.acknowledgment == known else {
            goBack(frame, place, connection, into: &effects)
            return
        }
        work[place].below = nil
        work[place].hasHole = frame.hasHole
        work[place].rightEdge = connection.sndUna + work[place].bytes(ofWindow: frame.window, connection.client)
        switch work[place].state {
        case .probing:
            guard work[place].profile.replay != .http || isAnswer(frame, place) else { return }
            work[place].timestampsAgreed = connection.client.timestamps && frame.timestamps != nil
            answered(place, connection, tracker: tracker, now: now, into: &effects)
        case .resetting:
            // It did not hear the RST, or it had more than we knew.
            effects.append(.sendToClient(reset(work[place], connection)))
        case .waiting, .trying, .adopting, .replaying, .over:
            break
        }
    }

    /// The client may never have had what was taken for acknowledged (a forged ACK). It cannot be served, but a RST at the
    /// place that it names ends it; if the frame was only late, that is below its window, and it does not answer.
    private mutating func goBack(
        _ frame: TCPFrame,
        _ place: Int,
        _ connection: borrowing BackupConnection,
        into effects: inout [TakeoverEffect]
    ) {
        guard let known = connection.acknowledged, known.isAfter(frame.acknowledgment) else { return }
        switch work[place].state {
        case .probing: work[place].below = frame.acknowledgment
        case .resetting:
            work[place].below = frame.acknowledgment
            effects.append(.sendToClient(reset(work[place], connection, at: frame.acknowledgment)))
        case .waiting, .trying, .adopting, .replaying, .over: break
        }
    }

    /// A frame that was on its way when the probe was sent says nothing of what the client has received since, and more
    /// of such may follow. For the same bytes from another server that is no harm; of another reply, the client would get
    /// two halves. So an answer has to be empty, and to say what the frame before it has said.
    private mutating func isAnswer(_ frame: TCPFrame, _ place: Int) -> Bool {
        let isRepeated = work[place].heard == frame.acknowledgment
        work[place].heard = frame.acknowledgment
        return isRepeated && frame.payloadLength == 0 && !frame.flags.contains(.fin)
    }

    private mutating func answered(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        figures.response.append((now - work[place].since).nanoseconds)
        if figures.firstAnswerAt == nil { figures.firstAnswerAt = now }
        work[place].answeredAt = now
        if let cause = obstacle(to: connection, work[place].profile, now: now) {
            reset(place, connection, cause, now: now, into: &effects)
            return
        }
        enter(.waiting, place, now: now)
        ready.append(place)
        adoptReady(tracker: tracker, now: now, into: &effects)
    }

    /// Why a connection must not, or cannot, be adopted; nil when it can.
    func obstacle(
        to connection: borrowing BackupConnection,
        _ profile: AdoptionProfile,
        now: Instant
    ) -> ResetCause? {
        if profile.replay == .none { return .replayForbidden }
        if let cause = connection.unprotected { return cause }
        // The tap sees what the client sends again while no server answers, too.
        if let since = connection.holeSince, now - since >= parameters.holeTimeout { return .journalHole }
        guard connection.isISSCertain, let server = profile.server else { return .handshakeUnknown }
        // A SYN-ACK that left out what its server always offers was a SYN cookie's: what became of the other options
        // is not known, and a wrong shift count makes a window wrong by powers of two.
        if server.timestamps, connection.client.timestamps, connection.timestamps == nil,
            connection.client.windowScale != nil
        {
            return .optionUnsupported
        }
        // What bpf_sk_assign_tcp_reqsk() takes: TCP_MIN_MSS is too small for it.
        let smallest: UInt16 = connection.flow.client.address.isIPv4 ? 536 : 1220
        return connection.client.mss < smallest ? .optionUnsupported : nil
    }

    // MARK: Adopt

    mutating func adoptReady(
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        while inFlight < parameters.adoptionsInFlight, readyNext < ready.count {
            let place = ready[readyNext]
            readyNext += 1
            guard work[place].state == .waiting else { continue }
            guard let connection = tracker[work[place].handle] else {
                decide(place, reset: .clientGone, into: &effects)
                finish(place, into: &effects)
                continue
            }
            // Bytes may have come since the answer.
            if let cause = obstacle(to: connection, work[place].profile, now: now) {
                reset(place, connection, cause, now: now, into: &effects)
                continue
            }
            inFlight += 1
            switch prepare(place, connection, tracker: tracker) {
            case .adopt: adopt(place, connection, tracker: tracker, now: now, into: &effects)
            case .tryFirst(let request): makeTrial(place, request, now: now, into: &effects)
            case .reset(let cause):
                inFlight -= 1
                reset(place, connection, cause, now: now, into: &effects)
            }
        }
    }

    mutating func adopt(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        enter(.adopting, place, now: now)
        work[place].interval = parameters.adoptionInterval
        install(place, connection, now: now, into: &effects)
        attempt(place, connection, tracker: tracker, now: now, into: &effects)
    }

    /// Writes the adopting ACK and the first of the journal, and asks what came of it.
    private mutating func attempt(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        if work[place].isEntryMissing { install(place, connection, now: now, into: &effects) }
        let ack = work[place].packet(at: 0, connection, flags: [.ack], payload: [])
        effects.append(.inject(ack.encode()))
        work[place].injected = 0
        inject(place, to: UInt64(parameters.firstFlightBytes), connection, tracker: tracker, into: &effects)
        // Without journal bytes it takes a second segment to find the socket that the first one made.
        if work[place].injected == 0 { effects.append(.inject(ack.encode())) }
        schedule(place, now + work[place].interval)
        effects.append(.observe(work[place].flow))
    }

    // MARK: Time

    mutating func schedule(_ place: Int, _ at: Instant) {
        work[place].deadline = at
        if at != .never { deadlines.insert(place, at: at) }
    }

    mutating func enter(_ state: Work.State, _ place: Int, now: Instant) {
        work[place].state = state
        work[place].since = now
        work[place].deadline = .never
    }

    private mutating func expire(
        _ place: Int,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard work[place].state != .over else { return }
        guard let connection = tracker[work[place].handle] else {
            vanished(place, tracker: tracker, now: now, into: &effects)
            return
        }
        switch work[place].state {
        case .probing:
            if now - work[place].since >= parameters.probeTimeout {
                // Silent, but it may hear: the RST is right if nothing of the dead server came after its last ACK.
                let silent: ResetCause = work[place].below == nil ? .probeUnanswered : .acknowledgmentImpossible
                let cause = obstacle(to: connection, work[place].profile, now: now) ?? silent
                reset(place, connection, cause, now: now, into: &effects)
            } else {
                probe(place, connection, now: now, into: &effects)
            }
        case .trying:
            decideTrial(place, connection, nil, tracker: tracker, now: now, into: &effects)
        case .adopting:
            if now - work[place].since >= parameters.adoptionTimeout {
                resetAdopted(place, connection, .adoptionRefused, tracker: tracker, now: now, into: &effects)
            } else if let cause = connection.unprotected {
                resetAdopted(place, connection, cause, tracker: tracker, now: now, into: &effects)
            } else {
                work[place].interval = min(work[place].interval * 2, parameters.adoptionIntervalMax)
                attempt(place, connection, tracker: tracker, now: now, into: &effects)
            }
        case .replaying:
            judgeAgain(place, connection, tracker: tracker, now: now, into: &effects)
            guard work[place].state == .replaying else { return }
            // What is to be done depends on what the socket has done; `progress` goes on.
            let isFeeding = work[place].replayed < work[place].target
            let longest = isFeeding ? parameters.replayInterval : .seconds(1)
            work[place].interval = min(work[place].interval * 2, longest)
            schedule(place, now + work[place].interval)
            effects.append(.observe(work[place].flow))
        case .resetting:
            repeatReset(place, connection, now: now, into: &effects)
        case .waiting, .over:
            break
        }
    }

    // MARK: Counting

    /// Counts the end of a connection that will not be served.
    mutating func decide(_ place: Int, reset cause: ResetCause, into effects: inout [TakeoverEffect]) {
        figures.resets[Int(cause.rawValue)] += 1
        markDecided(place)
    }

    mutating func markDecided(_ place: Int) {
        guard !work[place].isDecided else { return }
        work[place].isDecided = true
        undecided -= 1
    }

    /// The machine's part with this connection is done.
    ///
    /// - Parameter isServed: it lives on; its new owner goes on tracking it, for the backups that he has.
    mutating func finish(_ place: Int, isServed: Bool = false, into effects: inout [TakeoverEffect]) {
        guard work[place].state != .over else { return }
        work[place].state = .over
        work[place].deadline = .never
        unfinished -= 1
        if !isServed { effects.append(.forget(work[place].handle)) }
    }

    mutating func conclude(now: Instant, into effects: inout [TakeoverEffect]) {
        guard figures.startedAt != nil else { return }
        if !isSettled, undecided == 0 {
            isSettled = true
            figures.settledAt = now
            effects.append(.settled)
        }
        if !isFinished, unfinished == 0 {
            isFinished = true
            figures.finishedAt = now
            effects.append(.finished)
        }
    }
}
