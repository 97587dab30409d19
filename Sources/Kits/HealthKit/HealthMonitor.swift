import Cluster
import LinuxBase
import Logging
import Model
import NIOCore
import Synchronization

/// Runs checks, and tells when a back-end's service goes down or comes up by them.
///
/// On a loop of its own: a check may be slow, and whoever detects failures must not wait for it. `@unchecked`: all but
/// `states` belongs to that loop.
public final class HealthMonitor: @unchecked Sendable {
    public struct Item: Sendable {
        public var target: CheckTarget
        /// The name of the kind.
        public var kind: String
        public var schedule: HealthSchedule
        public var check: any HealthCheck

        public init(target: CheckTarget, kind: String, schedule: HealthSchedule, check: any HealthCheck) {
            self.target = target
            self.kind = kind
            self.schedule = schedule
            self.check = check
        }
    }

    /// What a check has come to, for people.
    public struct State: Sendable {
        public var target: CheckTarget
        public var kind: String
        public var isUp: Bool
        /// Why the last attempt failed; nil when it passed, or there was none yet.
        public var failure: String?
        public var passed: UInt64 = 0
        public var failed: UInt64 = 0
        public var changes: UInt64 = 0
        public var since: Instant
        public var heldUntil: Instant?
        /// How long the last attempt that passed took.
        public var duration: Interval?
    }

    /// A back-end's service, by names: all checks of it must be up.
    public struct Subject: Hashable, Sendable {
        public var service: String
        public var backend: String
    }

    private struct Running {
        var item: Item
        var machine: HealthMachine
        var run: CheckRun?
        var begun = Instant(nanoseconds: 0)
        var timer: Scheduled<Void>?
        var state: State
    }

    private let loop: any EventLoop
    private let logger: Logger
    private let changed: @Sendable (Subject, _ isUp: Bool) -> Void
    private let ended: (@Sendable (CheckTarget, _ passed: Bool) -> Void)?
    private let connected: (@Sendable (CheckTarget, any Channel) -> Void)?
    private var running: [Running] = []
    private var round: UInt64 = 0
    private var verdicts: [Subject: Bool] = [:]
    private let published = Mutex<[State]>([])

    /// All closures are called on the loop.
    ///
    /// - Parameters:
    ///   - changed: called when the checks of a subject, taken together, change; before the first outcome a subject is up.
    ///   - ended: called with each outcome, for those that count themselves (`HealthSchedule.rules`).
    ///   - connected: called with each connection that a check has opened, before its outcome.
    public init(
        loop: any EventLoop,
        logger: Logger,
        changed: @escaping @Sendable (Subject, _ isUp: Bool) -> Void,
        ended: (@Sendable (CheckTarget, _ passed: Bool) -> Void)? = nil,
        connected: (@Sendable (CheckTarget, any Channel) -> Void)? = nil
    ) {
        self.loop = loop
        self.logger = logger
        self.changed = changed
        self.ended = ended
        self.connected = connected
    }

    /// As of the last outcome; on any thread.
    public var states: [State] { published.withLock { $0 } }

    /// Runs exactly these checks from now on; from any thread. A subject that was down and has no check any more is up.
    public func set(_ items: [Item]) {
        loop.execute { [self] in replace(items) }
    }

    public func stop() { set([]) }

    private func replace(_ items: [Item]) {
        round += 1
        for index in running.indices {
            running[index].timer?.cancel()
            running[index].run?.cancel()
        }
        let now = MonotonicClock.now()
        running = items.map { item in
            let machine = HealthMachine(item.schedule)
            let state = State(target: item.target, kind: item.kind, isUp: true, since: now)
            return Running(item: item, machine: machine, state: state)
        }
        let all = running.map(\.state)
        published.withLock { $0 = all }
        for index in running.indices { handle(.start, index) }
        for subject in verdicts.keys.sorted(by: { ($0.service, $0.backend) < ($1.service, $1.backend) }) { judge(subject) }
    }

    private func handle(_ input: HealthInput, _ index: Int) {
        var effects: [HealthEffect] = []
        var generator = SystemRandomNumberGenerator()
        running[index].machine.handle(
            input, now: MonotonicClock.now(), random: generator.next(), into: &effects)
        for effect in effects { perform(effect, index) }
    }

    private func perform(_ effect: HealthEffect, _ index: Int) {
        let round = round
        switch effect {
        case .begin(let attempt): begin(attempt, index)
        case .cancel:
            running[index].run?.cancel()
            running[index].run = nil
            note(index, "\(CheckFailure.noAnswer)")
        case .changed(let isUp):
            running[index].state.isUp = isUp
            running[index].state.since = MonotonicClock.now()
            running[index].state.heldUntil = nil
            judge(subject(of: index))
        case .held(let until):
            running[index].state.heldUntil = until
            let item = running[index].item
            let seconds = (until - MonotonicClock.now()).nanoseconds / 1_000_000_000
            logger.warning(
                "\(item.target.service) at \(item.target.backend): its \(item.kind) check changes too often; held down for \(seconds) s"
            )
        case .timer(let instant):
            running[index].timer?.cancel()
            running[index].timer = loop.scheduleTask(deadline: .uptimeNanoseconds(instant.nanoseconds)) { [self] in
                guard round == self.round else { return }
                handle(.timer, index)
            }
        }
        publish(index)
    }

    private func begin(_ attempt: UInt64, _ index: Int) {
        let (round, item) = (round, running[index].item)
        let timeout = TimeAmount.nanoseconds(item.schedule.timeout.nanoseconds)
        running[index].begun = MonotonicClock.now()
        let run = CheckRun(loop: loop, target: item.target, timeout: timeout) { [self] failure in
            guard round == self.round else { return }
            running[index].run = nil
            note(index, failure)
            handle(.ended(attempt: attempt, passed: failure == nil), index)
        }
        if let connected { run.connected = { connected(item.target, $0) } }
        running[index].run = run
        // Not from within the machine's own effects: it may end at once.
        loop.execute { item.check.begin(run) }
    }

    /// Why a check fails is said when that changes.
    private func note(_ index: Int, _ failure: String?) {
        let target = running[index].item.target
        if let failure {
            running[index].state.failed += 1
            if failure != running[index].state.failure {
                logger.notice(
                    "the \(running[index].item.kind) check of \(target.service) at \(target.backend) (\(target.endpoint)) fails: \(failure)"
                )
            }
        } else {
            running[index].state.passed += 1
            running[index].state.duration = MonotonicClock.now() - running[index].begun
        }
        running[index].state.failure = failure
        ended?(target, failure == nil)
    }

    private func subject(of index: Int) -> Subject {
        Subject(service: running[index].item.target.service, backend: running[index].item.target.backend)
    }

    private func judge(_ subject: Subject) {
        let isUp = running.indices.allSatisfy { self.subject(of: $0) != subject || running[$0].machine.isUp }
        guard verdicts[subject, default: true] != isUp else { return }
        verdicts[subject] = isUp ? nil : false
        if isUp {
            logger.notice("\(subject.service) at \(subject.backend): its checks pass; it gets new flows")
        } else {
            logger.warning("\(subject.service) at \(subject.backend): its checks fail; it gets no new flows")
        }
        changed(subject, isUp)
    }

    private func publish(_ index: Int) {
        running[index].state.changes = running[index].machine.tally?.changeCount ?? 0
        let state = running[index].state
        published.withLock { if index < $0.count { $0[index] = state } }
    }
}
