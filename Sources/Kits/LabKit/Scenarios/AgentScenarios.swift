import Glibc
import Model

/// The agent's daemon.
let agentScenarios: [Scenario] = [
    Scenario(
        "agent-killed",
        "kill -9 of the agent whose back-end serves, started again at once: a backup goes on, the old sockets stay silent.",
        run: agentKilled),
    Scenario(
        "frames-of-a-former-life",
        "A server without power comes back before the router answers it: what its former life had to say is not said.",
        alone: true, run: framesOfAFormerLife),
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

/// The kernel keeps frames above every filter while the next hop's link-layer address is not known. Here these are the
/// ends of connections that another server has taken over; they must not leave by the lease of the server's next life.
private func framesOfAFormerLife(_ context: ScenarioContext) throws -> Figures {
    try context.withLab { lab in
        _ = try lab.publish("/small.bin", size: 1024, seed: 5)
        for _ in 0..<3 {
            let clients = try (0..<12).map { _ in try LineClient(lab: lab, port: LabPlan.port) }
            for client in clients { try ask(client) }
            let owners = try lab.owners(of: clients)
            let victim = owners[0]
            let isInTime = try dieWithoutNeighbour(victim, lab, context)
            for client in clients { try ask(client) }
            if isInTime { return ["connections": .integer(Int64(owners.count { $0 == victim }))] }
        }
        throw LabError.failed("the server was never back within the second in which its kernel keeps frames")
    }
}

private func ask(_ client: LineClient) throws {
    try client.send("HEAD /small.bin HTTP/1.1\r\nHost: a\r\n\r\n")
    while try client.line() != "\r\n" {}
}

/// - Returns: the server was back while its kernel still kept frames.
private func dieWithoutNeighbour(_ victim: String, _ lab: Lab, _ context: ScenarioContext) throws -> Bool {
    let router = LabPlan.routerAddress.description
    let chain = "type filter hook ingress device \"\(victim)\" priority 0;"
    try nft("table netdev hold { chain port { \(chain) arp daddr ip \(router) drop; }; }", lab)
    let failure = try lab.kill(victim, how: .power)
    _ = try lab.settledTakeover(of: victim, after: failure)
    try lab.revive(victim)
    let neighbours = try lab.run(in: victim, command: ["ip", "neigh", "show", "dev", "eth0"])
    let keeps = neighbours.output.split(separator: "\n").contains { $0.hasPrefix(router + " ") && $0.contains("INCOMPLETE") }
    try lab.waitUntilLive()
    let isInTime = keeps && (Instant.now() - failure).milliseconds < 1900
    try nft("delete table netdev hold", lab)
    context.console.event("\(victim) is back, and the router answers it")
    // The last of the kernel's three questions is out.
    pause(milliseconds: 2500)
    return isInTime
}

private func nft(_ command: String, _ lab: Lab) throws {
    let result = try lab.run(in: "router", command: ["nft", command])
    try expect(result.status.isSuccess, "nft \(command): \(result.errors)")
}
