import Cluster
import HTTP
import Model
import Takeover
import Tracking
import Wire

/// What reaches the data thread of an agent.
enum DataInput {
    case frame([UInt8])
    /// What the tap for answers has seen: a frame for this machine alone.
    case answer([UInt8])
    case membership(GroupMembership)
    case services([ServiceDescription])
    case profile(SlotID, ServiceID, HandshakeOptions)
    case startTakeOver(TakeOverStart)
    case abortTakeOver(SlotID)
    case readopt
    case sources([SlotSource])
    case peerRequest(PeerMessage, from: BackendID, life: Life)
    case peerAnswer(PeerMessage, from: BackendID)
    case event(KernelEvent, FlowKey)
    /// What the tap for replies has seen: a segment of a VIP on its way out.
    case reply([UInt8])
    /// What another agent has seen so.
    case replies([ReplyNotice])
    /// What the tap for SYN-ACKs has seen.
    case synAck([UInt8])
    /// What another agent has seen so.
    case synAcks([SynAckNotice])
    /// A segment that the data plane has held back.
    case held([UInt8])
    case tried(FlowKey, ReplyFacts?)
    /// Everything that the control thread has said before is done.
    case barrier
    case wake

    /// From the control thread's mailbox, and not from the wire.
    var isCommand: Bool {
        switch self {
        case .frame, .answer, .reply, .synAck, .held, .event, .wake: false
        case .membership, .services, .profile, .startTakeOver, .abortTakeOver, .readopt, .sources, .peerRequest,
            .peerAnswer, .replies, .synAcks, .tried, .barrier:
            true
        }
    }
}

/// The data thread of AgentKit (DataThread.swift and TakeoverRunner.swift) without its descriptors: tracker, take-over
/// machines, and what they want of the kernel.
final class DataThread {
    private final class Run {
        var machine: TakeoverMachine
        let start: TakeOverStart
        /// Of this machine's own connections.
        let isOwn: Bool

        init(_ machine: consuming TakeoverMachine, _ start: TakeOverStart, isOwn: Bool = false) {
            self.machine = machine
            self.start = start
            self.isOwn = isOwn
        }
    }

    private unowned let world: Simulation
    private let kernel: ModelKernel
    private let host: Int
    private(set) var tracker: Tracker
    private var runs: [Run] = []
    private var forgotten: [ConnectionHandle] = []
    private var membership = GroupMembership()
    private var services: [ServiceDescription] = []
    private var crashedUntil = Instant(nanoseconds: 0)
    private var nextSweep = Instant(nanoseconds: 0)
    private var resynchroniser = Resynchroniser()
    private var installed: [FlowKey] = []
    /// Replies that are told once more.
    private var again: [(at: Instant, notices: [ReplyNotice])] = []
    /// SYN-ACKs, and when they are told.
    private var untold: [SynAckNotice] = []
    private var toldAt = Instant(nanoseconds: 0)
    private var nextTelling = Instant.never
    /// For the control thread, in order.
    var reports: [AgentInput] = []

    init(_ world: Simulation, host: Int, kernel: ModelKernel) {
        self.world = world
        self.host = host
        self.kernel = kernel
        var parameters = Tracker.Parameters()
        parameters.connections = 64
        parameters.journalBytes = 4 << 20
        parameters.journalBytesPerConnection = 1 << 18
        tracker = Tracker(parameters: parameters, secret: (world.random.next(), world.random.next()))
    }

    /// When something is due; `.never` where nothing is.
    var nextTick: Instant {
        let own = min(runs.compactMap { $0.machine.nextDeadline }.min() ?? .never, again.first?.at ?? .never)
        return min(own, min(resynchroniser.nextDeadline(tracker), nextTelling))
    }

    private func isActive(_ slot: SlotID) -> Bool { runs.contains { $0.machine.slot == slot } }

