import Glibc
import Model

/// What the end of an application means: an error is a crash, and silent; a clean stop is heard.
let crashScenarios: [Scenario] = [
    Scenario(
        "error-status",
        "A server of one process that leaves with status 3 in the middle of its reply is taken over; one that leaves with 0 "
            + "closes as usual.",
        run: errorStatus),
    Scenario(
        "restart-in-time",
        "A web server killed in the middle of downloads is back within its grace: the same machine goes on with them.",
        run: restartInTime),
    Scenario(
        "restart-http",
        "The same where HTTP is replayed: a download goes on from the range that is missing, a POST is reset.",
        run: restartHTTP),
    Scenario(
        "restart-too-late",
        "A web server killed in the middle of a download is not back within its grace: the backup goes on with it.",
        run: restartTooLate),
]

/// One client at a time gets numbered lines, a thousand a second. SIGUSR1: leave with an error; SIGUSR2: as asked. By
/// _exit, as programs that are no interpreters do: perl itself would close its sockets before it leaves, on purpose.
private let counter = """
    use Socket; use POSIX (); $SIG{USR1} = sub { POSIX::_exit(3) }; $SIG{USR2} = sub { POSIX::_exit(0) };
    $SIG{PIPE} = 'IGNORE'; socket(my $s, PF_INET, SOCK_STREAM, 6) or die; setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
    bind($s, sockaddr_in(8000, INADDR_ANY)) or die "bind: $!"; listen($s, 64) or die;
    while (1) { accept(my $c, $s) or next; defined(<$c>) or next;
    for my $n (1..3000) { syswrite $c, "line $n\\n" or last; select undef, undef, undef, 0.001; } }
    """

private func errorStatus(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 1_000_000
    options.extraServices = [.init(name: "counter", port: 8000, replay: "stream")]
    return try context.withLab(options) { lab in
        for node in lab.plan.webNodes { try startCounter(node, lab) }
        pause(milliseconds: checks)
        try stopCleanly(lab, context)
        let client = try ask(lab)
        try expectLines(1...500, client)
        let victim = try lab.server(ofClientPort: client.localPort)
        let failure = Instant.now()
        try expect(try lab.signal(victim, role: "counter", SIGUSR1), "the counter was not running")
        context.console.event("\(victim): the application leaves with status 3")
        try expectLines(501...3000, client)
        let end = Instant.now()
        let report = try lab.settledTakeover(of: victim, after: failure)
        try expect(report.adopted >= 1, "adopted \(report.adopted) of \(report.connections)")
        var figures = report.figures(failure: failure)
        figures["ended_ms_after_failure"] = .number((end - failure).milliseconds)
        return figures
    }
}

/// The client of an application that leaves with 0 gets its FIN, and nobody takes anything over.
private func stopCleanly(_ lab: Lab, _ context: ScenarioContext) throws {
    let client = try ask(lab)
    try expectLines(1...100, client)
    let node = try lab.server(ofClientPort: client.localPort)
    try expect(try lab.signal(node, role: "counter", SIGUSR2), "the counter was not running")
    context.console.event("\(node): the application leaves with status 0")
    var number = 100
    do {
        while number < 3000 {
            number += 1
            try expectLines(number...number, client)
        }
        throw LabError.failed("the reply went on to its end")
    } catch LabError.failed("the server closed") {
        try expect(number < 3000, "the reply was whole")
    }
    pause(milliseconds: 300)
    try expect(lab.takeovers().isEmpty, "there was a take-over after a clean stop")
    try startCounter(node, lab)
    pause(milliseconds: checks)
}

/// Until the agents' health checks have found the port.
private let checks: Int32 = 1500

private func startCounter(_ node: String, _ lab: Lab) throws {
    try lab.startServer(on: [node], role: "counter", port: 8000, ["perl", "-e", counter])
}

