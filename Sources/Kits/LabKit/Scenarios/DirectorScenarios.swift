import Glibc
import Model

/// The director's daemon.
let directorScenarios: [Scenario] = [
    Scenario(
        "director-killed",
        "kill -9 of baton-director during a download: it goes on; after the restart its flow is still known.",
        run: directorKilled),
]

private func directorKilled(_ context: ScenarioContext) throws -> Figures {
    try context.withLab { lab in
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 40_000_000)
        let killed = Instant.now()
        try expect(try lab.signal("director", role: "director", SIGKILL), "the director was not running")
        context.console.event("baton-director: kill -9")
        let atKill = download.bytes
        pause(milliseconds: 2000)
        try expect(download.bytes > atKill + 20_000_000, "the download stopped with the director's daemon")
        try lab.startDaemon("director")
        try lab.waitUntilLive()
        let flows = try lab.directorFlows()["flows"]?.array ?? []
        let client = "\(LabPlan.clientAddress):\(port)"
        try expect(
            flows.contains { $0["client"]?.string == client }, "after the restart the flow \(client) is not known")
        let result = try download.result(timeout: 60)
        guard let file = lab.file() else { throw LabError.failed("no file") }
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        try expect(try lab.takeovers().isEmpty, "the restart was taken for a failure of a back-end")
        return ["stall_ms": .number(result.stall(after: killed)), "flows_after_restart": .integer(Int64(flows.count))]
    }
}
