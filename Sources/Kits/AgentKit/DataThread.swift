import CContract
import Cluster
import HTTP
import LinuxBPF
import LinuxBase
import LinuxCapture
import LinuxNetwork
import Logging
import Model
import Synchronization
import Takeover
import Tracking
import Wire

/// What the control thread wants of the data thread.
enum DataCommand: Sendable {
    case membership(Cluster.GroupMembership)
    case services([ServiceDescription])
    case profile(SlotID, ServiceID, HandshakeOptions)
    case replies([ReplyNotice])
    case synAcks([SynAckNotice])
    case startTakeOver(TakeOverStart)
    case abortTakeOver(SlotID)
    /// The application of this address is back after a crash: it gets its connections again.
    case readopt(Endpoint)
    case sources([SlotSource])
    /// A session with the owner of slots that we back up has opened or closed.
    case peerConnected(BackendID, Bool)
    case peerAnswer(PeerMessage, from: BackendID)
    /// A backup asks; the closure gets the answer's bytes.
    case peerRequest(PeerMessage, @Sendable ([UInt8]) -> Void)
    case status(@Sendable (DataStatus) -> Void)
    /// Called when everything is done that was posted before.
    case barrier(@Sendable () -> Void)
    case stop
}

/// What the data thread tells the control thread.
enum DataReport: Sendable {
    case takeOver(TakeOverReport)
    /// Connections that this machine has adopted again.
    case readopted(TakeOverReport)
    /// A process that served this address died; the address may be a wildcard.
    case applicationCrashed(Endpoint, hadConnections: Bool)
    case listenerClosed(Endpoint)
    /// A SYN-ACK of a VIP left: the options that this machine's application announces.
    case handshake(Endpoint, HandshakeOptions)
    /// Replies that this machine has begun to send.
    case replies([ReplyNotice])
    /// SYN-ACKs that this machine has sent.
    case synAcks([SynAckNotice])
    case peerRequest(PeerMessage, to: BackendID)
    case synchronised(SlotID, after: Interval)
    case protection([SlotProtection])
    case failed(String)
}

struct DataStatus: Sendable {
    var connections = 0
    var journalBytes = 0
    var tracker = TrackerCounters()
    var tapReceived: UInt64 = 0
    var tapDropped: UInt64 = 0
    var resets = [Int](repeating: 0, count: ResetCause.allCases.count)
    var adoptedTotal = 0
    var sendFailures: UInt64 = 0
}

/// The thread of the packet path in user space: tap, tracker, take-overs, events of the eBPF programs.
///
/// Everything in it belongs to its thread, but for the mailbox. Nothing of it runs on the cooperative pool, and nothing
/// between an order and its adoptions waits for another thread.
final class DataThread {
    private enum Token: UInt64 {
        case mailbox = 1
        case tap = 2
        case events = 3
        case replies = 4
        case tun = 5
        case answers = 6
    }

    private let poller: Poller
    private let mailbox: Mailbox
    private let tap: GroupTap
    private var synAcks: SynAckWatch?
    /// Open while connections of this machine are adopted again.
    private var answerTap: AnswerTap?
    private let tun: TunDevice
    private let trials: Trials
    private var replies: ReplyWatch?
    private let interface: String
    /// The interface's own: copies of the forwarding `duplicate` come to it.
    private let address: MACAddress
    private let plane: AgentDataPlane
    private var events: BPFRingBuffer?
    private var tracker: Tracker
    private let runner: TakeoverRunner
    private let destroyer: SocketDestroyer
    private var resynchronisation = Resynchronisation()
    private let report: @Sendable (DataReport) -> Void
    private var membership = Cluster.GroupMembership()
    private var services: [ServiceDescription] = []
    private var profiles: [Endpoint: HandshakeOptions] = [:]
    private var crashedUntil: [Endpoint: Instant] = [:]
    private var nextSweep = Instant(nanoseconds: 0)
    private var nextLesson = Instant(nanoseconds: 0)
    /// The tap is read again then, without being asked; nil: as soon as it has frames.
    private var tapHeldUntil: Instant?
    private var running = true

