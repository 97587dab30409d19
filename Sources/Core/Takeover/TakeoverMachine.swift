import Model
import Tracking
import Wire

/// Takes over the connections of one slot ([Z] II-F, III-B): probe, adopt, replay, watch the catch-up.
///
/// Made when nobody else may talk for the slot any more. A pure machine; the journals stay in the tracker, which goes
/// on taking what the clients send. One thread owns both.
public struct TakeoverMachine: ~Copyable {
    public let slot: SlotID
    public private(set) var figures = TakeoverFigures()
    public private(set) var isSettled = false
    public private(set) var isFinished = false

    let parameters: TakeoverParameters
    let profile: (Endpoint) -> AdoptionProfile
    var work: [Work] = []
    private var places: [FlowKey: Int] = [:]
    var inFlight = 0
    private var undecided = 0
    private var unfinished = 0
    /// Connections whose client has answered, waiting for their turn to be adopted.
    private var ready: [Int] = []
    private var readyNext = 0

    /// - Parameter profile: what is known of a service, asked once for each connection.
    public init(
        slot: SlotID,
        parameters: TakeoverParameters = TakeoverParameters(),
        profile: @escaping (Endpoint) -> AdoptionProfile
    ) {
        self.slot = slot
        self.parameters = parameters
        self.profile = profile
    }

    // MARK: Inputs

    /// Begins: probes every connection of the slot at once.
    public mutating func start(tracker: borrowing Tracker, now: Instant, into effects: inout [TakeoverEffect]) {
        figures.startedAt = now
        for handle in tracker.connections(of: slot) {
            guard let connection = tracker[handle] else { continue }
            places[connection.flow] = work.count
            work.append(Work(handle: handle, flow: connection.flow, now: now))
        }
        figures.connections = work.count
        undecided = work.count
        unfinished = work.count
        for place in work.indices { probe(place, tracker: tracker, now: now, into: &effects) }
        conclude(now: now, into: &effects)
    }

    /// A client's frame of this slot; the tracker has taken it already.
    public mutating func received(
        _ frame: TCPFrame,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard let place = places[frame.flow], work[place].state == .probing else { return }
        if frame.flags.contains(.rst) {
            // [Z] III-B: the connection is over; nothing is owed to anybody.
            decide(place, reset: .clientGone, into: &effects)
        } else if frame.flags.contains(.ack) {
            answered(place, frame, tracker: tracker, now: now, into: &effects)
        }
        conclude(now: now, into: &effects)
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

    /// Time has passed; returns when to come again, nil when there is nothing to wait for.
    public mutating func tick(
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) -> Instant? {
        var next = Instant.never
        for place in work.indices where work[place].deadline != .never {
            if work[place].deadline <= now { expire(place, tracker: tracker, now: now, into: &effects) }
            next = min(next, work[place].deadline)
        }
        conclude(now: now, into: &effects)
        return next == .never ? nil : next
    }

    // MARK: Probe

    private mutating func probe(
        _ place: Int,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard let connection = tracker[work[place].handle] else {
            decide(place, reset: .clientGone, into: &effects)
            return
        }
        // One byte below what the client has acknowledged: a keepalive, which every stack answers at once, whereas an
        // empty segment at ISS - 1 ([Z] III-B) is rate-limited and, with an old timestamp, not answered at all.
        // Without an ISS the client's SYN is all that is known; a RST that it accepts cannot be built.
        guard let acknowledged = connection.acknowledged else {
            decide(place, reset: .handshakeUnknown, into: &effects)
            return
        }
        let packet = TCPPacket(
            from: connection.flow.service,
            to: connection.flow.client,
            sequence: acknowledged.advanced(by: -1),
            acknowledgment: connection.clientNext,
            flags: [.ack],
            window: 0,
            timestamps: connection.timestamps.map { TCPTimestamps(value: $0.echo, echo: $0.value) },
            payload: [0]
        )
        effects.append(.sendToClient(packet.encode()))
        let interval = work[place].interval.nanoseconds == 0 ? parameters.probeInterval : work[place].interval * 2
        work[place].interval = min(interval, parameters.probeIntervalMax)
        work[place].deadline = now + work[place].interval
    }

    private mutating func answered(
        _ place: Int,
        _ frame: TCPFrame,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        guard let connection = tracker[work[place].handle], let acknowledged = connection.acknowledged,
            // The tracker has gone along with this ACK; an older one on its way says nothing new.
            frame.acknowledgment == acknowledged
        else { return }
        figures.response.append((now - work[place].startedAt).nanoseconds)
        if figures.firstAnswerAt == nil { figures.firstAnswerAt = now }
        work[place].answeredAt = now
        work[place].rightEdge =
            connection.sndUna + UInt64(frame.window) << UInt64(connection.client.windowScale ?? 0)
        if let cause = obstacle(to: connection) {
            reset(place, connection, cause, into: &effects)
            return
        }
        work[place].state = .waiting
        work[place].deadline = .never
        ready.append(place)
        adoptReady(tracker: tracker, now: now, into: &effects)
    }

    /// Why a connection must not, or cannot, be adopted; nil when it can.
    private func obstacle(to connection: borrowing BackupConnection) -> ResetCause? {
        if profile(connection.flow.service).replay == .none { return .replayForbidden }
        if let cause = connection.unprotected { return cause }
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
            guard let connection = tracker[work[place].handle] else {
                decide(place, reset: .clientGone, into: &effects)
                continue
            }
            inFlight += 1
            install(place, connection, now: now, into: &effects)
            work[place].adoptionStartedAt = now
            work[place].interval = parameters.adoptionInterval
            attempt(place, tracker: tracker, now: now, into: &effects)
        }
    }

