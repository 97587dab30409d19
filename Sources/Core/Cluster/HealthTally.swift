import Model

/// When the outcomes of a check make a change.
public struct HealthRules: Hashable, Sendable {
    /// Checks that must pass in a row before it is up; 1 or more.
    public var rise: Int
    /// Checks that must fail in a row before it is down; 1 or more.
    public var fall: Int
    public var dampening: Dampening?

    /// What changes too often is held down for longer than its checks ask.
    public struct Dampening: Hashable, Sendable {
        /// So many changes within the time are too many; 2 to 64.
        public var changes: Int
        public var within: Interval
        /// How long it is held down; doubled each time that this does not help, up to eight times.
        public var hold: Interval

        public init(changes: Int, within: Interval, hold: Interval) {
            self.changes = changes
            self.within = within
            self.hold = hold
        }
    }

    public init(rise: Int = 2, fall: Int = 3, dampening: Dampening? = nil) {
        self.rise = rise
        self.fall = fall
        self.dampening = dampening
    }
}

/// Counts the outcomes of one check: up or down, by rise and fall, and held down where it changes too often.
///
/// Pure; the agent's checks and the director's are counted alike.
public struct HealthTally: Hashable, Sendable {
    public let rules: HealthRules
    public private(set) var isUp: Bool
    /// While it is held down: until when.
    public private(set) var heldUntil: Instant?
    /// Since the beginning.
    public private(set) var changeCount: UInt64 = 0
    public private(set) var changedAt: Instant?
    private var passes = 0
    private var failures = 0
    /// The last changes, as many as dampening looks at.
    private var changes: [Instant] = []
    /// How often in a row it was held.
    private var holds = 0

    private static let longestHold = 3

    /// - Parameter isUp: what it counts as before the first outcome. Up: the first outcome that is bad suffices to make it
    ///   down, for nothing was known of it.
    public init(_ rules: HealthRules, isUp: Bool) {
        self.rules = rules
        self.isUp = isUp
        if isUp { failures = max(rules.fall - 1, 0) }
    }

    /// Counts an outcome. Returns whether that has changed `isUp`.
    public mutating func count(_ passed: Bool, now: Instant) -> Bool {
        if passed {
            failures = 0
            passes = min(passes + 1, rules.rise)
            guard !isUp, passes >= rules.rise else { return false }
            if let heldUntil, now < heldUntil { return false }
            heldUntil = nil
            isUp = true
            note(now)
            return true
        }
        passes = 0
        failures = min(failures + 1, rules.fall)
        guard isUp, failures >= rules.fall else { return false }
        isUp = false
        note(now)
        hold(now)
        return true
    }

    /// It is known from elsewhere to be down; a change as any other.
    public mutating func becomeDown(now: Instant) {
        passes = 0
        guard isUp else { return }
        isUp = false
        note(now)
        hold(now)
    }

    private mutating func note(_ now: Instant) {
        changeCount &+= 1
        changedAt = now
        guard let dampening = rules.dampening else { return }
        // Up for so long without a change: it has calmed down.
        if !isUp, let last = changes.last, now - last >= dampening.within { holds = 0 }
        changes.append(now)
        if changes.count > dampening.changes { changes.removeFirst(changes.count - dampening.changes) }
    }

    private mutating func hold(_ now: Instant) {
        guard let dampening = rules.dampening, changes.count >= dampening.changes, let first = changes.first,
            now - first < dampening.within
        else { return }
        heldUntil = now + dampening.hold * Int64(1 << min(holds, Self.longestHold))
        holds += 1
    }
}