    /// - Parameters:
    ///   - mailbox: where commands come in.
    ///   - report: called on this thread.
    init(
        interface: String,
        address: MACAddress,
        plane: AgentDataPlane,
        tun: TunDevice,
        parameters: Tracker.Parameters,
        mailbox: Mailbox,
        report: @escaping @Sendable (DataReport) -> Void
    ) throws {
        self.interface = interface
        self.address = address
        self.plane = plane
        self.mailbox = mailbox
        self.report = report
        poller = try Poller()
        tap = try GroupTap(interface: interface)
        tracker = Tracker(parameters: parameters, secret: (try Randomness.number(), try Randomness.number()))
        self.tun = tun
        trials = Trials(poller: poller)
        destroyer = try SocketDestroyer()
        let sender = try RawIPSender(mark: AgentDataPlane.ownMark)
        runner = TakeoverRunner(plane: plane, tun: tun, sender: sender, trials: trials, destroyer: destroyer)
        try poller.add(mailbox.signal.descriptor, token: Token.mailbox.rawValue)
        try poller.add(tap.descriptor, token: Token.tap.rawValue)
        try poller.add(tun.descriptor, token: Token.tun.rawValue)
        let events = try plane.events { [unowned self] event in self.received(event) }
        try poller.add(events.epollDescriptor, token: Token.events.rawValue)
        self.events = events
    }

    /// Runs until a `stop` comes; the thread that calls it becomes the data thread.
    func run() {
        while running {
            let now = MonotonicClock.now()
            let due = min(min(runner.nextTick, nextSweep), min(nextLesson, tapHeldUntil ?? .never))
            // While the tap is held, its end is soon enough.
            let telling = tapHeldUntil == nil ? synAcks?.nextTelling ?? .never : .never
            let tellings = min(replies?.nextRepeat ?? .never, telling)
            let later = min(tellings, resynchronisation.nextTick(tracker))
            let wake = trials.hasResults ? now : min(due, later)
            do {
                try poller.wait(timeout: max(wake - now, .zero)) { ready in
                    if let token = Token(rawValue: ready.token) { serve(token) } else { trials.serve(ready.token) }
                }
            } catch {
                report(.failed("\(error)"))
                return
            }
            tick(MonotonicClock.now())
        }
    }

    private func serve(_ token: Token) {
        do {
            switch token {
            case .mailbox: for command in mailbox.take() { obey(command) }
            case .tap: try readTap()
            case .events: try events?.consume()
            case .replies:
                if let news = try replies?.read(), !news.isEmpty { tell(news) }
            case .answers:
                try answerTap?.dispatch(max: 512) { bytes, length, at in receivedAnswer(bytes, length, at) }
            case .tun:
                try tun.read(max: 256) { runner.held($0, tracker: tracker, now: MonotonicClock.now()) }
            }
        } catch {
            report(.failed("\(error)"))
        }
    }

    /// Reads the tap, and holds it for a while unless a take-over waits for answers: tracking may be some milliseconds
    /// late, and waking up for each block of frames would cost more than looking at them.
    private func readTap() throws {
        let count = try tap.dispatch(max: 512) { bytes, length, instant in received(bytes, length, instant) }
        // Each of them answers a SYN that has just been seen, or soon will be.
        readSynAcks()
        if count == 0 || runner.isBusy {
            try watchTap()
        } else {
            if tapHeldUntil == nil { try poller.remove(tap.descriptor) }
            tapHeldUntil = count < 512 ? MonotonicClock.now() + DataThread.tapHold : Instant(nanoseconds: 0)
        }
    }

    private func watchTap() throws {
        guard tapHeldUntil != nil else { return }
        tapHeldUntil = nil
        try poller.add(tap.descriptor, token: Token.tap.rawValue)
    }

    /// A take-over starts from all that has come, and then sees each frame at once.
    private func releaseTap() throws {
        while try tap.dispatch(max: 512, body: { bytes, length, at in received(bytes, length, at) }) > 0 {}
        try watchTap()
    }

    /// Well below the 128 ms after which the tap's ring is full of blocks.
    private static let tapHold = Interval.milliseconds(5)
    private static let lessonInterval = Interval.milliseconds(100)

    private func tick(_ now: Instant) {
        if let until = tapHeldUntil, now >= until { serve(.tap) }
        if now >= nextLesson {
            // Of SYNs that the tap of the groups has missed.
            readSynAcks()
            nextLesson = now + DataThread.lessonInterval
        }
        for result in trials.takeResults() { runner.tried(result.flow, result.facts, tracker: tracker, now: now) }
        runner.tick(tracker: tracker, now: now)
        settle(now)
        closeAnswerTap()
        if let again = replies?.due(now), !again.isEmpty { tell(again) }
        if let news = synAcks?.due(now), !news.isEmpty { tell(news) }
        resynchronisation.tick(&tracker, now, report)
        if now >= nextSweep {
            tracker.expire(now: now)
            resynchronisation.sweep(&tracker, tapDropped: (try? tap.statistics())?.droppedByKernel ?? 0, now, report)
            nextSweep = now + .milliseconds(500)
        }
    }

