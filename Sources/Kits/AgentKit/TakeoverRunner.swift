import CContract
import Cluster
import HTTP
import LinuxBPF
import LinuxBase
import LinuxNetwork
import Model
import Takeover
import Tracking
import Wire

/// Runs take-over machines against the kernel: packets to clients, entries of the data plane, packets into the TUN.
///
/// Belongs to the data thread.
final class TakeoverRunner {
    private final class Run {
        var machine: TakeoverMachine
        let start: TakeOverStart
        let startedAt: Instant
        /// Of this machine's own connections, that a crash of their application has cut off: nobody waits for a report.
        let isOwn: Bool
        init(machine: consuming TakeoverMachine, start: TakeOverStart, isOwn: Bool, now: Instant) {
            self.machine = machine
            self.start = start
            self.isOwn = isOwn
            startedAt = now
        }
    }

    private let plane: AgentDataPlane
    private let tun: TunDevice
    private let sender: RawIPSender
    private let trials: Trials
    private let destroyer: SocketDestroyer
    private var runs: [Run] = []
    private var forgotten: [ConnectionHandle] = []
    private var installed: [FlowKey] = []
    private var reports: [TakeOverReport] = []
    private var readoptions: [TakeOverReport] = []
    /// Of all take-overs that are over.
    private(set) var resets = [Int](repeating: 0, count: ResetCause.allCases.count)
    private(set) var adoptedTotal = 0
    /// Packets and entries that the kernel did not take; timers bring them again.
    private(set) var failures: UInt64 = 0

    init(plane: AgentDataPlane, tun: TunDevice, sender: RawIPSender, trials: Trials, destroyer: SocketDestroyer) {
        self.plane = plane
        self.trials = trials
        self.destroyer = destroyer
        self.tun = tun
        self.sender = sender
    }

    /// A take-over is under way.
    var isBusy: Bool { !runs.isEmpty }

    func isActive(_ slot: SlotID) -> Bool { runs.contains { $0.machine.slot == slot } }

    var isReadopting: Bool { runs.contains { $0.isOwn } }

    func isTakenOver(_ slot: SlotID) -> Bool { runs.contains { $0.machine.slot == slot && !$0.isOwn } }

    /// When something is due; `.never` without a take-over.
    var nextTick: Instant { runs.compactMap { $0.machine.nextDeadline }.min() ?? .never }

    func takeForgotten() -> [ConnectionHandle] {
        defer { forgotten.removeAll(keepingCapacity: true) }
        return forgotten
    }

    /// Connections that the local application is about to answer.
    func takeInstalled() -> [FlowKey] {
        defer { installed.removeAll(keepingCapacity: true) }
        return installed
    }

    func takeReports() -> [TakeOverReport] {
        defer { reports.removeAll() }
        return reports
    }

    /// Of connections that the machine has adopted again; those that are over.
    func takeReadoptions() -> [TakeOverReport] {
        defer { readoptions.removeAll() }
        return readoptions
    }

    // MARK: Inputs

    /// Adopts connections of a slot that is this machine's own again; their old sockets are gone.
    func readopt(
        _ flows: Set<FlowKey>,
        of slot: SlotID,
        tracker: borrowing Tracker,
        profile: @escaping (Endpoint) -> AdoptionProfile,
        now: Instant
    ) {
        let start = TakeOverStart(slot: slot, epoch: Epoch(rawValue: 0), orderedAt: now)
        begin(Run(machine: TakeoverMachine(slot: slot, only: flows, profile: profile), start: start, isOwn: true, now: now),
            tracker: tracker, now: now)
    }

    func start(
        _ start: TakeOverStart,
        tracker: borrowing Tracker,
        profile: @escaping (Endpoint) -> AdoptionProfile,
        now: Instant
    ) {
        guard !isTakenOver(start.slot) else { return }
        begin(
            Run(machine: TakeoverMachine(slot: start.slot, profile: profile), start: start, isOwn: false, now: now),
            tracker: tracker, now: now)
    }

    private func begin(_ run: Run, tracker: borrowing Tracker, now: Instant) {
        runs.append(run)
        var effects: [TakeoverEffect] = []
        run.machine.start(tracker: tracker, now: now, into: &effects)
        perform(effects, run, tracker: tracker)
        finishRuns()
    }

    func received(_ frame: TCPFrame, slot: SlotID, tracker: borrowing Tracker, now: Instant) {
        for run in runs where run.machine.slot == slot {
            var effects: [TakeoverEffect] = []
            run.machine.received(frame, tracker: tracker, now: now, into: &effects)
            perform(effects, run, tracker: tracker)
        }
    }

    /// Reads what the data plane knows of a connection and lets its machine go on.
    func observe(_ flow: FlowKey, tracker: borrowing Tracker, now: Instant) {
        let progress = read(flow)
        for run in runs {
            var effects: [TakeoverEffect] = []
            run.machine.progress(flow, progress, tracker: tracker, now: now, into: &effects)
            perform(effects, run, tracker: tracker)
        }
    }

