import Model

/// More new flows than there should be.
let floodScenarios: [Scenario] = [
    Scenario(
        "syn-flood",
        "SYNs with forged sources, many times the flow table: a download and an idle connection go on, the rest is refused.",
        alone: true, run: synFlood)
]

private func synFlood(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 80_000_000
    // A table that the flood would fill several times over.
    options.directorLines = ["flows: {size: 2048, half_open: 2048, rate: 3000, burst: 3000}"]
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let download = try Download(lab: lab, Download.Request(rate: 15_000_000))
        defer { download.cancel() }
        _ = try lab.connected(download, bytes: 1_000_000)
        // A connection that says nothing is the one that a full table would forget first.
        let idle = try LineClient(lab: lab, port: LabPlan.port)
        context.console.event("SYNs with forged sources for four seconds")
        let sent = try lab.floodWithSYNs(seconds: 4)
        let duringFlood = download.bytes
        let status = try lab.directorStatus()
        let limits = status["limits"]?.array.first
        let refused = limits?["refused_by_all"]?.integer ?? 0
        let opened = status["counters"]?["new_flows"]?.integer ?? status["services"]?.array.first?["new_flows"]?.integer ?? 0
        context.console.event("\(sent) SYNs: \(opened) opened a flow, \(refused) were refused")
        try idle.send("GET /large.bin HTTP/1.1\r\nHost: web\r\nRange: bytes=0-0\r\nConnection: close\r\n\r\n")
        try expect(try idle.line().hasPrefix("HTTP/1.1 206"), "the idle connection is not served after the flood")
        let result = try download.result(timeout: 60)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        try expect(sent > 20_000, "only \(sent) SYNs were sent: that is no flood")
        // What the bucket lets through in four seconds and a bit: enough to fill the table, and no more.
        try expect(opened > 2048 * 2, "only \(opened) flows were opened: they would have had room")
        try expect(opened < 3000 * 9, "\(opened) flows were opened: more than the rate allows")
        try expect(refused > 0, "none was refused")
        let after = try lab.run(
            in: "client",
            command: [
                "curl", "-s", "-o", "/dev/null", "--range", "0-99", "--connect-timeout", "5", "-w", "%{http_code}",
                "http://\(lab.target)/large.bin",
            ], timeout: 20)
        try expect(after.output == "206", "a new connection after the flood got \(after.output)")
        return [
            "sent": .integer(Int64(sent)), "opened": .integer(Int64(opened)), "refused": .integer(Int64(refused)),
            "downloaded_during_flood": .integer(Int64(duringFlood)),
            "stall_ms": .number(result.longestGap?.milliseconds ?? 0),
        ]
    }
}