    /// Does what the take-overs asked for that concerns the tracker, and passes their reports on.
    private func settle(_ now: Instant) {
        for flow in runner.takeInstalled() { tracker.regenerates(flow) }
        for handle in runner.takeForgotten() { tracker.remove(handle) }
        for news in runner.takeReports() { report(.takeOver(news)) }
        for news in runner.takeReadoptions() { report(.readopted(news)) }
    }

    private func attempt(_ body: () throws -> Void) {
        do {
            try body()
        } catch {
            report(.failed("\(error)"))
        }
    }

    // MARK: Frames

    private func received(_ bytes: UnsafeRawBufferPointer, _ wireLength: Int, _ instant: Instant) {
        guard case .segment(let frame) = FrameParser.parse(ethernet: bytes, wireLength: wireLength),
            let slot = SlotID(group: frame.destination) ?? slot(ofCopy: frame),
            membership.tapped.contains(slot) || membership.own.contains(slot) || runner.isActive(slot),
            services.contains(where: { $0.endpoint == frame.flow.service })
        else { return }
        tracker.handle(frame, in: bytes, slot: slot, now: instant)
        if runner.isActive(slot) {
            runner.received(frame, slot: slot, tracker: tracker, now: MonotonicClock.now())
            settle(MonotonicClock.now())
        }
    }

    /// The slot of a unicast copy to this machine; a bridge may flood those to others as well.
    private func slot(ofCopy frame: TCPFrame) -> SlotID? {
        frame.destination == address ? SlotID(mark: frame.source) : nil
    }

    /// A tap that fails says nothing, and what it does not say is not protected.
    private func readSynAcks() {
        try? synAcks?.read(services) { service, options in learnHandshake(service, options) }
    }

    private func learnHandshake(_ service: Endpoint, _ announced: HandshakeOptions) {
        // A SYN-ACK names only what its client has offered: what the server can do is the sum of them all.
        var options = announced
        if let known = profiles[service] {
            options.windowScale = options.windowScale ?? known.windowScale
            options.sackPermitted = options.sackPermitted || known.sackPermitted
            options.timestamps = options.timestamps || known.timestamps
            options.mss = max(options.mss, known.mss)
        }
        guard profiles[service] != options else { return }
        profiles[service] = options
        report(.handshake(service, options))
    }

    private func received(_ event: baton_event) {
        let service = Endpoint(address: event.key.serviceAddress, port: event.key.servicePort)
        let flow = FlowKey(client: Endpoint(address: event.key.clientAddress, port: event.key.clientPort), service: service)
        switch event.kind {
        case BATON_EVENT_ADOPTED.rawValue, BATON_EVENT_LIVE.rawValue, BATON_EVENT_REPLY_SHORTER.rawValue:
            runner.observe(flow, tracker: tracker, now: MonotonicClock.now())
        case BATON_EVENT_CLOSED.rawValue:
            let closed = Instant(nanoseconds: event.time_ns)
            runner.closed(flow, at: closed, tracker: tracker, now: MonotonicClock.now())
            settle(MonotonicClock.now())
            // An adopted connection of our own is over when its socket is, unless a crash has closed that.
            guard !isGuarded(flow) else { return }
            if let handle = tracker.handle(of: flow), let slot = tracker[handle]?.slot, membership.own.contains(slot) {
                tracker.remove(handle)
            }
        case BATON_EVENT_APPLICATION_CRASHED.rawValue:
            crashed(service, at: Instant(nanoseconds: event.time_ns), hadConnections: true)
        case BATON_EVENT_LISTENER_CLOSED.rawValue:
            event.exit_code == 0
                ? report(.listenerClosed(service))
                : crashed(service, at: Instant(nanoseconds: event.time_ns), hadConnections: false)
        case _:
            break
        }
    }

    /// A crash closes one socket for each connection; one report says it all.
    private func crashed(_ service: Endpoint, at instant: Instant, hadConnections: Bool) {
        guard hadConnections else {
            report(.applicationCrashed(service, hadConnections: false))
            return
        }
        if let until = crashedUntil[service], instant < until { return }
        crashedUntil[service] = instant + .milliseconds(200)
        report(.applicationCrashed(service, hadConnections: true))
    }

