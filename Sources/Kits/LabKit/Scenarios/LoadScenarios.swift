import Model

/// Many connections at once.
let loadScenarios: [Scenario] = [
    Scenario(
        "hundred-downloads",
        "100 downloads at once, a third of them on the server that fails: all right, no other one stalls above 50 ms.",
        alone: true, run: hundredDownloads)
]

private func hundredDownloads(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 10_000_000
    return try context.withLab(options) { lab in
        var request = BulkDownload.Request()
        request.rate = 1_000_000
        request.receiveBuffer = 65536
        let bulk = try BulkDownload(lab: lab, request)
        defer { bulk.cancel() }
        let (victim, hit) = try waitForSpread(bulk, lab, total: 100 * 4_000_000)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut; \(hit.count) of 100 downloads were on it")
        let results = try bulk.results(timeout: 120)
        let report = try lab.settledTakeover(of: victim, after: failure)
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let wrong = results.filter { !$0.matches(file) }
        try expect(wrong.isEmpty, "\(wrong.count) of 100 downloads are wrong: \(wrong.first?.error ?? "")")
        let others = results.filter { !hit.contains($0.localPort) }.map { $0.stall(after: failure) }
        let stalls = results.filter { hit.contains($0.localPort) }.map { $0.stall(after: failure) }
        try expect((25...42).contains(hit.count), "\(hit.count) of 100 were on \(victim), not about a third")
        try expect(
            (others.max() ?? 0) <= 50, "a download that was not hit stalled for \(rounded(others.max() ?? 0, 1)) ms")
        var figures = report.figures(failure: failure)
        figures["hit"] = .integer(Int64(hit.count))
        figures["stall_ms_median"] = .number(stalls.sorted()[stalls.count / 2])
        figures["stall_ms_longest"] = .number(stalls.max() ?? 0)
        figures["others_stall_ms_longest"] = .number(others.max() ?? 0)
        return figures
    }
}

/// Waits for bytes, then names a victim and the client ports that are on it.
func waitForSpread(_ bulk: BulkDownload, _ lab: Lab, total: Int) throws -> (victim: String, ports: Set<UInt16>) {
    try waitUntil("\(byteText(total)) of the downloads", timeout: 120, every: 10) { bulk.progress.bytes >= total }
    let ports = Set(bulk.progress.ports.filter { $0 != 0 })
    let servers = try lab.servers(ofClientPorts: ports).compactMapValues(\.first)
    guard let victim = servers.values.min() else { throw LabError.failed("no back-end has any of the connections") }
    return (victim, Set(servers.filter { $0.value == victim }.keys))
}
