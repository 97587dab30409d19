import Glibc
import Model

/// The agent's own checks of the application beside it, and the other failure detector.
let agentCheckScenarios: [Scenario] = [
    Scenario(
        "agent-checks",
        "A page, a virtual host or a whole nginx goes bad on one back-end: its agent notices, no new flows there, its download "
            + "goes on; a listener that ends is noticed without a check.",
        run: agentChecks),
    Scenario(
        "detection-phi",
        "With the detector phi: a cut cable is detected no sooner than the window and soon after; the download is right.",
        alone: true, run: detectionPhi),
]

private let checkedHost = "check.example"

private func agentChecks(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 20_000_000
    // What the checks ask for has to be there before the agents are.
    options.daemons = false
    options.agentLines = [
        "services:", "  - name: web", "    check:", "      kind: http", "      host: \(checkedHost)", "      path: /health",
        "      status: [200, 204]", "      body: all is well", "      interval: 100ms", "      timeout: 80ms",
        "      jitter: 10", "      rise: 2", "      fall: 2",
    ]
    return try context.withLab(options) { lab in
        for node in lab.plan.webNodes {
            try lab.setCheckedPage(node, "all is well")
            try lab.setCheckedHost(node, true)
        }
        try lab.slowDownChecks("web3")
        for node in ["director"] + lab.plan.webNodes { try lab.startDaemon(node) }
        try lab.waitUntilLive()
        var request = BulkDownload.Request()
        // Round robin begins anew with each plan: as many as there are back-ends may miss one.
        request.count = 6
        request.rate = 1_000_000
        request.receiveBuffer = 65_536
        let bulk = try BulkDownload(lab: lab, request)
        defer { bulk.cancel() }
        try waitUntil("six downloads", timeout: 10, every: 10) {
            bulk.progress.connected == request.count && bulk.progress.bytes > 600_000
        }
        let ports = Set(bulk.progress.ports.filter { $0 != 0 })
        guard let port = try lab.servers(ofClientPorts: ports).first(where: { $0.value == ["web2"] })?.key else {
            throw LabError.failed("none of six downloads is on web2")
        }
        var figures = try breakAndMend(lab, context)
        try expect(bulk.progress.finished == 0, "the downloads were over too early")
        let still = try lab.servers(ofClientPorts: [port])[port] ?? []
        try expect(still == ["web2"], "the download that web2 had is on \(still)")
        bulk.setRate(nil)
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let wrong = try bulk.results(timeout: 30).filter { !$0.matches(file) }
        try expect(wrong.isEmpty, "\(wrong.count) of 6 downloads are wrong: \(wrong.first?.error ?? "")")
        figures["stopped_down_ms"] = .number(try stopListener(lab, context))
        try expect(try lab.takeovers().isEmpty, "a failed check was taken for the end of a back-end")
        return figures
    }
}

/// Each way in which web2's check can fail, for real, and why the agent says that it does.
private func breakAndMend(_ lab: Lab, _ context: ScenarioContext) throws -> Figures {
    var figures: Figures = [:]
    let breakages: [(name: String, why: String, breaks: () throws -> Void, mends: () throws -> Void)] = [
        (
            "page", "the body lacks the text", { try lab.setCheckedPage("web2", "something is wrong") },
            { try lab.setCheckedPage("web2", "all is well") }
        ),
        (
            "host", "the status is 404", { try lab.setCheckedHost("web2", false) },
            { try lab.setCheckedHost("web2", true) }
        ),
        (
            "hang", "no answer within the timeout", { try lab.signalNginx("web2", SIGSTOP) },
            { try lab.signalNginx("web2", SIGCONT) }
        ),
    ]
    for (name, why, breaks, mends) in breakages {
        let broken = Instant.now()
        try breaks()
        try lab.waitForBackend("web2", "application-down")
        figures["\(name)_down_ms"] = .number((Instant.now() - broken).milliseconds)
        let check = try lab.agentCheck("web2")
        try expect(check["state"]?.string == "down", "web2's agent calls its check \(check["state"]?.string ?? "nothing")")
        try expect(check["failure"]?.string == why, "web2's check fails since \(check["failure"]?.string ?? "nothing")")
        context.console.event("web2: \(name) broken; \(why)")
        try expect(try !lab.servers(ofNew: 6).contains("web2"), "web2 got a new flow while its \(name) check failed")
        let mended = Instant.now()
        try mends()
        try lab.waitForBackend("web2", "live")
        figures["\(name)_up_ms"] = .number((Instant.now() - mended).milliseconds)
        try expect(try lab.servers(ofNew: 6).contains("web2"), "web2 got no new flow after its \(name) check passed")
    }
    return figures
}

