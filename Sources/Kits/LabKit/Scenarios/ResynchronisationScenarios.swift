import Glibc
import Model

/// What a backup did not see itself: connections that are older than it, and frames that its tap has lost.
let resynchronisationScenarios: [Scenario] = [
    Scenario(
        "resync",
        "A download whose server dies, and then the server that took it over, with one backup each: right SHA-256.",
        run: { try resync($0, LabOptions(), rate: 14_000_000, deaths: [30_000_000, 100_000_000]) }),
    Scenario(
        "resync-http",
        "The same with replay: http: what is known of the reply goes along, and only its rest is regenerated, twice.",
        run: resyncHTTP),
    Scenario(
        "new-backup",
        "A download that began before its only backup came; then its server dies: right SHA-256.",
        run: newBackup),
    Scenario(
        "tap-loss-upload",
        "A backup's tap loses a part of an upload, which is fetched; then the server dies: the upload arrives whole.",
        run: lostUpload),
    Scenario(
        "tap-loss-requests",
        "A backup's tap loses requests, and a whole connection; then the server dies: both dialogues go on.",
        run: lostRequests),
]

private func resync(
    _ context: ScenarioContext,
    _ options: LabOptions,
    rate: Int,
    deaths: [Int],
    check: (TakeoverReport) throws -> Void = { _ in }
) throws -> Figures {
    try context.withLab(options) { lab in
        let download = try Download(lab: lab, Download.Request(rate: rate))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: deaths[0])
        let first = try lab.server(ofClientPort: port)
        let failure = try lab.kill(first, how: .link)
        context.console.event("\(first): cable cut with \(byteText(download.bytes)) done")
        let report = try lab.settledTakeover(of: first, after: failure)
        let second = report.backup
        let time = try lab.waitUntilProtected(slotOf: first, owner: second)
        context.console.event("\(second) has it; a new backup has caught up after \(rounded(time, 1)) ms")
        try waitUntil("more of the download", timeout: 20) { download.bytes >= deaths[1] }
        let secondFailure = try lab.kill(second, how: .link)
        context.console.event("\(second): cable cut with \(byteText(download.bytes)) done")
        let result = try download.result(timeout: 60)
        let reports = try lab.takeovers().filter {
            $0.victim == second && $0.detectedNs ?? 0 >= secondFailure.nanoseconds
        }
        guard let file = lab.file() else { throw LabError.failed("no file") }
        try expect(
            result.matches(file),
            "\(result.bytes) of \(file.size) bytes; \(result.error); reset: \(reports.map(\.reset))")
        try expect(reports.reduce(0) { $0 + $1.adopted } == 1, "the second take-over adopted: \(reports)")
        for report in try lab.takeovers() where report.adopted > 0 { try check(report) }
        return ["protection_ms": .number(time), "second_stall_ms": .number(result.stall(after: secondFailure))]
    }
}

private func resyncHTTP(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.replay = "http"
    options.fileSize = 120_000_000
    return try resync(context, options, rate: 20_000_000, deaths: [20_000_000, 60_000_000]) { report in
        try expect(report.caughtUpBytes < 100_000, "\(report.caughtUpBytes) bytes were caught up")
    }
}