private func ask(_ lab: Lab) throws -> LineClient {
    let client = try LineClient(lab: lab, port: 8000)
    try client.send("count\n")
    return client
}

private func expectLines(_ numbers: ClosedRange<Int>, _ client: LineClient) throws {
    for number in numbers {
        let line = try client.line()
        try expect(line == "line \(number)\n", "\(line.debugDescription) came instead of line \(number)")
    }
}

// MARK: Restarts

private func withGrace(_ grace: String, size: Int) -> LabOptions {
    var options = LabOptions()
    options.fileSize = size
    options.agentLines = ["services:", "  - name: web", "    restart_grace: \(grace)"]
    return options
}

private func restartInTime(_ context: ScenarioContext) throws -> Figures {
    try context.withLab(withGrace("5s", size: 10_000_000)) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        var request = BulkDownload.Request()
        request.count = 24
        request.rate = 2_000_000
        request.receiveBuffer = 65_536
        let bulk = try BulkDownload(lab: lab, request)
        defer { bulk.cancel() }
        let (victim, ports) = try waitForSpread(bulk, lab, total: 24 * 3_000_000)
        let failure = try lab.kill(victim, how: .app)
        context.console.event("\(victim): web server killed with \(ports.count) downloads")
        try lab.startWebServer(victim)
        let back = Instant.now()
        // Their clients are not yet half through.
        try waitUntil("\(victim) having its \(ports.count) connections again", timeout: 3, every: 100) {
            try lab.servers(ofClientPorts: ports, among: [victim]).count == ports.count
        }
        let results = try bulk.results(timeout: 60)
        let wrong = results.filter { !$0.matches(file) }
        try expect(wrong.isEmpty, "\(wrong.count) of 24 downloads are wrong: \(wrong.first?.error ?? "")")
        try expect(lab.takeovers().isEmpty, "there was a take-over")
        try lab.waitUntilLive()
        return [
            "connections": .integer(Int64(ports.count)),
            "restarted_ms_after_failure": .number((back - failure).milliseconds),
            "stall_ms_longest": .number(results.map { $0.stall(after: failure) }.max() ?? 0),
        ]
    }
}

private func restartHTTP(_ context: ScenarioContext) throws -> Figures {
    var options = withGrace("5s", size: 30_000_000)
    options.replay = "http"
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let download = try Download(lab: lab, Download.Request(rate: 10_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 8_000_000)
        let victim = try lab.server(ofClientPort: port)
        var post: LineClient?
        for _ in 0..<8 where post == nil {
            let client = try LineClient(lab: lab, port: LabPlan.port)
            if try lab.server(ofClientPort: client.localPort) == victim { post = client }
        }
        guard let post else { throw LabError.failed("no connection went to \(victim)") }
        try post.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
        pause(milliseconds: 100)
        let failure = try lab.kill(victim, how: .app)
        context.console.event("\(victim): web server killed")
        pause(milliseconds: 200)
        try lab.startWebServer(victim)
        try post.readToReset(timeout: 5)
        let result = try download.result(timeout: 60)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        try expect(lab.takeovers().isEmpty, "there was a take-over")
        return ["stall_ms": .number(result.stall(after: failure))]
    }
}

private func restartTooLate(_ context: ScenarioContext) throws -> Figures {
    try context.withLab(withGrace("400ms", size: 60_000_000)) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 20_000_000)
        let victim = try lab.server(ofClientPort: port)
        let failure = try lab.kill(victim, how: .app)
        context.console.event("\(victim): web server killed")
        let report = try lab.settledTakeover(of: victim, after: failure)
        let result = try download.result(timeout: 60)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        let waited = report.orderedNs.map { Double(Int64(bitPattern: $0 &- failure.nanoseconds)) / 1e6 } ?? 0
        try expect(waited >= 400, "the backup was ordered after \(waited) ms already")
        var figures = report.figures(failure: failure)
        figures["stall_ms"] = .number(result.stall(after: failure))
        return figures
    }
}
