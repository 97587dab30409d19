import Model

/// The measurement behind `make bench-takeover`: the stall that a client sees, and a take-over of many connections.
public struct BenchReport: Sendable, Codable {
    public struct Stall: Sendable, Codable {
        public var median: Double
        public var p99: Double
        public var runs: [Double]
    }

    public struct Takeover: Sendable, Codable {
        public var connections: Int
        public var secondsAfterDetection: Double
        /// Of those connections, how many got the right file.
        public var right: Int

        enum CodingKeys: String, CodingKey {
            case connections, right
            case secondsAfterDetection = "seconds_after_detection"
        }
    }

    public var stallMs: Stall
    public var takeover: Takeover

    enum CodingKeys: String, CodingKey {
        case takeover
        case stallMs = "stall_ms"
    }

    /// The report as a table.
    public var lines: [String] {
        var lines = ["run   stall (ms)"]
        for (number, stall) in stallMs.runs.enumerated() {
            lines.append(padded(String(number + 1), 3, right: true) + padded(rounded(stall, 1), 13, right: true))
        }
        lines.append("median" + padded(rounded(stallMs.median, 1), 10, right: true))
        lines.append("p99   " + padded(rounded(stallMs.p99, 1), 10, right: true))
        lines.append("")
        lines.append(
            "take-over of \(takeover.connections) live connections: settled "
                + "\(rounded(takeover.secondsAfterDetection, 3)) s after"
                + " detection, \(takeover.right) right")
        return lines
    }
}

/// The bench's parts, each usable alone.
public enum Bench {
    public static func run(_ context: ScenarioContext, runs: Int, connections: Int) throws -> BenchReport {
        BenchReport(
            stallMs: try stall(context, runs: runs), takeover: try takeover(context, connections: connections))
    }

    /// One client at 20 MB/s with a receive buffer of a few milliseconds, so that nothing hides a stall; its server's
    /// cable is cut, and it is revived before the next run.
    public static func stall(_ context: ScenarioContext, runs: Int) throws -> BenchReport.Stall {
        try expect(runs > 0, "at least one run")
        return try context.withLab { lab in
            var stalls: [Double] = []
            for number in 1...runs {
                stalls.append(try oneStall(lab))
                context.console.line("run \(number): \(rounded(stalls[number - 1], 1)) ms")
            }
            let sorted = stalls.sorted()
            let median = runs % 2 == 1 ? sorted[runs / 2] : (sorted[runs / 2 - 1] + sorted[runs / 2]) / 2
            return BenchReport.Stall(
                median: median, p99: sorted[min(runs - 1, (runs * 99 + 99) / 100 - 1)], runs: stalls)
        }
    }

    private static func oneStall(_ lab: Lab) throws -> Double {
        var request = BulkDownload.Request()
        request.count = 1
        request.rate = 20_000_000
        request.receiveBuffer = 131_072
        let bulk = try BulkDownload(lab: lab, request)
        defer { bulk.cancel() }
        let (victim, _) = try waitForSpread(bulk, lab, total: 16_000_000)
        let failure = try lab.kill(victim, how: .link)
        _ = try lab.settledTakeover(of: victim, after: failure)
        try waitUntil("new bytes after the failure", timeout: 10) { bulk.progress.bytes > 30_000_000 }
        bulk.setRate(nil)
        guard let result = try bulk.results(timeout: 60).first, let file = lab.file() else {
            throw LabError.failed("no result")
        }
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        try lab.revive(victim)
        try lab.waitUntilLive()
        return result.stall(after: failure)
    }

    /// Two back-ends with `connections` downloads each; one fails. Of many, all go to the one that will fail, and take
    /// little: the machine has other things to do than downloads, and a process may not have that many sockets.
    /// Their replies are short, for the time that a server takes to make 10,000 of 100 KB again is its own.
    public static func takeover(_ context: ScenarioContext, connections: Int) throws -> BenchReport.Takeover {
        let isMany = connections > 2000
        var options = LabOptions()
        options.backends = 2
        options.fileSize = isMany ? 30_000 : 1_000_000
        if isMany {
            options.policy = "wrr"
            options.weights = [1, 0]
        }
        return try context.withLab(options) { lab in
            var request = BulkDownload.Request()
            request.count = isMany ? connections : connections * 2
            request.rate = isMany ? 2000 : 40_000
            request.receiveBuffer = 16384
            let bulk = try BulkDownload(lab: lab, request)
            defer { bulk.cancel() }
            try waitUntil("\(request.count) connections", timeout: 120, every: 10) {
                if let failure = bulk.progress.failure { throw LabError.failed("a client failed: \(failure)") }
                return bulk.progress.connected == request.count
            }
            let share = isMany ? 0.27 : 0.4
            let total = Int(Double(request.count * options.fileSize) * share)
            let (victim, hit) = try waitForSpread(bulk, lab, total: total)
            let failure = try lab.kill(victim, how: .link)
            context.console.event("\(victim): cable cut with \(hit.count) connections")
            // Each question is a process, which beside ten thousand sockets is work.
            let report = try lab.settledTakeover(of: victim, after: failure, timeout: 60, every: isMany ? 1000 : 20)
            bulk.setRate(200_000)
            let results = try bulk.results(timeout: 180)
            guard let file = lab.file() else { throw LabError.failed("no file") }
            let wrong = results.filter { !$0.matches(file) && !hit.contains($0.localPort) }
            try expect(
                wrong.isEmpty, "\(wrong.count) downloads that were not hit are wrong: \(wrong.first?.error ?? "")")
            let right = results.count { hit.contains($0.localPort) && $0.matches(file) }
            for failed in results.filter({ hit.contains($0.localPort) && !$0.matches(file) }).prefix(3) {
                context.console.line("  port \(failed.localPort): \(failed.bytes) bytes; \(failed.error)")
            }
            if right < hit.count, let end = try? lab.takeover(of: victim, after: failure) {
                context.console.line("  adopted \(end.adopted) of \(end.connections), reset \(end.reset)")
            }
            let settled = Double(report.settledNs ?? 0) - Double(report.detectedNs ?? 0)
            return BenchReport.Takeover(connections: hit.count, secondsAfterDetection: settled / 1e9, right: right)
        }
    }
}

let benchScenarios: [Scenario] = [
    Scenario(
        "stall", "20 cut cables at 20 MB/s: the median stall that the client sees is below 150 ms.", alone: true
    ) { context in
        let stall = try Bench.stall(context, runs: 20)
        try expect(stall.median < 150, "the median is \(rounded(stall.median, 1)) ms")
        return [
            "median_ms": .number(stall.median), "p99_ms": .number(stall.p99),
            "runs": .array(stall.runs.map { .number($0) }),
        ]
    },
    Scenario(
        "thousand-connections", "1,000 live connections are taken over at once: every one right.", alone: true
    ) { context in
        let takeover = try Bench.takeover(context, connections: 1000)
        try expect(takeover.right == takeover.connections, "\(takeover.right) of \(takeover.connections) are right")
        return [
            "connections": .integer(Int64(takeover.connections)), "right": .integer(Int64(takeover.right)),
            "seconds_after_detection": .number(takeover.secondsAfterDetection),
        ]
    },
]
