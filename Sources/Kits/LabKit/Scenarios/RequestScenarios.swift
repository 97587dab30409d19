import Glibc
import Model

/// Requests in other states than "the reply is on its way".
let requestScenarios: [Scenario] = [
    Scenario(
        "thinking-server",
        "The server fails while it thinks about a request, nothing answered yet: the backup answers it.",
        run: thinkingServer),
    Scenario(
        "greeting-replayed",
        "A protocol in which the server speaks first, with replay allowed: the dialogue goes on with the backup."
    ) { try dialogue($0, replay: "stream") },
    Scenario(
        "greeting-forbidden",
        "The same with replay forbidden, as for SSH: the client gets an RST at once, counted as replay-forbidden."
    ) { try dialogue($0, replay: "none") },
    Scenario(
        "greeting-tap-loss",
        "The same where the backup has missed the handshake's last ACK: the dialogue goes on, or is reset where nobody could "
            + "tell it the ISS; never a byte that the client has.",
        run: greetingTapLoss),
    Scenario(
        "upload-replayed",
        "An upload of 8 MB whose server fails in the middle: the backup gets it whole, and answers."
    ) { try upload($0, size: 8_000_000, rate: 2_000_000, fits: true) },
    Scenario(
        "upload-too-long",
        "An upload that has outgrown the journal when its server fails: an RST at once, counted as journal-full."
    ) { try upload($0, size: 60_000_000, rate: 12_000_000, fits: false) },
]

private func thinkingServer(_ context: ScenarioContext) throws -> Figures {
    try context.withLab(small) { lab in
        let download = try Download(lab: lab, Download.Request(url: "http://\(lab.target)/slow"))
        defer { download.cancel() }
        try waitUntil("curl's connection", timeout: 10) { download.localPort != nil }
        guard let port = download.localPort else { throw LabError.failed("curl has no port") }
        pause(milliseconds: 300)
        let victim = try lab.server(ofClientPort: port)
        try expect(download.bytes == 0, "the server had answered already")
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut while it thinks")
        let result = try download.result(timeout: 15)
        try expect(result.exitCode == 0 && result.httpStatus == 200, "curl: status \(result.exitCode) \(result.error)")
        try expect(result.bytes == "an answer that took a second\n".utf8.count, "\(result.bytes) bytes came")
        var figures = try lab.settledTakeover(of: victim, after: failure).figures(failure: failure)
        figures["answered_ms_after_failure"] = .number(Double(result.endNs - failure.nanoseconds) / 1e6)
        return figures
    }
}

private var small: LabOptions {
    var options = LabOptions()
    options.fileSize = 1_000_000
    return options
}

// MARK: A server that speaks first

/// Greets as an SSH server does, then repeats each line with its number. perl-base is on every Debian.
private let greeter = """
    use Socket; $SIG{CHLD} = 'IGNORE'; $SIG{PIPE} = 'IGNORE';
    socket(my $s, PF_INET, SOCK_STREAM, 6) or die; setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
    bind($s, sockaddr_in(22, INADDR_ANY)) or die "bind: $!"; listen($s, 64) or die;
    while (1) { accept(my $c, $s) or next; next if fork; close $s; select $c; $| = 1;
    print "SSH-2.0-Greeter\\r\\n"; my $n = 0; while (<$c>) { $n++; print "$n $_"; } exit 0; }
    """

private func dialogue(_ context: ScenarioContext, replay: String) throws -> Figures {
    var options = small
    options.extraServices = [.init(name: "greeter", port: 22, replay: replay)]
    return try context.withLab(options) { lab in
        try lab.startGreeters()
        let client = try LineClient(lab: lab, port: 22)
        try expect(try client.line() == "SSH-2.0-Greeter\r\n", "no greeting came")
        for number in 1...3 {
            try client.send("line\n")
            try expect(try client.line() == "\(number) line\n", "a wrong line came before the failure")
        }
        let victim = try lab.server(ofClientPort: client.localPort)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut in the middle of a dialogue")
        let report = try lab.settledTakeover(of: victim, after: failure)
        var figures = report.figures(failure: failure)
        if replay == "none" {
            let ended = try client.waitForReset(timeout: 2)
            figures["reset_ms"] = .number((ended - failure).milliseconds)
            try expect(report.reset["replay-forbidden"] == 1, "reset by cause: \(report.reset)")
        } else {
            try client.send("line\n")
            try expect(try client.line() == "4 line\n", "the dialogue did not go on")
            try expect(report.adopted == 1 && report.reset.values.allSatisfy { $0 == 0 }, "\(report)")
        }
        return figures
    }
}

extension Lab {
    fileprivate func startGreeters() throws {
        try startServer(on: plan.webNodes, role: "greeter", port: 22, ["perl", "-e", greeter])
        // The health checks of the new port must have seen it.
        try waitUntilLive()
        pause(milliseconds: 1500)
    }

