import Glibc
import Model
import Synchronization

/// Planned take-overs by `batonctl drain`.
let drainScenarios: [Scenario] = [
    Scenario(
        "drain-migrate",
        "A healthy back-end is drained with --migrate in the middle of a 200 MB download: it goes on, right SHA-256.",
        run: drainMigrate),
    Scenario(
        "drain-wait",
        "A healthy back-end is drained with --wait: free when its download has ended, with no take-over.",
        run: drainWait),
    Scenario(
        "rolling-upgrade",
        "Three back-ends drained, nginx stopped and started, undrained, one after the other under load: nothing is lost.",
        alone: true, run: rollingUpgrade),
]

extension Lab {
    /// Runs batonctl with the director's socket.
    func batonctl(_ arguments: [String], timeout seconds: Double = 60) throws -> CommandResult {
        try runCommand([programs + "/batonctl", "--socket", plan.socket] + arguments, timeout: seconds)
    }

    /// Drains a back-end until it is free; throws when batonctl does not say so.
    func drain(_ node: String, _ options: [String], timeout seconds: Int = 60) throws {
        let command = ["drain", node, "--json", "--timeout", "\(seconds)"] + options
        let result = try batonctl(command, timeout: Double(seconds) + 10)
        let state = (try? JSONValue(text: result.output))?["state"]?.string
        try expect(
            result.status.isSuccess && state == "drained",
            "batonctl \(command.joined(separator: " ")): \(result.status) \(result.output) \(result.errors)")
    }

    func undrain(_ node: String) throws {
        let result = try batonctl(["undrain", node, "--json"])
        try expect(result.status.isSuccess, "batonctl undrain \(node): \(result.errors)")
    }

    /// Stops nginx as an upgrade does (SIGQUIT), and waits for its end.
    func stopWebServer(_ node: String) throws {
        try expect(try signal(node, role: "nginx", SIGQUIT), "nginx was not running on \(node)")
        try waitUntil("nginx on \(node) to end", timeout: 20) {
            try self.node(node).processes.contains { $0.role == "nginx" && !$0.running }
        }
    }

    func backendState(_ node: String) throws -> String {
        let backends = try directorStatus()["backends"]?.array ?? []
        return backends.first { $0["name"]?.string == node }?["state"]?.string ?? ""
    }
}

private func drainMigrate(_ context: ScenarioContext) throws -> Figures {
    try context.withLab { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let small = try lab.publish("/small.bin", size: 20_000, seed: 9)
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 60_000_000)
        let victim = try lab.server(ofClientPort: port)
        let start = Instant.now()
        context.console.event("\(victim): drained with --migrate")
        try lab.drain(victim, ["--migrate"], timeout: 20)
        let freeAfter = (Instant.now() - start).milliseconds
        try expect(download.bytes < file.size, "the download was over before the back-end was free")
        let report = try lab.settledTakeover(of: victim, after: start)
        let left = try lab.servers(ofClientPorts: [port])[port] ?? []
        try expect(left == [report.backup], "the connection is on \(left), not on \(report.backup) alone")
        let state = try lab.backendState(victim)
        try expect(state == "drained", "the state is \(state)")
        // Free means free: its web server may go, and no new flow comes to it.
        try lab.stopWebServer(victim)
        var request = BulkDownload.Request()
        request.count = 12
        request.path = small.path
        let bulk = try BulkDownload(lab: lab, request)
        defer { bulk.cancel() }
        let wrong = try bulk.results(timeout: 20).filter { !$0.matches(small) }
        try expect(wrong.isEmpty, "\(wrong.count) new downloads failed: \(wrong.first?.error ?? "")")
        try lab.startWebServer(victim)
        try lab.undrain(victim)
        try lab.waitUntilLive()
        let result = try download.result(timeout: 60)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        var figures = report.figures(failure: start)
        figures["stall_ms"] = .number(result.stall(after: start))
        figures["free_after_ms"] = .number(freeAfter)
        return figures
    }
}