    func handle(_ input: DataInput, now: Instant) {
        switch input {
        case .frame(let bytes): received(bytes, now)
        case .answer(let bytes): receivedAnswer(bytes, now)
        case .membership(let new): change(new)
        case .services(let new):
            services = new
            tracker.setHTTP(new.filter { $0.replay == .http }.map(\.endpoint))
        case .profile(let slot, let id, let options):
            guard let service = services.first(where: { $0.id == id }) else { break }
            tracker.learn(ServiceHandshake(service: service.endpoint, options: options), slot: slot)
        case .startTakeOver(let start): begin(start, now)
        case .abortTakeOver(let slot):
            abort(slot)
            tracker.drop(slot: slot)
        case .readopt: readopt(now)
        case .sources(let sources):
            resynchroniser.setSources(sources, now: now)
            for source in sources { resynchroniser.setConnected(source.owner, true, now: now) }
        case .peerRequest(let message, let peer, let life): answer(message, to: peer, life, now)
        case .peerAnswer(let message, let owner):
            var effects: [ResynchronisationEffect] = []
            resynchroniser.received(message, from: owner, tracker: &tracker, now: now, into: &effects)
            perform(effects)
        case .event(let event, let flow): received(event, flow, now)
        case .reply(let bytes): sawReply(bytes, now)
        case .replies(let notices): noted(notices)
        case .synAck(let bytes): sawSynAck(bytes, now)
        case .synAcks(let notices): noted(notices)
        case .held(let packet): held(packet, now)
        case .tried(let flow, let facts):
            for run in runs {
                var effects: [TakeoverEffect] = []
                run.machine.tried(flow, facts, tracker: tracker, now: now, into: &effects)
                perform(effects, run, now)
            }
        case .barrier: world.queueDestruction(on: host)
        case .wake: break
        }
        for flow in installed { tracker.regenerates(flow) }
        installed.removeAll(keepingCapacity: true)
        tick(now)
        for flow in installed { tracker.regenerates(flow) }
        installed.removeAll(keepingCapacity: true)
    }

    // MARK: HTTP

    /// ReplyWatch.swift of AgentKit.
    private func sawReply(_ bytes: [UInt8], _ now: Instant) {
        guard let frame = bytes.parsedPacket() else { return }
        let (service, client) = (frame.flow.client, frame.flow.service)
        guard let id = services.first(where: { $0.endpoint == service && $0.replay == .http })?.id,
            case .facts(let facts) = ReplyHead.parse(Array(bytes[frame.payload]))
        else { return }
        let notices = [ReplyNotice(client: client, service: id, sequence: frame.sequence, facts: facts)]
        again.append((now + .milliseconds(15), notices))
        tellReplies(notices)
    }

    private func tellReplies(_ notices: [ReplyNotice]) {
        noted(notices)
        reports.append(.replies(notices))
    }

    private func noted(_ notices: [ReplyNotice]) {
        for notice in notices {
            guard let service = services.first(where: { $0.id == notice.service }) else { continue }
            let flow = FlowKey(client: notice.client, service: service.endpoint)
            tracker.reported(flow, sequence: notice.sequence, notice.facts)
        }
    }

    // MARK: SYN-ACKs

    /// SynAckWatch.swift of AgentKit, but for what is held back for a batch.
    private func sawSynAck(_ bytes: [UInt8], _ now: Instant) {
        guard let frame = bytes.parsedPacket(),
            let id = services.first(where: { $0.endpoint == frame.flow.client && $0.replay != .none })?.id
        else { return }
        untold.append(
            SynAckNotice(
                client: frame.flow.service, service: id, iss: frame.sequence, acknowledged: frame.acknowledgment))
        if nextTelling == .never { nextTelling = max(now + .milliseconds(2), toldAt + .milliseconds(20)) }
    }

    private func tellSynAcks(_ now: Instant) {
        guard nextTelling <= now else { return }
        noted(untold)
        let open = untold.filter { notice in
            guard let service = services.first(where: { $0.id == notice.service }),
                let handle = tracker.handle(of: FlowKey(client: notice.client, service: service.endpoint)),
                let connection = tracker[handle]
            else { return true }
            return connection.certainISS != notice.iss || connection.finOffset == nil
        }
        if !open.isEmpty { reports.append(.synAcks(open)) }
        untold = []
        nextTelling = .never
        toldAt = now
    }

    private func noted(_ notices: [SynAckNotice]) {
        for notice in notices {
            guard let service = services.first(where: { $0.id == notice.service }) else { continue }
            let flow = FlowKey(client: notice.client, service: service.endpoint)
            tracker.announced(flow, iss: notice.iss, acknowledged: notice.acknowledged)
        }
    }

    private func held(_ packet: [UInt8], _ now: Instant) {
        guard let frame = packet.parsedPacket() else { return }
        for run in runs {
            var effects: [TakeoverEffect] = []
            packet.withUnsafeBytes {
                run.machine.regenerated(frame, $0, tracker: tracker, now: now, into: &effects)
            }
            perform(effects, run, now)
        }
    }

    // MARK: Resynchronisation

