import Glibc
import Model

/// Flows that are idle for too long.
let timeoutScenarios: [Scenario] = [
    Scenario(
        "idle-timeout",
        "An idle connection times out after two seconds: with `reset_on_timeout` both ends are reset, without it the "
            + "director forgets it and the next byte draws the RST; a busy one goes on.",
        run: idleTimeout)
]

private let quietAddress = IPAddress(ipv4: 0xc000_0265)

private func idleTimeout(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 1_000_000
    options.serviceSettings = ["timeouts: {tcp: 2s}", "reset_on_timeout: true"]
    return try context.withLab(options) { lab in
        let small = try lab.publish("/small.bin", size: 2000, seed: 9)
        let added = try lab.changeReport([
            "service", "add", "quiet", "-t", "\(quietAddress):80", "--replay", "stream", "--set", "timeouts={tcp: 2s}",
        ])
        try expect(added.applied, "service add: \(added)")
        try lab.waitUntilServed("\(quietAddress):80", file: small)
        let shown = try lab.batonctl(["list", "--timeout"]).output
        try expect(
            shown.contains("web: Timeout (tcp tcpfin udp): 2 120 300, handshake 60, both ends reset"),
            "list --timeout says: \(shown)")
        let request = "GET \(small.path) HTTP/1.1\r\nHost: lab\r\n\r\n"
        let busy = try LineClient(lab: lab, port: LabPlan.port)
        let idle = try LineClient(lab: lab, port: LabPlan.port)
        let quiet = try LineClient(lab: lab, port: LabPlan.port, to: quietAddress)
        for client in [idle, quiet] {
            try client.send(request)
            try expect(try client.reply().count == small.size, "a reply before the time-out is wrong")
        }
        let silent = Instant.now()
        let owner = try lab.server(ofClientPort: idle.localPort)
        // Not reset before its time, and the busy one not at all.
        var reset: Instant?
        while reset == nil, Instant.now() - silent < .seconds(8) {
            try busy.send(request)
            try expect(try busy.reply().count == small.size, "the busy connection's reply is wrong")
            if try idle.waitReadable(Deadline(seconds: 0.3)) { reset = try idle.waitForReset(timeout: 1) }
        }
        guard let reset else { throw LabError.failed("the idle connection was not reset within 8 s") }
        try expect(reset - silent >= .seconds(2), "it was reset after \((reset - silent).milliseconds) ms")
        try waitUntil("the server's end of the idle connection to be gone", timeout: 2) {
            try lab.servers(ofClientPorts: [idle.localPort])[idle.localPort]?.isEmpty ?? true
        }
        context.console.event("the idle connection was reset at both ends, on \(owner)")
        try waitUntil("the director to forget the quiet connection", timeout: 6, every: 100) {
            let flows = try lab.directorFlows()["flows"]?.array ?? []
            return !flows.contains { $0["client"]?.string == "\(LabPlan.clientAddress):\(quiet.localPort)" }
        }
        // Its server still has it: nobody was told. The next byte finds no flow.
        try expect(
            try lab.servers(ofClientPorts: [quiet.localPort])[quiet.localPort]?.count == 1,
            "the server has lost the quiet connection")
        try quiet.send(request)
        _ = try quiet.waitForReset(timeout: 3)
        let timedOut = try lab.directorStatus()["counters"]?["timed_out"]?.integer ?? 0
        try expect(timedOut >= 2, "the director counts \(timedOut) flows that timed out")
        return ["reset_after_ms": .number((reset - silent).milliseconds), "timed_out": .integer(Int64(timedOut))]
    }
}
