import Model
import Testing

@testable import DirectorKit

/// net/netfilter/ipvs/ip_vs_est.c, with its numbers: the average of connections has ten binary places, a sample every two
/// seconds counts half of what came in them, and moves the average by a quarter of the difference.
private struct KernelEstimator {
    var last: UInt64 = 0
    var average: UInt64 = 0

    mutating func sample(_ counter: UInt64) {
        let rate = (counter - last) << 9
        last = counter
        average = UInt64(bitPattern: Int64(bitPattern: average) + ((Int64(rate) - Int64(average)) >> 2))
    }

    var shown: UInt64 { (average + 0x1ff) >> 10 }
}

@Suite("Rates as IPVS reckons them")
struct RateTests {
    @Test("the same numbers as the kernel's, at every sample", arguments: [
        [UInt64](repeating: 200, count: 20),
        [1000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 0, 1, 0, 1, 0, 1, 0],
        [7, 123_456, 3, 0, 99_999_999, 12, 1_000_000],
    ])
    func kernel(increments: [UInt64]) {
        var ours = RateEstimator()
        var kernels = KernelEstimator()
        var counter: UInt64 = 0
        ours.sample(0, after: .seconds(2))
        for increment in increments {
            counter += increment
            ours.sample(counter, after: .seconds(2))
            kernels.sample(counter)
            #expect(ours.perSecond == kernels.shown)
        }
    }

    @Test("a steady rate is reached; what was before the first look is none")
    func steady() {
        var rate = RateEstimator()
        var counter: UInt64 = 1 << 40
        for _ in 0..<40 {
            rate.sample(counter, after: .seconds(2))
            counter += 5000
        }
        #expect(rate.perSecond == 2500)
    }

    @Test("a look that comes late counts for its time")
    func late() {
        var (timely, late) = (RateEstimator(), RateEstimator())
        for step in 0..<20 {
            timely.sample(UInt64(step) * 2000, after: .seconds(2))
            late.sample(UInt64(step) * 3000, after: .seconds(3))
        }
        #expect(timely.perSecond == late.perSecond)
    }

    @Test("a counter that was set to zero, and one that leaps, trap nothing")
    func leaps() {
        var rate = RateEstimator()
        for counter in [UInt64.max, 0, 10, .max, 5, 0] { rate.sample(counter, after: .milliseconds(1)) }
        rate.sample(1, after: .zero)
        rate.sample(.max, after: Interval(nanoseconds: 1))
        #expect(rate.perSecond > 0)
    }

    @Test("service counters: frames to owner and group are one")
    func service() {
        var rates = ServiceRates()
        for step in 0..<60 {
            let count = UInt64(step)
            rates.sample([count * 20, count * 10, count * 4, count * 3000], after: .seconds(2))
        }
        #expect(rates.connections.perSecond == 2)
        #expect(rates.packets.perSecond == 15)
        #expect(rates.bytes.perSecond == 1500)
        rates.sample([], after: .seconds(2))
    }
}
