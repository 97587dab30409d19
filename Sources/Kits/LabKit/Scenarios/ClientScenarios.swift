import Glibc
import Model

/// Clients that are not like the others: each downloads 200 MB, and its server's cable is cut in the middle.
let clientScenarios: [Scenario] = [
    client("client-without-timestamps", "without TCP timestamps") {
        try $0.setKernel("client", ["net.ipv4.tcp_timestamps=0"])
    },
    client("client-without-sack", "without selective acknowledgment") {
        try $0.setKernel("client", ["net.ipv4.tcp_sack=0"])
    },
    client("client-without-window-scaling", "without window scaling") {
        try $0.setKernel("client", ["net.ipv4.tcp_window_scaling=0"])
    },
    client("client-with-mss-536", "with an MSS of 536") { lab in
        try require(
            Topology.enter(
                lab.plan, "client",
                [
                    "ip", "route", "replace", "default", "via", LabPlan.clientGateway.description, "advmss", "536",
                ]))
    },
    client("client-with-loss", "behind a link that loses 1 % at random", prepare: loseOnePercent),
    Scenario(
        "client-reads-slowly",
        "A client that reads 200 kB each second from a small buffer when its server fails: right SHA-256."
    ) { try stalledReader($0, rate: 200_000) },
    Scenario(
        "client-zero-window",
        "A client that has closed its window when its server fails, and opens it later: right SHA-256."
    ) { try stalledReader($0, rate: 0) },
    Scenario(
        "port-used-again",
        "A client whose port every server still remembers (TIME_WAIT) downloads from it when its server fails: right "
            + "SHA-256.",
        run: portUsedAgain),
    Scenario(
        "half-closed-client",
        "A client that has closed its half, and gets a long reply to all that it sent, when its server fails: every line, and "
            + "the end.",
        run: halfClosed),
]

private func client(_ name: String, _ what: String, prepare: @escaping @Sendable (Lab) throws -> Void) -> Scenario {
    Scenario(name, "A client \(what); its server fails in the middle of 200 MB: right SHA-256.") { context in
        try context.withLab { lab in
            try prepare(lab)
            var options = Demo.Options()
            options.failAt = 0.5
            let report = try Demo(options: options, console: context.console).run(in: lab)
            try expect(report.passed, report.complaints.joined(separator: "; "))
            var figures = report.takeover?.figures(failure: Instant(nanoseconds: report.failureNs)) ?? [:]
            figures["stall_ms"] = .number(report.hit.map(\.stallMs).max() ?? 0)
            return figures
        }
    }
}

/// Drops one frame of a hundred in each direction. Frames of the real size: a lost super-frame would be 44 at once.
@Sendable private func loseOnePercent(_ lab: Lab) throws {
    try Requirements.require("nft", from: "nftables")
    let rules =
        "table netdev lab { chain loss { type filter hook ingress device %s priority 0; "
        + "numgen random mod 100 < 1 drop; }; }"
    for (node, port) in [("client", "eth0"), ("router", "client")] {
        try require(Topology.enter(lab.plan, node, ["ethtool", "-K", port, "tso", "off", "gso", "off", "gro", "off"]))
        let parts = rules.split(separator: "%s")
        try require(Topology.enter(lab.plan, node, ["nft", parts.joined(separator: port)]))
    }
}

/// One request from a port, to the end of the connection. perl-base is on every Debian.
private func briefClient(_ port: UInt16, _ host: String) -> String {
    """
    use Socket; socket(my $s, PF_INET, SOCK_STREAM, 6) or die; setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
    bind($s, sockaddr_in(\(port), INADDR_ANY)) or die "bind: $!";
    connect($s, sockaddr_in(80, inet_aton("\(host)"))) or die "connect: $!";
    syswrite($s, "GET /large.bin HTTP/1.1\\r\\nHost: a\\r\\nRange: bytes=0-9\\r\\nConnection: close\\r\\n\\r\\n");
    while (sysread($s, my $part, 65536)) { print $part; }
    """
}

