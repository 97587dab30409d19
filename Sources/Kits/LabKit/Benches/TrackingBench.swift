import Model

/// What tracking costs a backup: processor time of its agent under requests, above that without.
///
/// Two back-ends, of which one has all requests and the other is its backup. What the kernel does for the group's frames
/// in soft interrupts is in nobody's account and not in here.
public struct TrackingBench: Sendable, Codable {
    public var requestsPerSecond: Double
    public var backup: Cost
    /// The journal that it keeps of its own connections, and what it tells the backup.
    public var owner: Cost
    public var failedRequests: Int

    public struct Cost: Sendable, Codable {
        /// Of one core, brought to 1,000 requests/s: the median of the parts.
        public var percentAtThousand: Double
        public var idlePercent: Double
        /// Every five-second part, brought to 1,000 requests/s: the noise.
        public var parts: [Double]

        enum CodingKeys: String, CodingKey {
            case parts
            case percentAtThousand = "percent_at_1000"
            case idlePercent = "idle_percent"
        }

        init(idle: Double, shares: [Double], rate: Double) {
            idlePercent = idle
            parts = shares.map { ($0 - idle) * 1000 / rate }.sorted()
            percentAtThousand = parts[parts.count / 2]
        }

        var line: String {
            "\(rounded(percentAtThousand, 2)) % of a core at 1,000 requests/s"
                + " (median of \(parts.map { rounded($0, 2) }.joined(separator: ", ")); idle \(rounded(idlePercent, 2)) %)"
        }
    }

    enum CodingKeys: String, CodingKey {
        case backup, owner
        case requestsPerSecond = "requests_per_second"
        case failedRequests = "failed_requests"
    }

    public var lines: [String] {
        [
            "tracking, backup: \(backup.line)",
            "          owner:  \(owner.line)",
            "          at \(rounded(requestsPerSecond, 0)) requests/s, \(failedRequests) requests failed",
        ]
    }

    public static func run(_ context: ScenarioContext, rate: Int = 1000, parts count: Int = 5) throws -> TrackingBench {
        var options = LabOptions()
        options.backends = 2
        options.fileSize = 1_000_000
        return try context.withLab(options) { lab in
            _ = try lab.publish("/small.bin", size: 1024, seed: 3)
            _ = try lab.batonctl(["server", "edit", "web2", "--weight", "0"])
            let agents = try ["web1", "web2"].map { try agent(on: $0, lab) }
            let idle = shares(of: agents, seconds: 5)
            var request = RequestLoad.Request()
            request.rate = rate
            let load = try RequestLoad(lab: lab, request)
            pause(milliseconds: 2000)
            let before = load.totals.answered
            let begun = Instant.now()
            let parts = (0..<count).map { _ in shares(of: agents, seconds: 5) }
            let seconds = Double((Instant.now() - begun).nanoseconds) / 1e9
            let totals = try load.stop()
            let answered = Double(totals.answered - before) / seconds
            try expect(answered > Double(rate) / 2, "only \(rounded(answered, 0)) requests/s were answered")
            return TrackingBench(
                requestsPerSecond: answered,
                backup: Cost(idle: idle[1], shares: parts.map { $0[1] }, rate: answered),
                owner: Cost(idle: idle[0], shares: parts.map { $0[0] }, rate: answered),
                failedRequests: totals.failed)
        }
    }

    private static func agent(on node: String, _ lab: Lab) throws -> Int32 {
        guard let agent = try lab.node(node).processes.first(where: { $0.role == "agent" })?.process else {
            throw LabError.failed("\(node) has no agent")
        }
        return agent
    }

    /// Percent of a core that each process' threads take.
    private static func shares(of processes: [Int32], seconds: Int32) -> [Double] {
        let before = processes.map { ThreadTime.nanoseconds(of: $0) }
        let begun = Instant.now()
        pause(milliseconds: seconds * 1000)
        let spent = zip(processes, before).map { ThreadTime.nanoseconds(of: $0) - $1 }
        let elapsed = Double((Instant.now() - begun).nanoseconds)
        return spent.map { Double($0) * 100 / elapsed }
    }
}