    /// Loses the first pure ACK of a client's port on its way to one node.
    fileprivate func loseFirstACK(of port: UInt16, to node: String, _ body: () throws -> Void) throws {
        try Requirements.require("nft", from: "nftables")
        let rules =
            "table netdev lab_ack { chain loss { type filter hook egress device \(node) priority 0; "
            + "tcp sport \(port) tcp flags & (syn|ack|psh|fin) == ack limit rate 1/hour burst 1 packets counter drop; }; }"
        try require(Topology.enter(plan, "router", ["nft", rules]))
        defer { _ = try? require(Topology.enter(plan, "router", ["nft", "delete", "table", "netdev", "lab_ack"])) }
        try body()
        let text = try require(Topology.enter(plan, "router", ["nft", "list", "table", "netdev", "lab_ack"]))
        try expect(text.contains("counter packets 1 "), "no ACK was lost: \(text)")
    }
}

private func greetingTapLoss(_ context: ScenarioContext) throws -> Figures {
    var figures: Figures = [:]
    for (forwarding, isTold) in [("multicast", true), ("selective", true), ("multicast", false)] {
        let name = isTold ? forwarding : "untold"
        let answered = try missedHandshake(context, forwarding: forwarding, isTold: isTold)
        figures["\(name)_ms"] = .number(answered)
    }
    return figures
}

/// Returns milliseconds from the failure to the take-over's end.
private func missedHandshake(_ context: ScenarioContext, forwarding: String, isTold: Bool) throws -> Double {
    var options = small
    options.forwarding = forwarding
    options.extraServices = [.init(name: "greeter", port: 22, replay: "stream")]
    return try context.withLab(options) { lab in
        try lab.startGreeters()
        // Round robin: after one for each of the others, the next connection goes to the same server again.
        let others = try (0..<lab.plan.backends).map { _ in try LineClient(lab: lab, port: 22) }
        let victim = try lab.server(ofClientPort: others[0].localPort)
        let backup = try lab.backup(of: victim)
        if !isTold { try lab.partition(victim, from: backup) }
        var client: LineClient?
        try lab.loseFirstACK(of: 41_007, to: backup) {
            client = try LineClient(lab: lab, port: 22, from: 41_007)
            try expect(try client?.line() == "SSH-2.0-Greeter\r\n", "no greeting came")
            pause(milliseconds: 300)
            try client?.send("one\n")
            try expect(try client?.line() == "1 one\n", "a wrong line came before the failure")
        }
        guard let client else { throw LabError.failed("no client") }
        try expect(try lab.server(ofClientPort: client.localPort) == victim, "the client is on another server")
        pause(milliseconds: 2500)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut; \(backup) has missed the ACK of a handshake under \(forwarding)")
        let report = try lab.settledTakeover(of: victim, after: failure)
        if isTold {
            try expect(try !client.waitReadable(Deadline(seconds: 2)), "the client got what nobody asked for")
            try client.send("two\n")
            try expect(try client.line() == "2 two\n", "the dialogue did not go on")
            try expect(report.reset.values.allSatisfy { $0 == 0 }, "reset by cause: \(report.reset)")
        } else {
            _ = try client.waitForReset(timeout: 2)
            try expect(report.reset["handshake-unknown"] == 1, "reset by cause: \(report.reset)")
        }
        withExtendedLifetime(others) {}
        return Double((report.settledNs ?? failure.nanoseconds) - failure.nanoseconds) / 1e6
    }
}

// MARK: Uploads

private func upload(_ context: ScenarioContext, size: Int, rate: Int, fits: Bool) throws -> Figures {
    try context.withLab(small) { lab in
        let file = lab.plan.directory + "/upload.bin"
        _ = try PublishedFile.create(at: file, path: "/upload.bin", size: size, seed: 3)
        var request = Download.Request(url: "http://\(lab.target)/upload", rate: rate)
        request.options = ["--upload-file", file, "--header", "Expect:", "--max-time", "60"]
        let download = try Download(lab: lab, request)
        defer { download.cancel() }
        try waitUntil("curl's connection", timeout: 10) { download.localPort != nil }
        guard let port = download.localPort else { throw LabError.failed("curl has no port") }
        pause(milliseconds: 2000)
        let victim = try lab.server(ofClientPort: port)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut while it takes an upload")
        let result = try download.result(timeout: 60)
        let report = try lab.settledTakeover(of: victim, after: failure)
        var figures = report.figures(failure: failure)
        let after = Double(result.endNs - failure.nanoseconds) / 1e6
        figures["ended_ms_after_failure"] = .number(after)
        if fits {
            try expect(result.exitCode == 0 && result.httpStatus == 200, "curl: \(result.exitCode) \(result.error)")
            try expect(result.bytes == "taken\n".utf8.count, "\(result.bytes) bytes of reply")
        } else {
            // 55 send failure, 56 receive failure: what curl says of a reset.
            try expect([55, 56].contains(result.exitCode), "curl ended with \(result.exitCode) \(result.error)")
            try expect(after < 1500, "the reset came after \(rounded(after, 0)) ms")
            try expect(report.reset["journal-full"] == 1, "reset by cause: \(report.reset)")
        }
        return figures
    }
}