    /// Writes the adopting ACK and the first of the journal, and asks what came of it.
    func adoptionPackets(_ item: borrowing Work, tracker: borrowing Tracker, into effects: inout [TakeoverEffect]) {
        effects.append(.inject(item.packet(at: 0, flags: [.ack], payload: []).encode()))
        inject(item, 0..<UInt64(parameters.firstFlightBytes), tracker: tracker, into: &effects)
        effects.append(.observe(item.flow))
    }

    mutating func attempt(
        _ place: Int,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        work[place].state = .adopting
        work[place].deadline = now + work[place].interval
        adoptionPackets(work[place], tracker: tracker, into: &effects)
    }

    // MARK: Time

    private mutating func expire(
        _ place: Int,
        tracker: borrowing Tracker,
        now: Instant,
        into effects: inout [TakeoverEffect]
    ) {
        switch work[place].state {
        case .probing:
            if now - work[place].startedAt >= parameters.probeTimeout {
                giveUpProbing(place, tracker: tracker, into: &effects)
            } else {
                probe(place, tracker: tracker, now: now, into: &effects)
            }
        case .waiting, .over:
            work[place].deadline = .never
        case .adopting:
            if now - work[place].adoptionStartedAt >= parameters.adoptionTimeout {
                inFlight -= 1
                resetAdopted(place, tracker: tracker, .adoptionRefused, into: &effects)
                adoptReady(tracker: tracker, now: now, into: &effects)
            } else {
                work[place].interval = min(work[place].interval * 2, parameters.adoptionIntervalMax)
                attempt(place, tracker: tracker, now: now, into: &effects)
            }
        case .replaying:
            effects.append(.observe(work[place].flow))
            replayAgain(place, tracker: tracker, now: now, into: &effects)
        }
    }

    private mutating func giveUpProbing(
        _ place: Int,
        tracker: borrowing Tracker,
        into effects: inout [TakeoverEffect]
    ) {
        guard let connection = tracker[work[place].handle] else {
            decide(place, reset: .clientGone, into: &effects)
            return
        }
        // Silent, but it may hear: the RST is right if nothing of the dead server came after its last ACK.
        reset(place, connection, obstacle(to: connection) ?? .probeUnanswered, into: &effects)
    }

    // MARK: Ends

    /// Tells the client that it is over: a RST at exactly what it expects next (RFC 9293 3.5.3).
    mutating func reset(
        _ place: Int,
        _ connection: borrowing BackupConnection,
        _ cause: ResetCause,
        into effects: inout [TakeoverEffect]
    ) {
        if let sequence = connection.acknowledged {
            let packet = TCPPacket(
                from: connection.flow.service,
                to: connection.flow.client,
                sequence: sequence,
                acknowledgment: connection.clientNext,
                flags: [.rst, .ack],
                window: 0
            )
            effects.append(.sendToClient(packet.encode()))
        }
        decide(place, reset: cause, into: &effects)
    }

    /// Counts the end of a connection that will not be served.
    mutating func decide(_ place: Int, reset cause: ResetCause, into effects: inout [TakeoverEffect]) {
        if !work[place].isDecided { undecided -= 1 }
        if work[place].state != .over { unfinished -= 1 }
        figures.resets[Int(cause.rawValue)] += 1
        work[place].isDecided = true
        work[place].state = .over
        work[place].deadline = .never
        effects.append(.forget(work[place].handle))
    }

    /// The kernel has the connection.
    mutating func markAdopted(_ place: Int) {
        guard !work[place].isDecided else { return }
        work[place].isDecided = true
        undecided -= 1
        figures.adopted += 1
    }

    /// The connection is live, or was closed after its adoption: the machine's part is done.
    mutating func markOver(_ place: Int, into effects: inout [TakeoverEffect]) {
        guard work[place].state != .over else { return }
        work[place].state = .over
        work[place].deadline = .never
        unfinished -= 1
        effects.append(.forget(work[place].handle))
    }

    mutating func note(_ body: (inout TakeoverFigures) -> Void) { body(&figures) }

    private mutating func conclude(now: Instant, into effects: inout [TakeoverEffect]) {
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
