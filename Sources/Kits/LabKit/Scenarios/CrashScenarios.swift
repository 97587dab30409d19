import Glibc
import Model

/// What the end of an application means: an error is a crash, and silent; a clean stop is heard.
let crashScenarios: [Scenario] = [
    Scenario(
        "error-status",
        "A server of one process that leaves with status 3 in the middle of its reply is taken over; one that leaves with 0 "
            + "closes as usual.",
        run: errorStatus)
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
    try lab.start(node, role: "counter", ["perl", "-e", counter])
    try waitUntil("the counter on \(node)", timeout: 5) {
        try KernelSockets.listening(inNamespace: lab.plan.namespacePath(node)).contains(8000)
    }
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
