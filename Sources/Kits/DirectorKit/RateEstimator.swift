import Model

/// A rate over the last eight seconds, as IPVS reckons it (net/netfilter/ipvs/ip_vs_est.c).
///
/// Every two seconds: `average = average * (1 - W) + rate * W` with W = 1/4. In fixed point, as there.
struct RateEstimator {
    /// Between two samples.
    static let period = Interval.seconds(2)

    /// Binary places of the average: `cps` and `pps` of IPVS have ten of them.
    private static let scale: UInt64 = 10

    private var last: UInt64?
    private var average: UInt64 = 0

    init() {}

    /// Takes the counter's value, so long after the last one.
    ///
    /// - Parameter counter: one that has become less was set to zero meanwhile.
    mutating func sample(_ counter: UInt64, after elapsed: Interval) {
        defer { last = counter }
        guard let last, elapsed.nanoseconds > 0 else { return }
        let difference = counter >= last ? counter - last : counter
        let rate = Self.perSecond(difference, elapsed)
        // An arithmetic shift, as in the kernel: the average comes down as it went up.
        let step = (Int64(clamping: rate) - Int64(clamping: average)) >> 2
        average = UInt64(clamping: Int64(clamping: average) &+ step)
    }

    /// The average per second, rounded as there.
    var perSecond: UInt64 { (average + (1 << (Self.scale - 1)) - 1) >> Self.scale }

    private static func perSecond(_ count: UInt64, _ elapsed: Interval) -> UInt64 {
        let product = count.multipliedFullWidth(by: 1_000_000_000 << scale)
        let divisor = UInt64(elapsed.nanoseconds)
        guard product.high < divisor else { return .max }
        return divisor.dividingFullWidth(product).quotient
    }
}

/// The counters of one service that rates are made of, and the rates.
struct ServiceRates {
    var connections = RateEstimator()
    var packets = RateEstimator()
    var bytes = RateEstimator()

    /// - Parameter sums: those of `struct baton_service_counters`.
    mutating func sample(_ sums: [UInt64], after elapsed: Interval) {
        guard sums.count >= 4 else { return }
        connections.sample(sums[2], after: elapsed)
        packets.sample(sums[0] &+ sums[1], after: elapsed)
        bytes.sample(sums[3], after: elapsed)
    }
}
