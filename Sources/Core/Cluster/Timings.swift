import Model
import Wire

/// The times that director and agents live by; the director's configuration has them, a welcome carries them.
public struct ClusterTimings: Hashable, Sendable {
    public var heartbeatInterval: Interval
    /// Silence after which the director suspects a back-end ([Z] II-C).
    public var window: Interval
    /// How long an echo lets an agent's kernel send from the VIPs, counted from the sending of the heartbeat.
    ///
    /// Any length is safe. A bit less than the window is best: the lease of a dead back-end has then run out when the
    /// director detects the death, and its backup need not wait.
    public var lease: Interval
    /// What a director that has just started gives the back-ends of its records to come back.
    public var grace: Interval
    /// How long a back-end stays a backup of a slot after the ring has given the slot another backup: it alone knows
    /// the connections that are older than the change.
    public var retention: Interval
    /// How long a slot without flows, or one that is retired, is kept before its number may be used again.
    public var slotRest: Interval

    public init(
        heartbeatInterval: Interval = .milliseconds(10),
        window: Interval = .milliseconds(50),
        lease: Interval? = nil,
        grace: Interval = .seconds(3),
        retention: Interval = .seconds(300),
        slotRest: Interval = .seconds(600)
    ) {
        self.heartbeatInterval = heartbeatInterval
        self.window = window
        self.lease = lease ?? min(window * 9 / 10, ControlProtocol.longestLease)
        self.grace = grace
        self.retention = retention
        self.slotRest = slotRest
    }

    /// What is wrong with the times; nil when they can be used.
    public var fault: String? {
        if heartbeatInterval < .milliseconds(1) || heartbeatInterval > .seconds(1) {
            return "heartbeat interval: expected 1 ms to 1 s"
        }
        if window < heartbeatInterval * 2 { return "window: expected at least two heartbeat intervals" }
        if lease < heartbeatInterval * 2 { return "lease: expected at least two heartbeat intervals" }
        if lease > ControlProtocol.longestLease { return "lease: expected at most 2 s" }
        if grace < ControlProtocol.longestLease { return "grace: expected at least 2 s, the longest lease" }
        return nil
    }
}

/// What has to be added to a promise because the clocks of two machines do not run equally fast.
///
/// One part in 64: quartz is a hundred times better, and a clock that is slewed by a time daemon (500 parts per million
/// at most) still is thirty times better.
enum Drift {
    static func margin(on interval: Interval) -> Interval { interval / 64 + .microseconds(1) }

    static func covering(_ interval: Interval) -> Interval { interval + margin(on: interval) }
}

/// SplitMix64: the machines' own random numbers, from a seed that their maker draws.
public struct ClusterRandom: Sendable {
    private var state: UInt64

    public init(seed: UInt64) { state = seed }

    /// Wraps on purpose.
    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }
}
