import Cluster
import LinuxBPF
import LinuxBase
import LinuxCapture
import LinuxNetwork
import Model
import Takeover
import Tracking
import Wire

/// The thread of the packet path in user space: tap, tracker, take-overs, events of the eBPF programs.
///
/// Everything in it belongs to its thread, but for the mailbox. Nothing of it runs on the cooperative pool, and nothing
/// between an order and its adoptions waits for another thread.
final class DataThread {
    enum Token: UInt64 {
        case mailbox = 1
        case tap = 2
        case events = 3
        case replies = 4
        case tun = 5
        case answers = 6
    }

    let poller: Poller
    let mailbox: Mailbox
    let tap: GroupTap
    var synAcks: SynAckWatch?
    /// Open while connections of this machine are adopted again.
    var answerTap: AnswerTap?
    let tun: TunDevice
    let trials: Trials
    var replies: ReplyWatch?
    let interface: String
    /// The interface's own: copies of the forwarding `duplicate` come to it.
    let address: MACAddress
    let plane: AgentDataPlane
    var events: BPFRingBuffer?
    var tracker: Tracker
    let runner: TakeoverRunner
    let destroyer: SocketDestroyer
    var resynchronisation = Resynchronisation()
    let report: @Sendable (DataReport) -> Void
    var membership = Cluster.GroupMembership()
    var services: [ServiceDescription] = []
    var profiles: [Endpoint: HandshakeOptions] = [:]
    var crashedUntil: [Endpoint: Instant] = [:]
    var nextSweep = Instant(nanoseconds: 0)
    var nextLesson = Instant(nanoseconds: 0)
    /// The tap is read again then, without being asked; nil: as soon as it has frames.
    var tapHeldUntil: Instant?
    var running = true

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

    func serve(_ token: Token) {
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
    func readTap() throws {
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

    func watchTap() throws {
        guard tapHeldUntil != nil else { return }
        tapHeldUntil = nil
        try poller.add(tap.descriptor, token: Token.tap.rawValue)
    }

    /// A take-over starts from all that has come, and then sees each frame at once.
    func releaseTap() throws {
        while try tap.dispatch(max: 512, body: { bytes, length, at in received(bytes, length, at) }) > 0 {}
        try watchTap()
    }

    /// Well below the 128 ms after which the tap's ring is full of blocks.
    static let tapHold = Interval.milliseconds(5)
    static let lessonInterval = Interval.milliseconds(100)

    func tick(_ now: Instant) {
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
    func settle(_ now: Instant) {
        for flow in runner.takeInstalled() { tracker.regenerates(flow) }
        for handle in runner.takeForgotten() { tracker.remove(handle) }
        for news in runner.takeReports() { report(.takeOver(news)) }
        for news in runner.takeReadoptions() { report(.readopted(news)) }
    }

    func attempt(_ body: () throws -> Void) {
        do {
            try body()
        } catch {
            report(.failed("\(error)"))
        }
    }
}