/// web3's checks are too slow to see it so soon: the agent hears of the listener's end from the kernel.
private func stopListener(_ lab: Lab, _ context: ScenarioContext) throws -> Double {
    let stopped = Instant.now()
    try expect(try lab.signal("web3", role: "nginx", SIGTERM), "nginx was not running on web3")
    try lab.waitForBackend("web3", "application-down")
    let time = (Instant.now() - stopped).milliseconds
    context.console.event("web3: nginx was stopped; down after \(rounded(time, 0)) ms")
    try expect(time < slowInterval, "it took \(time) ms, as long as the checks take")
    try expect(try !lab.servers(ofNew: 6).contains("web3"), "web3 got a new flow without a listener")
    try lab.startWebServer("web3")
    try lab.waitForBackend("web3", "live")
    return time
}

/// In milliseconds; with `fall: 3` checks alone need twice that at least.
private let slowInterval = 1000.0

private func detectionPhi(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 100_000_000
    options.directorLines = ["detector: phi"]
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let download = try Download(lab: lab, Download.Request(rate: 25_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 30_000_000)
        try expect(try lab.takeovers().isEmpty, "a back-end was suspected that had not failed")
        let victim = try lab.server(ofClientPort: port)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut")
        let report = try lab.settledTakeover(of: victim, after: failure)
        let result = try download.result(timeout: 30)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        try expect(report.adopted >= 1, "adopted \(report.adopted) of \(report.connections)")
        // The last heartbeat was up to one interval old when the cable was cut; ten windows are phi's bound.
        let window = Double(options.heartbeatWindowMilliseconds)
        let silence = report.detectedNs.map { Double(Int64(bitPattern: $0 &- failure.nanoseconds)) / 1e6 } ?? 0
        let least = window - Double(options.heartbeatIntervalMilliseconds) - 5
        try expect(silence >= least, "suspected after \(silence) ms, before the window was over")
        try expect(silence <= window * 10 + 200, "suspected only after \(silence) ms")
        try expect(try lab.takeovers().allSatisfy { $0.victim == victim }, "another back-end was suspected as well")
        var figures = report.figures(failure: failure)
        figures["stall_ms"] = .number(result.stall(after: failure))
        return figures
    }
}

// MARK: Tools

extension Lab {
    /// Writes the page that the agents' checks ask for.
    fileprivate func setCheckedPage(_ node: String, _ text: String) throws {
        let directory = try webDirectory(node) + "/checked"
        try makeDirectory(directory)
        try writeFile(directory + "/health", text + "\n")
    }

    /// Gives nginx the virtual host that has the page, or takes it away, and lets it read that.
    fileprivate func setCheckedHost(_ node: String, _ present: Bool) throws {
        let root = try server(node).root
        let block = "    server { listen \(LabPlan.port); server_name \(checkedHost); root \(root)/checked; }\n"
        try setServerBlock(node, present ? block : nil)
    }

    /// Checks that take long: what they would find is not seen soon.
    fileprivate func slowDownChecks(_ node: String) throws {
        let path = plan.agentConfiguration(node)
        guard let text = readFile(path) else { throw LabError.failed("\(path) cannot be read") }
        let interval = "interval: \(Int(slowInterval))ms"
        let slow = text.replacing("interval: 100ms", with: interval).replacing("rise: 2", with: "rise: 1")
            .replacing("fall: 2", with: "fall: 3")
        try writeFile(path, slow)
    }

    /// Signals the master and all workers.
    fileprivate func signalNginx(_ node: String, _ number: Int32) throws {
        let all = ProcessTable.members(ofNamespace: plan.namespacePath(node)).filter {
            ProcessEntry($0.process)?.name == "nginx"
        }
        try expect(all.count >= 2, "nginx is not running on \(node)")
        for process in all { process.signal(number) }
    }

    fileprivate func waitForBackend(_ name: String, _ state: String) throws {
        try waitUntil("\(name) being \(state)", timeout: 5, every: 10) {
            let backends = try directorStatus()["backends"]?.array ?? []
            return backends.first { $0["name"]?.string == name }?["state"]?.string == state
        }
    }

    /// What an agent says of its one check.
    fileprivate func agentCheck(_ node: String) throws -> JSONValue {
        guard let check = try agentStatus(node)["checks"]?.array.first else {
            throw LabError.failed("\(node)'s agent shows no check")
        }
        return check
    }
}