private func drainWait(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 40_000_000
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let download = try Download(lab: lab, Download.Request(rate: 10_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 5_000_000)
        let victim = try lab.server(ofClientPort: port)
        let early = try lab.batonctl(["drain", victim, "--wait", "--json", "--timeout", "1"])
        try expect(early.status == .exited(2), "with a flow left the time-out gave \(early.status): \(early.output)")
        let status = try JSONValue(text: early.output)
        try expect(status["flows"]?.integer == 1, "flows left: \(early.output)")
        try lab.drain(victim, ["--wait"], timeout: 40)
        try expect(download.isFinished, "it was called free before the download had ended")
        let result = try download.result(timeout: 10)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        try expect(lab.takeovers().isEmpty, "there was a take-over")
        let freeAfter = Double(Instant.now().nanoseconds - result.endNs) / 1e6
        return ["free_ms_after_last_flow": .number(freeAfter)]
    }
}

/// Short downloads without an end, counted and judged.
final class SteadyLoad: Sendable {
    private struct State {
        var stopped = false
        var done = 0
        var wrong: [String] = []
        var error: String?
    }

    private let state = Mutex(State())
    private let ended: Promise<Bool>

    init(lab: Lab, file: PublishedFile) throws {
        ended = try Promise()
        startThread { [self] in
            do {
                while !state.withLock({ $0.stopped }), !Interrupts.isRaised { try turn(lab, file) }
            } catch {
                state.withLock { $0.error = "\(error)" }
            }
            ended.fulfil(true)
        }
    }

    private func turn(_ lab: Lab, _ file: PublishedFile) throws {
        var request = BulkDownload.Request()
        request.count = 40
        request.path = file.path
        request.spacing = 5
        let results = try BulkDownload(lab: lab, request).results(timeout: 30)
        let wrong = results.filter { !$0.matches(file) }.map { "\($0.bytes) bytes of port \($0.localPort): \($0.error)" }
        state.withLock {
            $0.done += results.count
            $0.wrong += wrong
        }
    }

    /// Ends it. Throws when a download was not right.
    func stop() throws -> Int {
        state.withLock { $0.stopped = true }
        guard ended.wait(until: Deadline(seconds: 60)) != nil else { throw LabError.timeout("the load's end", seconds: 60) }
        let end = state.withLock { $0 }
        if let error = end.error { throw LabError.failed(error) }
        try expect(
            end.wrong.isEmpty, "\(end.wrong.count) of \(end.done) requests are wrong: \(end.wrong.prefix(3))")
        return end.done
    }
}

private func rollingUpgrade(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.backups = 2
    options.fileSize = 160_000_000
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let small = try lab.publish("/small.bin", size: 20_000, seed: 9)
        var downloads: [Download] = []
        defer { for download in downloads { download.cancel() } }
        for _ in 0..<6 { downloads.append(try Download(lab: lab, Download.Request(rate: 5_000_000))) }
        for download in downloads { _ = try lab.connected(download, bytes: 1_000_000) }
        let load = try SteadyLoad(lab: lab, file: small)
        let start = Instant.now()
        var figures: Figures = [:]
        do {
            for node in lab.plan.webNodes {
                let before = Instant.now()
                try lab.drain(node, ["--migrate"], timeout: 90)
                figures["\(node)_free_after_ms"] = .number((Instant.now() - before).milliseconds)
                context.console.event("\(node): free; nginx is stopped and started")
                try lab.stopWebServer(node)
                pause(milliseconds: 300)
                try lab.startWebServer(node)
                try lab.undrain(node)
                try lab.waitUntilLive()
                pause(milliseconds: 500)
            }
        } catch {
            _ = try? load.stop()
            throw error
        }
        figures["requests"] = .integer(Int64(try load.stop()))
        var stall = 0.0
        for download in downloads {
            let result = try download.result(timeout: 90)
            try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
            stall = max(stall, result.stall(after: start))
        }
        let takeovers = try lab.takeovers()
        let reset = takeovers.reduce(0) { $0 + $1.reset.values.reduce(0, +) }
        figures["adopted"] = .integer(Int64(takeovers.reduce(0) { $0 + $1.adopted }))
        figures["takeovers"] = .integer(Int64(takeovers.count))
        figures["reset"] = .integer(Int64(reset))
        figures["stall_ms_longest"] = .number(stall)
        return figures
    }
}