    /// A packet that the data plane held back.
    func held(_ packet: UnsafeRawBufferPointer, tracker: borrowing Tracker, now: Instant) {
        guard let frame = FrameParser.parse(packet: packet).frame else { return }
        for run in runs {
            var effects: [TakeoverEffect] = []
            run.machine.regenerated(frame, packet, tracker: tracker, now: now, into: &effects)
            perform(effects, run, tracker: tracker)
        }
    }

    /// What came of a trial.
    func tried(_ flow: FlowKey, _ facts: ReplyFacts?, tracker: borrowing Tracker, now: Instant) {
        for run in runs {
            var effects: [TakeoverEffect] = []
            run.machine.tried(flow, facts, tracker: tracker, now: now, into: &effects)
            perform(effects, run, tracker: tracker)
        }
    }

    /// The socket of an adopted connection was closed at `instant`: the data plane need not know it any more.
    ///
    /// Unless the entry is of a later adoption: where an application was killed and its connections are adopted again,
    /// the old sockets' ends are told at about that time.
    func closed(_ flow: FlowKey, at instant: Instant, tracker: borrowing Tracker, now: Instant) {
        if let entry = try? plane.connections.get(baton_connection_key(flow)),
            entry.adopted_ns == 0 || Instant(nanoseconds: entry.adopted_ns) > instant
        {
            return
        }
        observe(flow, tracker: tracker, now: now)
        attempt { try plane.connections.delete(baton_connection_key(flow)) }
        attempt { try plane.released.delete(baton_connection_key(flow)) }
        for run in runs {
            var effects: [TakeoverEffect] = []
            run.machine.progress(flow, AdoptionProgress(state: .gone, isAdopted: true), tracker: tracker, now: now, into: &effects)
            perform(effects, run, tracker: tracker)
        }
    }

    func tick(tracker: borrowing Tracker, now: Instant) {
        for run in runs {
            if let due = run.machine.nextDeadline, due <= now {
                var effects: [TakeoverEffect] = []
                _ = run.machine.tick(tracker: tracker, now: now, into: &effects)
                perform(effects, run, tracker: tracker)
            }
        }
        finishRuns()
    }

    private func finishRuns() {
        for run in runs where run.machine.isFinished { finish(run) }
        runs.removeAll { $0.machine.isFinished }
    }

    func abort(_ slot: SlotID) {
        for run in runs where run.machine.slot == slot { count(run.machine.figures) }
        attempt {
            for entry in try plane.connections.entries() where entry.value.slot == slot.rawValue {
                try plane.connections.delete(entry.key)
            }
        }
        runs.removeAll { $0.machine.slot == slot }
    }

    // MARK: Effects

    private func perform(_ effects: [TakeoverEffect], _ run: Run, tracker: borrowing Tracker) {
        for effect in effects {
            switch effect {
            case .sendToClient(let packet): attempt { try sender.send(packet) }
            case .install(let entry):
                installed.append(entry.flow)
                attempt {
                    if entry.isChecked { try plane.released.delete(baton_connection_key(entry.flow)) }
                    try plane.connections.put(baton_connection_key(entry.flow), baton_connection(entry))
                    // What an earlier crash of our own application left must not silence the adopted socket; the entry
                    // keeps RSTs back from now on.
                    try plane.guarded.delete(baton_connection_key(entry.flow))
                }
            case .uninstall(let flow):
                attempt { try plane.connections.delete(baton_connection_key(flow)) }
                attempt { try plane.released.delete(baton_connection_key(flow)) }
            case .release(let flow): attempt { try plane.released.put(baton_connection_key(flow), 1) }
            case .trial(let flow, let request): trials.start(flow, request)
            case .inject(let packet): attempt { try tun.write(packet) }
            case .observe(let flow):
                var further: [TakeoverEffect] = []
                run.machine.progress(flow, read(flow), tracker: tracker, now: MonotonicClock.now(), into: &further)
                perform(further, run, tracker: tracker)
            case .forget(let handle): forgotten.append(handle)
            case .settled: tell(run, .settled)
            case .finished: break
            }
        }
    }

    private func read(_ flow: FlowKey) -> AdoptionProgress {
        do {
            guard let entry = try plane.connections.get(baton_connection_key(flow)) else {
                return AdoptionProgress(state: .gone)
            }
            if entry.isObstructed { clear(flow) }
            return AdoptionProgress(entry)
        } catch {
            failures += 1
            return AdoptionProgress(state: .adopting)
        }
    }

    /// A client that uses a port again within a minute may meet what this machine's kernel remembers of the connection
    /// before (TIME_WAIT). The machine's next attempt finds the way free; the entry keeps back the RST, if there is one.
    private func clear(_ flow: FlowKey) {
        attempt { try destroyer.destroyClosed(flow) }
    }

