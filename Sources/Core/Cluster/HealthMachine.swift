import Model

/// When a check runs, and how its outcomes count.
public struct HealthSchedule: Hashable, Sendable {
    /// Nil: whoever runs the check counts its outcomes.
    public var rules: HealthRules?
    /// Between the starts of two checks.
    public var interval: Interval
    /// How far a start may be off, in percent of the interval: many checks shall not run at the same moment. 0 to 50.
    public var jitter: Int
    /// A check that has not ended by then has failed.
    public var timeout: Interval

    public init(rules: HealthRules?, interval: Interval, jitter: Int, timeout: Interval) {
        self.rules = rules
        self.interval = interval
        self.jitter = jitter
        self.timeout = timeout
    }
}

public enum HealthInput: Hashable, Sendable {
    case start
    /// The outcome of an attempt; that of an earlier one is ignored.
    case ended(attempt: UInt64, passed: Bool)
    case timer
}

public enum HealthEffect: Hashable, Sendable {
    /// Begin an attempt; its outcome comes as `ended`.
    case begin(attempt: UInt64)
    /// It took too long, and has failed: its outcome is not wanted any more.
    case cancel(attempt: UInt64)
    /// Up or down from now on.
    case changed(isUp: Bool)
    /// It changes too often: down until then at least.
    case held(until: Instant)
    /// When to call `timer`; replaces the former instant.
    case timer(Instant)
}

/// One check of one thing: when it runs, and what its outcomes make of it.
///
/// Pure: time and chance come in. Attempts do not overlap.
public struct HealthMachine: Hashable, Sendable {
    public let schedule: HealthSchedule
    public private(set) var tally: HealthTally?
    private var attempt: UInt64 = 0
    /// While an attempt runs: when it has failed.
    private var deadline: Instant?
    private var next = Instant.never

    /// - Parameter isUp: what it counts as before the first outcome.
    public init(_ schedule: HealthSchedule, isUp: Bool = true) {
        self.schedule = schedule
        tally = schedule.rules.map { HealthTally($0, isUp: isUp) }
    }

    /// By its rules; without any it never is down.
    public var isUp: Bool { tally?.isUp ?? true }

    /// - Parameter random: any number; another at each call.
    public mutating func handle(
        _ input: HealthInput,
        now: Instant,
        random: UInt64,
        into effects: inout [HealthEffect]
    ) {
        switch input {
        case .start: next = now + Interval(nanoseconds: Int64(random % UInt64(spread + 1)))
        case .ended(let ended, let passed):
            guard deadline != nil, ended == attempt else { return }
            deadline = nil
            count(passed, now: now, into: &effects)
        case .timer: break
        }
        if let deadline, now >= deadline {
            self.deadline = nil
            effects.append(.cancel(attempt: attempt))
            count(false, now: now, into: &effects)
        }
        if deadline == nil, now >= next {
            attempt &+= 1
            deadline = now + schedule.timeout
            let offset = Int64(random % UInt64(2 * spread + 1)) - spread
            next = now + schedule.interval + Interval(nanoseconds: offset)
            effects.append(.begin(attempt: attempt))
        }
        effects.append(.timer(deadline ?? next))
    }

    /// Half the width of the jitter, in nanoseconds.
    private var spread: Int64 { schedule.interval.nanoseconds / 100 * Int64(schedule.jitter) }

    private mutating func count(_ passed: Bool, now: Instant, into effects: inout [HealthEffect]) {
        guard tally?.count(passed, now: now) ?? false else { return }
        effects.append(.changed(isUp: isUp))
        if !isUp, let until = tally?.heldUntil { effects.append(.held(until: until)) }
    }
}