    // MARK: Own connections

    /// While a slot is taken over, the director sends all of its frames to the group; of this machine's own slots the
    /// answers to probes come to the machine alone.
    private func openAnswerTap() throws {
        guard answerTap == nil else { return }
        let tap = try AnswerTap(interface: interface, address: address, services: services.map(\.endpoint))
        try poller.add(tap.descriptor, token: Token.answers.rawValue)
        answerTap = tap
    }

    private func closeAnswerTap() {
        guard let tap = answerTap, !runner.isReadopting else { return }
        attempt { try poller.remove(tap.descriptor) }
        answerTap = nil
    }

    private func receivedAnswer(_ bytes: UnsafeRawBufferPointer, _ wireLength: Int, _ instant: Instant) {
        guard case .segment(let frame) = FrameParser.parse(ethernet: bytes, wireLength: wireLength),
            frame.payloadLength == 0, SlotID(mark: frame.source) == nil,
            let handle = tracker.handle(of: frame.flow), let slot = tracker[handle]?.slot, runner.isActive(slot)
        else { return }
        tracker.handle(frame, in: bytes, slot: slot, now: instant)
        runner.received(frame, slot: slot, tracker: tracker, now: MonotonicClock.now())
        settle(MonotonicClock.now())
    }

    private func isGuarded(_ flow: FlowKey) -> Bool {
        (try? plane.guarded.get(baton_connection_key(flow))) != nil
    }

    /// What the crash of an application has cut off is probed, adopted and replayed here, as a backup would do it. The
    /// dead sockets go first; the guard keeps their RSTs back, and whatever the kernel says of connections without one.
    private func readopt(_ service: Endpoint, _ now: Instant) {
        // The next crash may be near.
        crashedUntil[service] = nil
        attempt {
            try openAnswerTap()
            try releaseTap()
            let flows = try plane.guarded.entries().map { FlowKey($0.key) }.filter { $0.service == service }
            var unknown = Set(flows)
            for slot in membership.own {
                // Without its ISS, a connection cannot be probed.
                let mine = flows.filter { flow in
                    guard let handle = tracker.handle(of: flow), let connection = tracker[handle] else { return false }
                    return connection.slot == slot && connection.iss != nil
                }
                unknown.subtract(mine)
                guard !mine.isEmpty else { continue }
                for flow in mine {
                    try destroyer.destroy(flow)
                    try plane.connections.delete(baton_connection_key(flow))
                }
                runner.readopt(Set(mine), of: slot, tracker: tracker, profile: profile(of: slot), now: now)
            }
            // Nobody can go on with what was never followed: its client is told by its socket's own RST.
            for flow in unknown {
                try plane.guarded.delete(baton_connection_key(flow))
                try destroyer.destroy(flow)
            }
        }
        settle(now)
    }

    // MARK: Commands

    private func obey(_ command: DataCommand) {
        switch command {
        case .membership(let new): changeMembership(new)
        case .services(let new): changeServices(new)
        case .profile(let slot, let id, let options):
            guard let service = services.first(where: { $0.id == id }) else { return }
            tracker.learn(ServiceHandshake(service: service.endpoint, options: options), slot: slot)
        case .replies(let notices): noted(notices)
        case .synAcks(let notices):
            noted(notices)
        case .startTakeOver(let start):
            attempt { try releaseTap() }
            runner.start(start, tracker: tracker, profile: profile(of: start.slot), now: MonotonicClock.now())
            settle(MonotonicClock.now())
        case .abortTakeOver(let slot):
            runner.abort(slot)
            tracker.drop(slot: slot)
        case .readopt(let service): readopt(service, MonotonicClock.now())
        case .sources(let sources): resynchronisation.set(sources, MonotonicClock.now())
        case .peerConnected(let owner, let isOpen): resynchronisation.connected(owner, isOpen, MonotonicClock.now())
        case .peerAnswer(let message, let owner):
            resynchronisation.received(message, from: owner, &tracker, MonotonicClock.now(), report)
        case .peerRequest(let request, let answer):
            if let message = tracker.answer(request, now: MonotonicClock.now()) { answer(message.encodeBody()) }
        case .status(let answer): answer(status())
        case .barrier(let reached): reached()
        case .stop: running = false
        }
    }