    private func attempt(_ body: () throws -> Void) {
        do {
            try body()
        } catch {
            failures += 1
        }
    }

    // MARK: Reports

    private func finish(_ run: Run) {
        if run.isOwn { readoptions.append(report(run, .finished)) } else { tell(run, .finished) }
        count(run.machine.figures)
    }

    private func count(_ figures: TakeoverFigures) {
        adoptedTotal += figures.adopted
        for index in resets.indices { resets[index] += figures.resets[index] }
    }

    private func tell(_ run: Run, _ phase: TakeOverReport.Phase) {
        if !run.isOwn { reports.append(report(run, phase)) }
    }

    private func report(_ run: Run, _ phase: TakeOverReport.Phase) -> TakeOverReport {
        let figures = run.machine.figures
        return TakeOverReport(
            slot: run.machine.slot,
            epoch: run.start.epoch,
            phase: phase,
            connections: UInt32(figures.connections),
            adopted: UInt32(figures.adopted),
            resets: figures.resets.map { UInt32($0) },
            caughtUpBytes: figures.caughtUpBytes,
            moments: TakeOverMoments(
                ordered: run.start.orderedAt,
                started: run.startedAt,
                firstProbe: figures.connections > 0 ? run.startedAt : nil,
                firstAnswer: figures.firstAnswerAt,
                firstAdoption: figures.firstAdoptedAt,
                firstReply: figures.firstReplyAt,
                firstNewByte: figures.firstNewByteAt,
                settled: figures.settledAt,
                finished: figures.finishedAt
            ),
            times: TakeOverTimes(
                response: median(figures.response),
                reconstruction: median(figures.reconstruction),
                application: median(figures.application),
                catchUp: median(figures.catchUp)
            )
        )
    }

    private func median(_ values: [Int64]) -> Interval? {
        values.isEmpty ? nil : Interval(nanoseconds: values.sorted()[values.count / 2])
    }
}

// MARK: Between the machine's types and contract.h

extension FlowKey {
    init(_ key: baton_connection_key) {
        self.init(
            client: Endpoint(address: key.clientAddress, port: key.clientPort),
            service: Endpoint(address: key.serviceAddress, port: key.servicePort)
        )
    }
}

extension baton_connection_key {
    init(_ flow: FlowKey) {
        self.init(
            client: flow.client.address,
            clientPort: flow.client.port,
            service: flow.service.address,
            servicePort: flow.service.port
        )
    }
}

extension baton_connection {
    init(_ entry: ConnectionEntry) {
        self.init()
        var flags: UInt32 = 0
        if entry.timestamps != nil { flags |= BATON_CONNECTION_TIMESTAMPS.rawValue }
        if entry.sackPermitted { flags |= BATON_CONNECTION_SACK.rawValue }
        if entry.clientWindowScale != nil { flags |= BATON_CONNECTION_WSCALE.rawValue }
        if entry.isChecked { flags |= BATON_CONNECTION_CHECKED.rawValue }
        self.state = BATON_CONNECTION_ADOPTING.rawValue
        self.flags = flags
        iss = entry.iss.rawValue
        irs = entry.irs.rawValue
        snd_una = entry.sndUna
        right_edge = entry.rightEdge
        client_tsval = entry.timestamps?.value ?? 0
        server_tsval = entry.timestamps?.echo ?? 0
        mss = entry.mss
        snd_wscale = entry.clientWindowScale ?? 0
        rcv_wscale = entry.serverWindowScale ?? 0
        slot = entry.slot.rawValue
    }
}

extension baton_connection {
    fileprivate var isObstructed: Bool {
        flags & BATON_CONNECTION_OBSTRUCTED.rawValue != 0 && flags & BATON_CONNECTION_ASSIGNED.rawValue == 0
    }
}

extension AdoptionProgress {
    init(_ entry: baton_connection) {
        let state: State =
            switch entry.state {
            case BATON_CONNECTION_CATCHING_UP.rawValue: .catchingUp
            case BATON_CONNECTION_LIVE.rawValue: .live
            case BATON_CONNECTION_REFUSED.rawValue: .refused
            case _: .adopting
            }
        let hasSent = entry.local_ack != 0 || entry.local_right_edge != 0
        let instant = { (nanoseconds: UInt64) in nanoseconds == 0 ? nil : Instant(nanoseconds: nanoseconds) }
        self.init(
            state: state,
            isAdopted: entry.flags & BATON_CONNECTION_ADOPTED.rawValue != 0,
            localAck: hasSent ? SequenceNumber(entry.local_ack) : nil,
            localRightEdge: hasSent ? SequenceNumber(entry.local_right_edge) : nil,
            sent: entry.snd_nxt,
            acknowledged: entry.snd_una,
            adoptedAt: instant(entry.adopted_ns),
            firstReplyAt: instant(entry.first_reply_ns),
            liveAt: instant(entry.live_ns),
            caughtUpBytes: entry.caught_up_bytes
        )
    }
}
