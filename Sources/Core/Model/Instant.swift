/// A point of the monotonic clock (CLOCK_MONOTONIC, the clock of `bpf_ktime_get_ns`), in nanoseconds.
///
/// The pure machines get every instant as an input; only the edges read the clock.
public struct Instant: Hashable, Comparable, Sendable {
    public var nanoseconds: UInt64

    @inlinable
    public init(nanoseconds: UInt64) {
        self.nanoseconds = nanoseconds
    }

    @inlinable
    public static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }

    /// This instant moved by an interval; stops at 0 and at the end of time rather than wrapping.
    @inlinable
    public static func + (instant: Instant, interval: Interval) -> Instant {
        if interval.nanoseconds >= 0 {
            let (sum, overflow) = instant.nanoseconds.addingReportingOverflow(UInt64(interval.nanoseconds))
            return Instant(nanoseconds: overflow ? .max : sum)
        }
        let back = interval.nanoseconds.magnitude
        return Instant(nanoseconds: instant.nanoseconds > back ? instant.nanoseconds - back : 0)
    }

    @inlinable
    public static func - (instant: Instant, interval: Interval) -> Instant {
        instant + Interval(nanoseconds: 0 - interval.nanoseconds)
    }

    @inlinable
    public static func - (left: Instant, right: Instant) -> Interval {
        Interval(nanoseconds: Int64(bitPattern: left.nanoseconds &- right.nanoseconds))
    }

    public static let never = Instant(nanoseconds: .max)
}

/// A length of time in nanoseconds.
public struct Interval: Hashable, Comparable, Sendable {
    public var nanoseconds: Int64

    @inlinable
    public init(nanoseconds: Int64) {
        self.nanoseconds = nanoseconds
    }

    @inlinable
    public static func microseconds(_ count: Int64) -> Interval { Interval(nanoseconds: count * 1_000) }
    @inlinable
    public static func milliseconds(_ count: Int64) -> Interval { Interval(nanoseconds: count * 1_000_000) }
    @inlinable
    public static func seconds(_ count: Int64) -> Interval { Interval(nanoseconds: count * 1_000_000_000) }
    public static let zero = Interval(nanoseconds: 0)

    @inlinable
    public static func < (left: Interval, right: Interval) -> Bool { left.nanoseconds < right.nanoseconds }
    @inlinable
    public static func + (left: Interval, right: Interval) -> Interval {
        Interval(nanoseconds: left.nanoseconds + right.nanoseconds)
    }
    @inlinable
    public static func - (left: Interval, right: Interval) -> Interval {
        Interval(nanoseconds: left.nanoseconds - right.nanoseconds)
    }
    @inlinable
    public static func * (left: Interval, right: Int64) -> Interval {
        Interval(nanoseconds: left.nanoseconds * right)
    }
    @inlinable
    public static func / (left: Interval, right: Int64) -> Interval {
        Interval(nanoseconds: left.nanoseconds / right)
    }

    /// Milliseconds as a fraction, for people and figures; never for decisions.
    @inlinable
    public var milliseconds: Double { Double(nanoseconds) / 1e6 }
}
