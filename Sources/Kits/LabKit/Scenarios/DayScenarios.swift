import Glibc
import Model

/// A day in the life of a cluster.
let dayScenarios: [Scenario] = [
    Scenario(
        "a-day",
        "A server added, one drained, a reload, one killed and revived, the director restarted, under curl and wrk: no "
            + "failed request, no wrong byte.",
        alone: true, run: aDay)
]

private func aDay(_ context: ScenarioContext) throws -> Figures {
    try Requirements.require("wrk", from: "wrk")
    var options = LabOptions()
    options.backends = 4
    options.backups = 2
    options.fileSize = 100_000_000
    options.policy = "wlc"
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let small = try lab.publish("/small.bin", size: 20_000, seed: 9)
        // The fourth is to come during the day.
        try expect(try lab.signal("web4", role: "agent", SIGTERM), "web4's agent was not running")
        try lab.applied(["server", "del", "web4"])
        var downloads: [Download] = []
        defer { for download in downloads { download.cancel() } }
        for _ in 0..<4 { downloads.append(try Download(lab: lab, Download.Request(rate: 6_000_000))) }
        for download in downloads { _ = try lab.connected(download, bytes: 500_000) }
        let load = try SteadyLoad(lab: lab, file: small)
        let wrk = try WrkLoad(lab: lab, path: small.path)
        let start = Instant.now()
        let takeovers: [TakeoverReport]
        do {
            try morning(lab, context)
            takeovers = try evening(lab, context)
        } catch {
            wrk.cancel()
            _ = try? load.stop()
            throw error
        }
        let length = (Instant.now() - start).milliseconds
        let resets = takeovers.flatMap { takeover in
            takeover.reset.map { "\($0.value) \($0.key) of \(takeover.victim)" }
        }
        let asked = try wrk.stop(resets)
        var figures: Figures = ["wrk_requests": .integer(Int64(asked)), "day_ms": .number(length)]
        figures["curl_like_requests"] = .integer(Int64(try load.stop()))
        for download in downloads {
            let result = try download.result(timeout: 60)
            try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        }
        figures["adopted"] = .integer(Int64(takeovers.reduce(0) { $0 + $1.adopted }))
        figures["reset"] = .integer(Int64(takeovers.reduce(0) { $0 + $1.reset.values.reduce(0, +) }))
        return figures
    }
}

extension Lab {
    fileprivate func applied(_ arguments: [String]) throws {
        let report = try changeReport(arguments)
        try expect(report.succeeded && report.applied, "batonctl \(arguments.joined(separator: " ")): \(report)")
    }

    fileprivate func waitForState(_ node: String, _ state: String) throws {
        try waitUntil("\(node) to be \(state)", timeout: 20, every: 20) { try backendState(node) == state }
    }
}

/// A server comes, another is drained, the file is reloaded.
private func morning(_ lab: Lab, _ context: ScenarioContext) throws {
    let address = lab.plan.address(of: "web4")?.description ?? ""
    try lab.applied(["server", "add", "web4", "-r", address])
    try lab.startDaemon("web4")
    try lab.waitForState("web4", "live")
    context.console.event("web4 added")
    try lab.drain("web1", ["--migrate"], timeout: 30)
    try lab.stopWebServer("web1")
    try lab.startWebServer("web1")
    try lab.undrain("web1")
    try lab.waitForState("web1", "live")
    context.console.event("web1 drained, its nginx exchanged, and back")
    try expect(try lab.batonctl(["save", "--write"]).status.isSuccess, "save --write failed")
    let text = try lab.directorFile()
    let changed = text.replacing("address: 192.0.2.13\n    weight: 1", with: "address: 192.0.2.13\n    weight: 3")
    try expect(changed != text, "the saved file has no weight of web3: \(text)")
    try lab.writeDirectorFile(changed)
    try expect(try lab.signal("director", role: "director", SIGHUP), "the director was not running")
    try waitUntil("the new weight", timeout: 3, every: 20) {
        let backends = try lab.directorStatus()["backends"]?.array ?? []
        return backends.contains { $0["name"]?.string == "web3" && $0["weight"]?.integer == 3 }
    }
    context.console.event("reloaded")
}

/// A server dies and comes back, the director is restarted.
///
/// - Returns: the day's take-overs, which a restarted director has forgotten.
private func evening(_ lab: Lab, _ context: ScenarioContext) throws -> [TakeoverReport] {
    let failure = try lab.kill("web2", how: .power)
    _ = try lab.settledTakeover(of: "web2", after: failure)
    try lab.revive("web2")
    try lab.waitForState("web2", "live")
    context.console.event("web2 killed and revived")
    let takeovers = try lab.takeovers()
    try expect(try lab.signal("director", role: "director", SIGTERM), "the director was not running")
    try waitUntil("the director's end", timeout: 5, every: 10) {
        try lab.node("director").processes.contains { $0.role == "director" && !$0.running }
    }
    try lab.startDaemon("director")
    try lab.waitUntilLive()
    context.console.event("the director restarted")
    return takeovers
}

/// wrk with a script that looks at every reply: keep-alive connections, fifty requests a second each.
private final class WrkLoad {
    private static let script = """
        local first = nil
        local threads = {}
        wrong = 0
        function setup(thread) table.insert(threads, thread) end
        function delay() return 20 end
        function response(status, headers, body)
            if first == nil then first = body end
            if status ~= 200 or body ~= first then wrong = wrong + 1 end
        end
        function done(summary, latency, requests)
            local e = summary.errors
            local bad = 0
            for _, thread in ipairs(threads) do bad = bad + thread:get("wrong") end
            io.write(string.format("result %d %d %d %d %d %d %d\\n", summary.requests, e.connect, e.read, e.write,
                e.status, e.timeout, bad))
        end

        """

    private let child: ChildProcess
    private let output: OutputCollector

    init(lab: Lab, path: String) throws {
        let script = lab.plan.directory + "/day.lua"
        try writeFile(script, Self.script)
        output = try OutputCollector()
        let command = [
            "wrk", "--threads", "1", "--connections", "8", "--timeout", "10s", "--duration", "600s", "--script", script,
            "http://\(LabPlan.virtualAddress)\(path)",
        ]
        child = try lab.spawn(in: "client", command: command, output: .descriptor(output.writeEnd), error: .null)
        output.closeWriteEnd()
    }

    func cancel() { child.end() }

    /// Ends it; the number of its requests. Throws when one has failed.
    ///
    /// - Parameter resets: what the director says of connections that were reset, for the error's text.
    func stop(_ resets: [String]) throws -> Int {
        // It ends its work, and says what came of it.
        child.signal(SIGINT)
        _ = try child.wait(timeout: 15)
        let text = output.text()
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("result ") }) else {
            throw LabError.failed("wrk says: \(text)")
        }
        let numbers = line.split(separator: " ").dropFirst().compactMap { Int($0) }
        guard numbers.count == 7, let requests = numbers.first else { throw LabError.failed("wrk says: \(line)") }
        try expect(
            numbers.dropFirst().allSatisfy { $0 == 0 },
            "of \(requests) requests failed (connect, read, write, status, time-out, wrong bytes): \(numbers.dropFirst()); reset: \(resets)")
        try expect(requests > 100, "wrk has made \(requests) requests only")
        return requests
    }
}
