import Model
import ModuleInterfaces
import Testing

@testable import BuiltinModules

@Suite("Phi detector")
struct PhiDetectorTests {
    private static let start = Instant(nanoseconds: 1_000_000_000)

    private func detector(window: Int64 = 50, threshold: Double = 8) -> PhiDetector {
        PhiDetector(
            DetectorParameters(
                interval: .milliseconds(10), window: .milliseconds(window), start: Self.start, threshold: threshold))
    }

    /// The exact values of the normal distribution, and how far the approximation may be from them.
    @Test("Deviations of a threshold", arguments: [
        (1.0, 1.2816, 0.005), (2.0, 2.3263, 0.02), (3.0, 3.0902, 0.06), (5.0, 4.2649, 0.2), (8.0, 5.6120, 0.42),
        (12.0, 7.0345, 0.85),
    ])
    func deviations(threshold: Double, exact: Double, tolerance: Double) {
        #expect(abs(PhiDetector.deviations(threshold: threshold) - exact) < tolerance)
    }

    @Test("Thresholds that make no sense are bounded, and rise with the silence")
    func monotone() {
        var last = 0.0
        for threshold in [-1, 0, 0.5, 1, 4, 8, 16, 300, 1e9] as [Double] {
            let value = PhiDetector.deviations(threshold: threshold)
            #expect(value >= last && value <= 40)
            last = value
        }
    }

    /// Intervals in milliseconds, repeated; the silence in milliseconds that is a death.
    @Test("Silence by pace", arguments: [
        // Even heartbeats: 10 + 5.2 * 2.5 ms is below the window, which rules.
        ([10], 50, 50.0...50.0),
        // Uneven ones: mean 25, deviation 15.
        ([10, 40], 50, 95.0...115.0),
        // The same, where the window is the longer.
        ([10, 40], 200, 200.0...200.0),
        // An outage of a second counts as two windows, or nothing would be found any more.
        ([10, 10, 10, 1000], 50, 200.0...320.0),
        // Never more than ten windows.
        ([10, 10, 10, 10, 10, 1000], 6, 6.0...60.0),
    ] as [([Int64], Int64, ClosedRange<Double>)])
    func pace(intervals: [Int64], window: Int64, silence: ClosedRange<Double>) {
        var detector = detector(window: window)
        var now = Self.start
        for round in 0..<400 {
            now = now + .milliseconds(intervals[round % intervals.count])
            detector.heartbeat(at: now)
        }
        #expect(silence.contains((detector.deadline - now).milliseconds), "\((detector.deadline - now).milliseconds)")
        #expect(!detector.suspects(at: detector.deadline - Interval(nanoseconds: 1)))
        #expect(detector.suspects(at: detector.deadline))
    }

    /// What the lease's speed rests on: whatever the heartbeats were, phi never speaks before `window` does.
    @Test("Never earlier than the window, never later than ten")
    func floor() {
        var state: UInt64 = 7
        for threshold in [0.5, 1, 8, 40] as [Double] {
            for window: Int64 in [20, 50, 1000] {
                var phi = detector(window: window, threshold: threshold)
                let parameters = DetectorParameters(
                    interval: .milliseconds(10), window: .milliseconds(window), start: Self.start)
                var plain = WindowDetector(parameters)
                var now = Self.start
                for _ in 0..<500 {
                    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    now = now + Interval(nanoseconds: Int64(state >> 38))
                    phi.heartbeat(at: now)
                    plain.heartbeat(at: now)
                    #expect(phi.deadline >= plain.deadline)
                    #expect(phi.deadline <= now + .milliseconds(window * 10))
                }
            }
        }
    }

    @Test("Heartbeats out of order change nothing")
    func order() {
        var detector = detector()
        detector.heartbeat(at: Self.start + .milliseconds(10))
        let deadline = detector.deadline
        detector.heartbeat(at: Self.start + .milliseconds(4))
        detector.heartbeat(at: Self.start + .milliseconds(10))
        #expect(detector.deadline == deadline)
    }
}
