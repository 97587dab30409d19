import Model
import Testing

@testable import LabKit

@Suite struct GapTests {
    private func meter(_ milliseconds: [UInt64]) -> GapMeter {
        var meter = GapMeter()
        for instant in milliseconds { meter.arrival(at: instant * 1_000_000) }
        return meter
    }

    @Test func longest() {
        let meter = meter([100, 101, 131, 133, 140])
        #expect(meter.longest == Gap(startNs: 101_000_000, lengthNs: 30_000_000))
        #expect(meter.gaps.map(\.milliseconds) == [30, 7])
        #expect(meter.first == 100_000_000)
    }

    @Test func silenceBeforeTheFirstByteIsNoGap() {
        #expect(meter([5000]).longest == nil)
    }

    @Test func brokenOff() {
        var meter = meter([1, 2])
        meter.brokenOff(at: 900_000_000)
        #expect(meter.longest?.milliseconds == 898)
    }

    @Test(arguments: [(0, 40.0), (129, 40.0), (141, 12.0), (500, 0.0)])
    func stallAfterAnInstant(milliseconds: UInt64, stall: Double) {
        let meter = meter([100, 140, 141, 153])
        let result = DownloadResult(
            exitCode: 0, httpStatus: 200, bytes: 1, sha256: "", localPort: 1, startNs: 0, firstByteNs: nil, endNs: 0,
            longestGap: meter.longest, gaps: meter.gaps, longestArrivalGap: nil, arrivalGaps: [], error: "")
        #expect(result.stall(after: Instant(nanoseconds: milliseconds * 1_000_000)) == stall)
    }
}
