import Model
import ModuleInterfaces

/// The accrual detector of Hayashibara, Defago, Yared and Katayama (SRDS 2004): suspects when a sender is silent for so
/// long that, by the intervals between its last heartbeats, a later one is less likely than 10^-threshold.
///
/// It can only be slower than `window`, never faster: the silence must last for the window as well. So what is proven of
/// the lease, which is shorter than the window, holds for it unchanged; it spares a sender whose heartbeats come
/// unevenly. The intervals are taken as normally distributed (paper, IV-B). Only the four operations and the square root
/// are used: the same on every machine.
public struct PhiDetector: FailureDetector {
    /// Intervals that the estimate is made of.
    static let samples = 128
    /// Silence that is always enough, in windows: heartbeats however uneven must not hide a death.
    static let longest: Int64 = 10

    private let window: Interval
    /// Standard deviations beyond the mean at which phi reaches the threshold.
    private let deviations: Double
    private let leastDeviation: Double
    private var last: Instant
    private var intervals: [Int64]
    private var next = 0
    private var silence: Interval

    public init(_ parameters: DetectorParameters) {
        window = parameters.window
        deviations = Self.deviations(threshold: parameters.threshold)
        // Where all intervals are equal the least lateness would be a death.
        leastDeviation = Double(parameters.interval.nanoseconds) / 4
        last = parameters.start
        intervals = [parameters.interval.nanoseconds]
        intervals.reserveCapacity(Self.samples)
        silence = parameters.window
        silence = estimate()
    }

    public mutating func heartbeat(at now: Instant) {
        guard now > last else { return }
        // An outage that was survived says nothing of the usual pace.
        let interval = min((now - last).nanoseconds, window.nanoseconds * 2)
        last = now
        if intervals.count < Self.samples {
            intervals.append(interval)
        } else {
            intervals[next] = interval
            next = (next + 1) % Self.samples
        }
        silence = estimate()
    }

    public func suspects(at now: Instant) -> Bool { now >= deadline }

    public var deadline: Instant { last + silence }

    /// The silence at which phi reaches the threshold, within its bounds.
    private func estimate() -> Interval {
        let count = Double(intervals.count)
        let mean = intervals.reduce(0.0) { $0 + Double($1) } / count
        let variance = intervals.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / count
        let deviation = max(variance.squareRoot(), leastDeviation)
        let limit = window * Self.longest
        let wanted = mean + deviations * deviation
        guard wanted < Double(limit.nanoseconds) else { return limit }
        return max(window, Interval(nanoseconds: Int64(wanted)))
    }

    // MARK: The normal distribution

    /// The y with P(X > mean + y * deviation) = 10^-threshold.
    ///
    /// By the logistic approximation 1 / (1 + e^(y (1.5976 + 0.070566 y^2))) of that probability (Bowling et al. 2009; Akka's
    /// detector uses it too): its absolute error is below 0.0002. Far out it gives a y that is some per cent small, 5.2
    /// for 5.6 at a threshold of 8.
    static func deviations(threshold: Double) -> Double {
        let threshold = min(max(threshold, 0.5), 300)
        // The exponent q: phi = log10(1 + e^q), so q = ln(10^threshold - 1).
        let exponent = threshold * ln10 + logOneMinus(exponential(-threshold * ln10))
        var (low, high) = (0.0, 40.0)
        for _ in 0..<80 {
            let middle = (low + high) / 2
            if middle * (1.5976 + 0.070566 * middle * middle) < exponent { low = middle } else { high = middle }
        }
        return (low + high) / 2
    }

    private static let ln10 = 2.302585092994046

    /// e^x for x at or below 0, by its series at x / 1024 and ten squarings.
    private static func exponential(_ x: Double) -> Double {
        let small = x / 1024
        var (term, sum) = (1.0, 1.0)
        for order in 1...12 {
            term *= small / Double(order)
            sum += term
        }
        for _ in 0..<10 { sum *= sum }
        return sum
    }

    /// ln(1 - x) for 0 <= x <= 0.32, by its series.
    private static func logOneMinus(_ x: Double) -> Double {
        var (power, sum) = (1.0, 0.0)
        for order in 1...40 {
            power *= x
            sum -= power / Double(order)
        }
        return sum
    }

    static let descriptor = ModuleDescriptor<DetectorFactory>(
        name: "phi",
        version: BuiltinModules.version,
        summary: "accrual: silence that is improbable by the last heartbeats, and at least the window",
        make: { PhiDetector($0) }
    )
}