    private func answer(_ message: PeerMessage, to peer: BackendID, _ life: Life, _ now: Instant) {
        let slot: SlotID
        let serial: UInt32
        switch message {
        case .list(let request): (slot, serial) = (request.slot, request.serial)
        case .fetch(let request): (slot, serial) = (request.slot, request.serial)
        case .hello, .listed, .copies, .refused: return
        }
        guard world.hosts[host].agent?.mayTell(slot, to: peer, life: life) == true else {
            world.sendToPeer(.refused(PeerRefusal(slot: slot, serial: serial, reason: .notOurs)), from: host, to: peer)
            return
        }
        if let answer = tracker.answer(message, now: now) { world.sendToPeer(answer, from: host, to: peer) }
    }

    private func perform(_ effects: [ResynchronisationEffect]) {
        for effect in effects {
            switch effect {
            case .send(let message, let owner): world.sendToPeer(message, from: host, to: owner)
            case .synchronised(let slot, let after):
                world.counts.synchronised += 1
                world.trace("\(world.hosts[host].name): synchronised \(slot) after \(after.milliseconds) ms")
            }
        }
    }

    private func tick(_ now: Instant) {
        while let first = again.first, first.at <= now { tellReplies(again.removeFirst().notices) }
        tellSynAcks(now)
        if resynchroniser.nextDeadline(tracker) <= now {
            var effects: [ResynchronisationEffect] = []
            resynchroniser.tick(tracker: &tracker, now: now, into: &effects)
            perform(effects)
        }
        for run in runs {
            if let due = run.machine.nextDeadline, due <= now {
                var effects: [TakeoverEffect] = []
                _ = run.machine.tick(tracker: tracker, now: now, into: &effects)
                perform(effects, run, now)
            }
            if run.machine.isFinished {
                tell(run, .finished)
                count(run)
            }
        }
        runs.removeAll { $0.machine.isFinished }
        for handle in forgotten { tracker.remove(handle) }
        forgotten.removeAll(keepingCapacity: true)
        if now >= nextSweep {
            tracker.expire(now: now)
            nextSweep = now + .milliseconds(500)
        }
    }

    // MARK: Frames and events

    private func received(_ bytes: [UInt8], _ now: Instant) {
        guard let frame = bytes.parsedFrame(), let slot = SlotID(group: frame.destination),
            membership.tapped.contains(slot) || membership.own.contains(slot) || isActive(slot),
            services.contains(where: { $0.endpoint == frame.flow.service })
        else { return }
        bytes.withUnsafeBytes { tracker.handle(frame, in: $0, slot: slot, now: now) }
        if world.scenario.chaos == .issGuessed { believe(frame.flow) }
        received(frame, slot, now)
    }

    /// What the client's first ACK says is taken for certain.
    private func believe(_ flow: FlowKey) {
        guard let handle = tracker.handle(of: flow), let connection = tracker[handle], !connection.isISSCertain,
            let iss = connection.iss
        else { return }
        tracker.announced(flow, iss: iss, acknowledged: connection.irs.advanced(by: 1))
    }

    private func received(_ frame: TCPFrame, _ slot: SlotID, _ now: Instant) {
        for run in runs where run.machine.slot == slot {
            var effects: [TakeoverEffect] = []
            run.machine.received(frame, tracker: tracker, now: now, into: &effects)
            perform(effects, run, now)
        }
    }

    /// `receivedAnswer` of AgentKit: the tap is open while own connections are adopted again.
    private func receivedAnswer(_ bytes: [UInt8], _ now: Instant) {
        guard runs.contains(where: \.isOwn), let frame = bytes.parsedFrame(), frame.payloadLength == 0,
            let handle = tracker.handle(of: frame.flow), let slot = tracker[handle]?.slot, isActive(slot)
        else { return }
        bytes.withUnsafeBytes { tracker.handle(frame, in: $0, slot: slot, now: now) }
        received(frame, slot, now)
    }

    private func received(_ event: KernelEvent, _ flow: FlowKey, _ now: Instant) {
        switch event {
        case .adopted, .live, .replyShorter: observe(flow, now)
        case .closed(let closed):
            // Of a socket before the one that the entry is for.
            if let adopted = kernel.adoptedAt(flow), adopted > closed { break }
            observe(flow, now)
            kernel.uninstall(flow)
            for run in runs {
                var effects: [TakeoverEffect] = []
                let gone = AdoptionProgress(state: .gone, isAdopted: true)
                run.machine.progress(flow, gone, tracker: tracker, now: now, into: &effects)
                perform(effects, run, now)
            }
            guard !kernel.isGuarded(flow) else { break }
            if let handle = tracker.handle(of: flow), let slot = tracker[handle]?.slot, membership.own.contains(slot) {
                tracker.remove(handle)
            }
        case .applicationCrashed: crashed(now, hadConnections: true)
        case .listenerClosed(let wasCrash):
            if wasCrash { crashed(now, hadConnections: false) } else { reports.append(.listenerClosed(service: Host.serviceName)) }
        }
    }