    /// What an adoption has to look like: the dead owner's SYN-ACKs if it told, else our own (configured alike).
    private func profile(of slot: SlotID) -> (Endpoint) -> AdoptionProfile {
        var known: [Endpoint: AdoptionProfile] = [:]
        for service in services {
            known[service.endpoint] = AdoptionProfile(
                replay: service.replay,
                server: tracker.handshake(of: service.endpoint, slot: slot) ?? profiles[service.endpoint],
                http: service.http
            )
        }
        return { [known] in known[$0] ?? AdoptionProfile(replay: .none, server: nil) }
    }

    /// Our own connections are tracked as well, for those who come to back them up.
    private func tell(_ notices: [ReplyNotice]) {
        noted(notices)
        report(.replies(notices))
    }

    private func noted(_ notices: [ReplyNotice]) {
        for notice in notices {
            guard let service = services.first(where: { $0.id == notice.service }) else { continue }
            let flow = FlowKey(client: notice.client, service: service.endpoint)
            tracker.reported(flow, sequence: notice.sequence, notice.facts)
        }
    }

    /// Our own connections are tracked as well. What the client has closed by now is over as a rule; where it is not, the
    /// list of connections tells.
    private func tell(_ notices: [SynAckNotice]) {
        noted(notices)
        let open = notices.filter { notice in
            guard let service = services.first(where: { $0.id == notice.service }),
                let handle = tracker.handle(of: FlowKey(client: notice.client, service: service.endpoint)),
                let connection = tracker[handle]
            else { return true }
            return connection.certainISS != notice.iss || connection.finOffset == nil
        }
        if !open.isEmpty { report(.synAcks(open)) }
    }

    private func noted(_ notices: [SynAckNotice]) {
        // Their SYNs may lie in our tap.
        attempt { try tap.dispatch(max: 512) { bytes, length, at in received(bytes, length, at) } }
        for notice in notices {
            guard let service = services.first(where: { $0.id == notice.service }) else { continue }
            let flow = FlowKey(client: notice.client, service: service.endpoint)
            tracker.announced(flow, iss: notice.iss, acknowledged: notice.acknowledged)
        }
    }

    private func changeMembership(_ new: Cluster.GroupMembership) {
        // What was ours is no more: nobody here may go on with its connections.
        for slot in membership.own where !new.own.contains(slot) { runner.abort(slot) }
        for slot in membership.tapped + membership.own where !new.tapped.contains(slot) && !new.own.contains(slot) {
            if !runner.isActive(slot) { tracker.drop(slot: slot) }
        }
        membership = new
    }

    private func changeServices(_ new: [ServiceDescription]) {
        let former = services
        services = new
        let http = new.filter { $0.replay == .http }
        tracker.setHTTP(http.map(\.endpoint))
        do {
            if http != former.filter({ $0.replay == .http }) { try watchReplies() }
            let addresses = Set(new.map(\.endpoint.address)).sorted()
            if synAcks?.addresses != addresses {
                // As with `watchReplies`: the next one listens before the one in use goes.
                let next = try SynAckWatch(interface: interface, addresses: addresses)
                readSynAcks()
                if let rest = synAcks?.due(.never), !rest.isEmpty { tell(rest) }
                synAcks = next
            }
        } catch {
            report(.failed("\(error)"))
        }
    }

    /// The next watch listens before the one in use goes: a reply that is missed cannot be taken over.
    private func watchReplies() throws {
        let next = try ReplyWatch(interface: interface, services: services)
        if var old = replies {
            tell(try old.read() + old.due(.never))
            try poller.remove(old.descriptor)
        }
        replies = next
        if let next { try poller.add(next.descriptor, token: Token.replies.rawValue) }
    }

    private func status() -> DataStatus {
        let capture = try? tap.statistics()
        return DataStatus(
            connections: tracker.count,
            journalBytes: tracker.journalBytesInUse,
            tracker: tracker.counters,
            tapReceived: UInt64(capture?.received ?? 0),
            tapDropped: UInt64(capture?.droppedByKernel ?? 0),
            resets: runner.resets,
            adoptedTotal: runner.adoptedTotal,
            sendFailures: runner.failures
        )
    }
}

/// Commands on their way to the data thread. Any thread may post.
final class Mailbox: Sendable {
    let signal: EventFD
    private let commands = Mutex<[DataCommand]>([])

    init() throws(LinuxError) {
        signal = try EventFD()
    }

    func post(_ command: DataCommand) {
        commands.withLock { $0.append(command) }
        signal.signal()
    }

    func take() -> [DataCommand] {
        signal.drain()
        return commands.withLock { commands in
            defer { commands.removeAll(keepingCapacity: true) }
            return commands
        }
    }
}
