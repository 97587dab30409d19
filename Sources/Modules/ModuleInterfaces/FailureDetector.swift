import Model

/// Decides from the times of heartbeats whether their sender has failed ([Z] II-C); one value for each sender.
public protocol FailureDetector: Sendable {
    /// A heartbeat was received, or the sender is given the benefit of one.
    mutating func heartbeat(at now: Instant)
    /// Whether the sender must be held for failed.
    func suspects(at now: Instant) -> Bool
    /// When to ask next: the earliest instant at which the answer may change without a further heartbeat.
    var deadline: Instant { get }
}

/// What a factory of detectors gets.
public struct DetectorParameters: Hashable, Sendable {
    /// The senders' interval.
    public var interval: Interval
    /// The silence that an operator wants to be detected.
    public var window: Interval
    /// The instant of the detector's making: silence is counted from here.
    public var start: Instant
    /// How improbable a silence must be, for detectors that weigh it: 10^-threshold.
    public var threshold: Double

    public init(interval: Interval, window: Interval, start: Instant, threshold: Double = 8) {
        self.interval = interval
        self.window = window
        self.start = start
        self.threshold = threshold
    }
}