private func newBackup(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.backends = 2
    return try context.withLab(options) { lab in
        try lab.kill("web2", how: .power)
        try waitUntil("web2's slot in web1's hands", timeout: 10) { try lab.slots(owner: "web1").count == 2 }
        let download = try Download(lab: lab, Download.Request(rate: 14_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 20_000_000)
        try expect(try lab.server(ofClientPort: port) == "web1", "the download is not on web1")
        try lab.revive("web2")
        context.console.event("web2: revived with \(byteText(download.bytes)) of a download done")
        try lab.waitUntilLive()
        let time = try lab.waitUntilProtected(slotOf: "web1", owner: "web1")
        context.console.event("web2 has caught up after \(rounded(time, 1)) ms")
        let failure = try lab.kill("web1", how: .link)
        context.console.event("web1: cable cut with \(byteText(download.bytes)) done")
        let result = try download.result(timeout: 60)
        guard let file = lab.file() else { throw LabError.failed("no file") }
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        var figures = try lab.settledTakeover(of: "web1", after: failure).figures(failure: failure)
        figures["protection_ms"] = .number(time)
        return figures
    }
}

private func lostUpload(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 1_000_000
    return try context.withLab(options) { lab in
        let file = lab.plan.directory + "/upload.bin"
        _ = try PublishedFile.create(at: file, path: "/upload.bin", size: 12_000_000, seed: 3)
        var request = Download.Request(url: "http://\(lab.target)/upload", rate: 2_000_000)
        request.options = ["--upload-file", file, "--header", "Expect:", "--max-time", "60"]
        let upload = try Download(lab: lab, request)
        defer { upload.cancel() }
        try waitUntil("curl's connection", timeout: 10) { upload.localPort != nil }
        guard let port = upload.localPort else { throw LabError.failed("curl has no port") }
        let victim = try lab.server(ofClientPort: port)
        let backup = try lab.backup(of: victim)
        pause(milliseconds: 700)
        try lab.deafened(backup) { pause(milliseconds: 300) }
        context.console.event("\(backup): heard nothing for 300 ms of an upload to \(victim)")
        var copied = 0
        try waitUntil("the lost bytes", timeout: 5, every: 20) {
            copied = try lab.copiedBytes(backup)
            return try copied > 100_000 && lab.isProtected(slotOf: victim, owner: victim)
        }
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut while it takes the upload; \(byteText(copied)) were fetched")
        let result = try upload.result(timeout: 60)
        try expect(result.exitCode == 0 && result.httpStatus == 200, "curl: \(result.exitCode) \(result.error)")
        try expect(result.bytes == "taken\n".utf8.count, "\(result.bytes) bytes of reply")
        var figures = try lab.settledTakeover(of: victim, after: failure).figures(failure: failure)
        figures["fetched_bytes"] = .integer(Int64(copied))
        return figures
    }
}

/// Sends a count of the lines back, so that a replay that lacks one is seen.
private let counter = """
    use Socket; $SIG{CHLD} = "IGNORE";
    socket(my $s, PF_INET, SOCK_STREAM, 0) or die; setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
    bind($s, sockaddr_in(23, INADDR_ANY)) or die "bind: $!"; listen($s, 64) or die;
    while (1) { accept(my $c, $s) or next; next if fork; close $s; select $c; $| = 1;
    my $n = 0; while (<$c>) { $n++; print "$n $_"; } exit 0; }
    """

private func lostRequests(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 1_000_000
    options.extraServices = [.init(name: "counter", port: 23, replay: "stream")]
    return try context.withLab(options) { lab in
        try lab.startServer(on: lab.plan.webNodes, role: "counter", port: 23, ["perl", "-e", counter])
        try lab.waitUntilLive()
        pause(milliseconds: 1500)
        let first = try LineClient(lab: lab, port: 23)
        try first.send("a\n")
        try expect(try first.line() == "1 a\n", "a wrong first line")
        let victim = try lab.server(ofClientPort: first.localPort)
        let backup = try lab.backup(of: victim)
        // Round robin: after one for each of the others, the next connection goes to the same server again.
        let others = try (1..<lab.plan.backends).map { _ in try LineClient(lab: lab, port: 23) }
        var unseen: LineClient?
        // The deaf one hears the group of its own slot no more either, so it must get no new connection.
        try lab.deafened(backup) {
            try first.send("b\n")
            try expect(try first.line() == "2 b\n", "a wrong second line")
            let client = try LineClient(lab: lab, port: 23)
            try client.send("x\n")
            try expect(try client.line() == "1 x\n", "a wrong line")
            if try lab.server(ofClientPort: client.localPort) == victim { unseen = client }
        }
        withExtendedLifetime(others) {}
        guard let second = unseen else { throw LabError.failed("no connection went to \(victim) again") }
        context.console.event("\(backup): missed a request and a whole connection of \(victim)")
        try waitUntil("protection of both connections", timeout: 10, every: 50) {
            try lab.isProtected(slotOf: victim, owner: victim, connections: 2)
        }
        let copied = try lab.copiedBytes(backup)
        try expect(copied >= 4, "only \(copied) bytes were fetched")
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut; \(copied) bytes were fetched")
        try first.send("c\n")
        try expect(try first.line() == "3 c\n", "the first dialogue lacks a line")
        try second.send("y\n")
        try expect(try second.line() == "2 y\n", "the unseen dialogue lacks a line")
        return try lab.settledTakeover(of: victim, after: failure).figures(failure: failure)
    }
}

// MARK: What the director says

extension Lab {
    /// Slots that a back-end serves.
    func slots(owner: String) throws -> [JSONValue] {
        try (directorStatus()["slots"]?.array ?? []).filter {
            $0["owner"]?.string == owner && ["active", "taken-over"].contains($0["state"]?.string)
        }
    }

    /// The first backup of a back-end.
    func backup(of node: String) throws -> String {
        let backends = try directorStatus()["backends"]?.array ?? []
        guard let backup = backends.first(where: { $0["name"]?.string == node })?["backups"]?.array.first?.string else {
            throw LabError.failed("\(node) has no backup")
        }
        return backup
    }

    /// What the backups of a slot say; a former backup stays one for a while. Nil while none has said a thing.
    func protection(slotOf node: String, owner: String) throws -> [JSONValue]? {
        guard let slot = try slots(owner: owner).first(where: { $0["backend"]?.string == node }),
            let reports = slot["protection"]?.array, !reports.isEmpty
        else { return nil }
        return reports
    }

    /// Each backup has all of at least so many connections.
    func isProtected(slotOf node: String, owner: String, connections: Int64 = 1) throws -> Bool {
        guard let reports = try protection(slotOf: node, owner: owner) else { return false }
        return reports.allSatisfy { report in
            report["state"]?.string == "synchronised" && report["connections"]?.integer ?? 0 >= connections
                && report["protected"] == report["connections"] && report["missing"]?.integer == 0
        }
    }

    /// Waits until everything of a slot is protected; returns the longest time to protection in ms that a backup tells.
    func waitUntilProtected(slotOf node: String, owner: String) throws -> Double {
        try waitUntil("protection of \(node)'s connections on \(owner)", timeout: 10, every: 20) {
            try isProtected(slotOf: node, owner: owner)
        }
        let reports = try protection(slotOf: node, owner: owner) ?? []
        return reports.compactMap { $0["time_to_protection_ms"]?.number }.max() ?? 0
    }

    func copiedBytes(_ node: String) throws -> Int { try agentStatus(node)["tap"]?["copied_bytes"]?.integer ?? 0 }

    /// Lets no group frame reach a node while the body runs: its switch port forgets to flood them.
    func deafened(_ node: String, _ body: () throws -> Void) throws {
        try checkNode(node)
        let port = { (state: String) in
            ["ip", "-n", self.plan.namespace("router"), "link", "set", "dev", node, "type", "bridge_slave", "mcast_flood", state]
        }
        try require(port("off"))
        defer { _ = try? require(port("on")) }
        try body()
    }
}
