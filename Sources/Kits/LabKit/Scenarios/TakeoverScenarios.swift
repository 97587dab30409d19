import Model

/// One download, its server gone at 5 %, 50 % and 95 %, in each of the four ways.
let takeoverScenarios: [Scenario] =
    [KillMode.link, .power, .app].map(curlScenario) + [
        Scenario(
            "takeover-freeze",
            "A 200 MB download whose server is frozen for 5 s at 5 %, 50 % and 95 %, then thawed: right SHA-256."
        ) { context in
            var figures: Figures = [:]
            for percent in [5, 50, 95] {
                context.console.line("frozen at \(percent) %")
                let lab = LabOptions()
                for (name, value) in try context.withLab(lab, { try freezeAndThaw($0, context, percent: percent) }) {
                    figures["\(name)_at_\(percent)"] = value
                }
            }
            return figures
        },
        Scenario(
            "takeover-beyond-4gb",
            "A download whose sequence numbers have gone all the way round when its server fails: right SHA-256.",
            alone: true, run: beyondTheCircle),
    ]

private func curlScenario(_ how: KillMode) -> Scenario {
    Scenario(
        "takeover-\(how.rawValue)",
        "A 200 MB download whose server fails (\(how.meaning)) at 5 %, 50 % and 95 %: right SHA-256 each time."
    ) { context in
        var figures: Figures = [:]
        for percent in [5, 50, 95] {
            context.console.line("\(how.meaning) at \(percent) %")
            var options = Demo.Options()
            options.how = how
            options.failAt = Double(percent) / 100
            let report = try context.withLab { try Demo(options: options, console: context.console).run(in: $0) }
            try expect(report.passed, "at \(percent) %: \(report.complaints.joined(separator: "; "))")
            figures["stall_ms_at_\(percent)"] = .number(report.hit.map(\.stallMs).max() ?? 0)
            figures["arrival_stall_ms_at_\(percent)"] = .number(report.hit.compactMap(\.arrivalStallMs).max() ?? 0)
        }
        return figures
    }
}

/// The client slows down after the failure, so that it is still being served when the old server wakes up: at 95 %,
/// curl's fixed pace would have had the rest in less than the five seconds.
private func freezeAndThaw(_ lab: Lab, _ context: ScenarioContext, percent: Int) throws -> Figures {
    guard let file = lab.file() else { throw LabError.failed("no file") }
    var request = BulkDownload.Request()
    request.count = 1
    request.rate = 40_000_000
    request.receiveBuffer = 131_072
    let bulk = try BulkDownload(lab: lab, request)
    defer { bulk.cancel() }
    let (victim, ports) = try waitForSpread(bulk, lab, total: file.size * percent / 100)
    bulk.setRate((file.size - bulk.progress.bytes) / 9)
    let failure = try lab.kill(victim, how: .freeze)
    context.console.event("\(victim): frozen with \(byteText(bulk.progress.bytes)) of \(byteText(file.size)) done")
    let report = try lab.settledTakeover(of: victim, after: failure)
    while (Instant.now() - failure).milliseconds < 5000 {
        try Interrupts.check()
        pause(milliseconds: 10)
    }
    try expect(bulk.progress.finished == 0, "the download was over before the thaw")
    let thaw = try lab.thaw(victim)
    context.console.event("\(victim): thawed with \(byteText(bulk.progress.bytes)) done")
    pause(milliseconds: 2000)
    let servers = try lab.servers(ofClientPorts: ports, among: [report.backup])
    try expect(
        bulk.progress.finished == 1 || !servers.isEmpty, "\(report.backup) has lost the connection to the thawed server"
    )
    bulk.setRate(nil)
    guard let result = try bulk.results(timeout: 60).first else { throw LabError.failed("no result") }
    try expect(result.matches(file), "at \(percent) %: \(result.bytes) of \(file.size) bytes; \(result.error)")
    return [
        "stall_ms": .number(result.stall(after: failure)), "stall_ms_after_thaw": .number(result.stall(after: thaw)),
    ]
}

/// All of it is regenerated, 2^32 bytes and more, so that the catch-up meets each sequence number a second time.
private func beyondTheCircle(_ context: ScenarioContext) throws -> Figures {
    let circle = 1 << 32
    var options = LabOptions()
    options.fileSize = circle + 120_000_000
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        var request = BulkDownload.Request()
        request.count = 1
        request.receiveBuffer = 1 << 20
        let bulk = try BulkDownload(lab: lab, request)
        defer { bulk.cancel() }
        try waitUntil("the end of the circle", timeout: 60) { bulk.progress.bytes > circle - 400_000_000 }
        bulk.setRate(40_000_000)
        let (victim, _) = try waitForSpread(bulk, lab, total: circle + 20_000_000)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut with \(bulk.progress.bytes - circle) bytes more than 2^32 done")
        let report = try lab.settledTakeover(of: victim, after: failure)
        bulk.setRate(nil)
        guard let result = try bulk.results(timeout: 60).first else { throw LabError.failed("no result") }
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        try expect(report.adopted == 1, "adopted: \(report.adopted)")
        return ["stall_ms": .number(result.stall(after: failure))]
    }
}