/// The server closes first, so that TIME_WAIT is its own; by turns, each server has one in the end.
private func portUsedAgain(_ context: ScenarioContext) throws -> Figures {
    let port: UInt16 = 42_042
    var options = LabOptions()
    options.fileSize = 50_000_000
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        var request = Download.Request(url: "http://\(lab.target)/large.bin", rate: 10_000_000)
        request.options = ["--local-port", "\(port)"]
        for _ in 0..<6 {
            let result = try lab.run(in: "client", command: ["perl", "-e", briefClient(port, lab.target)], timeout: 5)
            try expect(result.output.hasPrefix("HTTP/1.1 206"), "\(result.status) \(result.output) \(result.errors)")
        }
        for node in lab.plan.webNodes {
            // 6 is TIME_WAIT.
            let remembers = try KernelSockets.list(inNamespace: lab.plan.namespacePath(node))
                .contains { $0.remotePort == port && $0.state == 6 }
            try expect(remembers, "\(node) does not remember the port")
        }
        let download = try Download(lab: lab, request)
        defer { download.cancel() }
        try waitUntil("a fifth of the file", timeout: 20) { download.bytes >= file.size / 5 }
        let victim = try lab.owners(ofClientPorts: [port])[0]
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut with \(byteText(download.bytes)) of \(byteText(file.size)) done")
        let result = try download.result(timeout: 60)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        return try lab.settledTakeover(of: victim, after: failure).figures(failure: failure)
    }
}

/// Reads to the end of what the client sends, then says how many lines that were, for four seconds.
private let counter = """
    use Socket; $SIG{CHLD} = 'IGNORE'; $SIG{PIPE} = 'IGNORE';
    socket(my $s, PF_INET, SOCK_STREAM, 6) or die; setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
    bind($s, sockaddr_in(7007, INADDR_ANY)) or die "bind: $!"; listen($s, 64) or die;
    while (1) { accept(my $c, $s) or next; next if fork; close $s; my $n = 0; $n++ while <$c>; select $c; $| = 1;
    for my $i (1..400) { print "$i of $n\\n"; select(undef, undef, undef, 0.01); } exit 0; }
    """

private func halfClosed(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 100_000
    options.extraServices = [.init(name: "counter", port: 7007, replay: "stream")]
    return try context.withLab(options) { lab in
        try lab.startServer(on: lab.plan.webNodes, role: "counter", port: 7007, ["perl", "-e", counter])
        try lab.waitUntilLive()
        pause(milliseconds: 1500)
        let client = try LineClient(lab: lab, port: 7007)
        try client.send("one\ntwo\nthree\n")
        guard shutdown(client.descriptor, Int32(SHUT_WR)) == 0 else { throw LabError.system("shutdown", code: errno) }
        var victim = "", failure = Instant(nanoseconds: 0)
        for number in 1...400 {
            let line = try client.line()
            try expect(line == "\(number) of 3\n", "line \(number) is \(line)")
            guard number == 100 else { continue }
            victim = try lab.owners(of: [client])[0]
            failure = try lab.kill(victim, how: .link)
            context.console.event("\(victim): cable cut behind line 100")
        }
        var byte: UInt8 = 0
        try expect(try client.waitReadable(Deadline(seconds: 5)), "the end does not come")
        try expect(read(client.descriptor, &byte, 1) == 0, "no FIN came, but a byte or an RST")
        return try lab.settledTakeover(of: victim, after: failure).figures(failure: failure)
    }
}

private func stalledReader(_ context: ScenarioContext, rate: Int) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 20_000_000
    return try context.withLab(options) { lab in
        var request = BulkDownload.Request()
        request.count = 1
        request.rate = 8_000_000
        request.receiveBuffer = 65536
        let bulk = try BulkDownload(lab: lab, request)
        defer { bulk.cancel() }
        let (victim, _) = try waitForSpread(bulk, lab, total: 8_000_000)
        bulk.setRate(rate)
        // Long enough for the buffer to fill and the window to close.
        pause(milliseconds: 1000)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut")
        let report = try lab.settledTakeover(of: victim, after: failure)
        pause(milliseconds: 2000)
        bulk.setRate(nil)
        let result = try bulk.results(timeout: 60).first
        guard let result, let file = lab.file() else { throw LabError.failed("no result") }
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        return report.figures(failure: failure)
    }
}