    private func crashed(_ now: Instant, hadConnections: Bool) {
        guard hadConnections else {
            reports.append(.listenerCrashed(service: Host.serviceName))
            return
        }
        guard now >= crashedUntil else { return }
        crashedUntil = now + .milliseconds(200)
        reports.append(.applicationCrashed(service: Host.serviceName))
    }

    private func abort(_ slot: SlotID) {
        for run in runs where run.machine.slot == slot { count(run) }
        runs.removeAll { $0.machine.slot == slot }
        kernel.uninstall(slot: slot)
    }

    private func change(_ new: GroupMembership) {
        for slot in membership.own where !new.own.contains(slot) { abort(slot) }
        for slot in membership.tapped + membership.own where !new.tapped.contains(slot) && !new.own.contains(slot) {
            if !isActive(slot) { tracker.drop(slot: slot) }
        }
        membership = new
    }

    // MARK: Take-overs

    private func begin(_ start: TakeOverStart, _ now: Instant) {
        guard !runs.contains(where: { $0.machine.slot == start.slot && !$0.isOwn }) else { return }
        let servers = services.map { tracker.handshake(of: $0.endpoint, slot: start.slot) }
        begin(Run(TakeoverMachine(slot: start.slot, profile: profile(servers)), start), now)
    }

    /// `readopt` of AgentKit.
    private func readopt(_ now: Instant) {
        crashedUntil = Instant(nanoseconds: 0)
        let servers: [HandshakeOptions?] = services.map { _ in ModelSocket.announced }
        for slot in membership.own {
            let mine = tracker.connections(of: slot).compactMap { tracker[$0]?.flow }.filter { kernel.isGuarded($0) }
            guard !mine.isEmpty else { continue }
            for flow in mine { kernel.destroy(flow) }
            world.trace("\(world.hosts[host].name): adopts \(mine.count) connections of \(slot) again")
            let start = TakeOverStart(slot: slot, epoch: Epoch(rawValue: 0), orderedAt: now)
            begin(Run(TakeoverMachine(slot: slot, only: Set(mine), profile: profile(servers)), start, isOwn: true), now)
        }
    }

    private func profile(_ servers: [HandshakeOptions?]) -> (Endpoint) -> AdoptionProfile {
        let services = services
        return { endpoint in
            guard let index = services.firstIndex(where: { $0.endpoint == endpoint }) else {
                return AdoptionProfile(replay: .none, server: nil)
            }
            return AdoptionProfile(
                replay: services[index].replay, server: servers[index], http: services[index].http)
        }
    }

    private func begin(_ run: Run, _ now: Instant) {
        runs.append(run)
        var effects: [TakeoverEffect] = []
        run.machine.start(tracker: tracker, now: now, into: &effects)
        perform(effects, run, now)
    }

    private func observe(_ flow: FlowKey, _ now: Instant) {
        let progress = kernel.progress(flow)
        for run in runs {
            var effects: [TakeoverEffect] = []
            run.machine.progress(flow, progress, tracker: tracker, now: now, into: &effects)
            perform(effects, run, now)
        }
    }

    private func perform(_ effects: [TakeoverEffect], _ run: Run, _ now: Instant) {
        for effect in effects {
            switch effect {
            case .sendToClient(let packet): kernel.sendRaw(packet)
            case .install(let entry):
                installed.append(entry.flow)
                kernel.install(entry)
            case .uninstall(let flow): kernel.uninstall(flow)
            case .inject(let packet): kernel.tun(packet)
            case .observe(let flow):
                var further: [TakeoverEffect] = []
                run.machine.progress(flow, kernel.progress(flow), tracker: tracker, now: now, into: &further)
                perform(further, run, now)
            case .forget(let handle): forgotten.append(handle)
            case .release(let flow): kernel.release(flow)
            case .trial(let flow, let request): world.tryRequest(request, of: flow, on: host)
            case .settled: tell(run, .settled)
            case .finished: break
            }
        }
    }

    private func tell(_ run: Run, _ phase: TakeOverReport.Phase) {
        world.trace("\(world.hosts[host].name): take-over of \(run.machine.slot) \(phase)")
        guard !run.isOwn else { return }
        reports.append(.takeOver(TakeOverReport(slot: run.machine.slot, epoch: run.start.epoch, phase: phase)))
    }

    private func count(_ run: Run) {
        world.counts.adopted += run.machine.figures.adopted
        if run.isOwn { world.counts.readopted += run.machine.figures.adopted }
        for cause in ResetCause.allCases { world.counts.resets[Int(cause.rawValue)] += run.machine.figures.resets(cause) }
    }
}
