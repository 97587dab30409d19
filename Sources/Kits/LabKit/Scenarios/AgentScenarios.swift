import Glibc
import Model

/// The agent's daemon.
let agentScenarios: [Scenario] = [
    Scenario(
        "agent-killed",
        "kill -9 of the agent whose back-end serves, started again at once: a backup goes on, the old sockets stay silent.",
        run: agentKilled)
]

/// Without its agent a back-end loses its lease, so it is taken over; the restarted agent has to clear away the sockets of
/// its former life before it may talk again, or two servers would answer one client.
private func agentKilled(_ context: ScenarioContext) throws -> Figures {
    try context.withLab { lab in
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 40_000_000)
        let victim = try lab.server(ofClientPort: port)
        let killed = Instant.now()
        try expect(try lab.signal(victim, role: "agent", SIGKILL), "no agent was running on \(victim)")
        context.console.event("\(victim): kill -9 of its agent")
        pause(milliseconds: 200)
        try lab.startDaemon(victim)
        try lab.waitUntilLive()
        let report = try lab.settledTakeover(of: victim, after: killed)
        let left = try lab.servers(ofClientPorts: [port], among: [victim])[port] ?? []
        try expect(left.isEmpty, "\(victim) still has the socket of a connection that \(report.backup) serves")
        let result = try download.result(timeout: 60)
        guard let file = lab.file() else { throw LabError.failed("no file") }
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        try expect(report.backup != victim, "\(victim) took over from itself")
        return report.figures(failure: killed)
    }
}
