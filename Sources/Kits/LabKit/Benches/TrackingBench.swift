import Model

/// What tracking costs a backup: processor time of its agent under requests, above that without.
///
/// Two back-ends that back each other up, so that each agent tracks half of the requests. What the kernel does for the
/// group's frames in soft interrupts is in nobody's account and not in here.
public struct TrackingBench: Sendable, Codable {
    public var requestsPerSecondTracked: Double
    /// Of one core, at `requestsPerSecondTracked`.
    public var percentOfCore: Double
    /// The same, brought to 1,000 requests/s.
    public var percentAtThousand: Double
    public var idlePercent: Double
    public var failedRequests: Int
    /// Every five-second part, brought to 1,000 requests/s: the noise.
    public var parts: [Double]

    enum CodingKeys: String, CodingKey {
        case parts
        case requestsPerSecondTracked = "requests_per_second_tracked"
        case percentOfCore = "percent_of_core"
        case percentAtThousand = "percent_at_1000"
        case idlePercent = "idle_percent"
        case failedRequests = "failed_requests"
    }

    public var lines: [String] {
        [
            "tracking: \(rounded(percentAtThousand, 2)) % of a core at 1,000 requests/s"
                + " (median of \(parts.map { rounded($0, 2) }.joined(separator: ", ")))",
            "          \(rounded(percentOfCore, 2)) % at the \(rounded(requestsPerSecondTracked, 0)) requests/s tracked,"
                + " idle \(rounded(idlePercent, 2)) %, \(failedRequests) requests failed",
        ]
    }

    public static func run(_ context: ScenarioContext, rate: Int = 2000, parts count: Int = 5) throws -> TrackingBench {
        var options = LabOptions()
        options.backends = 2
        options.fileSize = 1_000_000
        return try context.withLab(options) { lab in
            _ = try lab.publish("/small.bin", size: 1024, seed: 3)
            guard let agent = try lab.node("web2").processes.first(where: { $0.role == "agent" })?.process else {
                throw LabError.failed("web2 has no agent")
            }
            let idle = share(of: agent, seconds: 5)
            var request = RequestLoad.Request()
            request.rate = rate
            let load = try RequestLoad(lab: lab, request)
            pause(milliseconds: 2000)
            var shares: [Double] = []
            let before = load.totals.answered
            let begun = Instant.now()
            for _ in 0..<count { shares.append(share(of: agent, seconds: 5)) }
            let seconds = Double((Instant.now() - begun).nanoseconds) / 1e9
            let totals = try load.stop()
            let tracked = Double(totals.answered - before) / seconds / 2
            try expect(tracked > Double(rate) / 4, "only \(rounded(tracked, 0)) requests/s were answered by a server")
            let scaled = shares.map { ($0 - idle) * 1000 / tracked }.sorted()
            let median = shares.sorted()[shares.count / 2]
            return TrackingBench(
                requestsPerSecondTracked: tracked, percentOfCore: median - idle,
                percentAtThousand: scaled[scaled.count / 2], idlePercent: idle, failedRequests: totals.failed,
                parts: scaled)
        }
    }

    /// Percent of a core that a process' threads take.
    private static func share(of process: Int32, seconds: Int32) -> Double {
        let before = ThreadTime.nanoseconds(of: process)
        let begun = Instant.now()
        pause(milliseconds: seconds * 1000)
        let spent = ThreadTime.nanoseconds(of: process) - before
        return Double(spent) * 100 / Double((Instant.now() - begun).nanoseconds)
    }
}
