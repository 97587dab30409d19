import Glibc
import Model

/// The director's own checks, and who serves when nobody else does.
let healthScenarios: [Scenario] = [
    Scenario(
        "health-checks",
        "A page, a ping or a command goes bad on one back-end: no new flows there, the old one goes on, until it is good.",
        run: healthChecks),
    Scenario(
        "sorry-server",
        "The back-end that stands by gets new connections only while both others fail their checks.",
        run: sorryServer),
    Scenario(
        "connection-thresholds",
        "Back-ends at their upper threshold get no more connections; the others do, and when all are full nobody.",
        run: connectionThresholds),
]

private let checkTimes = "interval: 150ms, timeout: 100ms, rise: 2, fall: 2"

private func healthChecks(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 1_000_000
    let directory = "/run/baton-lab/\(context.labName)"
    options.serviceSettings = [
        "checks:",
        "  - {kind: http, path: /health, status: 200, body: all is well, \(checkTimes)}",
        "  - {kind: ping, \(checkTimes)}",
        "  - {kind: tcp, \(checkTimes)}",
        "  - {kind: command, command: [\(directory)/check.sh], \(checkTimes)}",
    ]
    return try context.withLab(options) { lab in
        try writeFile(
            directory + "/check.sh", "#!/bin/sh\ntest ! -e \(directory)/broken-$BATON_BACKEND\n", mode: 0o700)
        for node in lab.plan.webNodes { try lab.setHealth(node, "all is well") }
        try lab.waitForChecks("all up") { $0.allSatisfy { $0.state == "up" } }
        let keepers = try (0..<3).map { _ in try LineClient(lab: lab, port: LabPlan.port) }
        guard let kept = try zip(keepers, lab.owners(of: keepers)).first(where: { $0.1 == "web2" })?.0 else {
            throw LabError.failed("none of three connections is on web2")
        }
        var figures: Figures = [:]
        let breakages: [(kind: String, breaks: () throws -> Void, mends: () throws -> Void)] = [
            ("http", { try lab.setHealth("web2", "something is wrong") }, { try lab.setHealth("web2", "all is well") }),
            (
                "ping", { try lab.setKernel("web2", ["net.ipv4.icmp_echo_ignore_all=1"]) },
                { try lab.setKernel("web2", ["net.ipv4.icmp_echo_ignore_all=0"]) }
            ),
            (
                "command", { try writeFile(directory + "/broken-web2", "") },
                { _ = unlink(directory + "/broken-web2") }
            ),
        ]
        for (kind, breaks, mends) in breakages {
            let broken = Instant.now()
            try breaks()
            try lab.waitForChecks("\(kind) of web2 down") { $0.state(kind, "web2") == "down" }
            figures["\(kind)_down_ms"] = .number((Instant.now() - broken).milliseconds)
            context.console.event("web2: \(kind) broken; its check is down")
            try expect(try !lab.servers(ofNew: 6).contains("web2"), "web2 got a new flow while its \(kind) check was down")
            try kept.send("GET /health HTTP/1.1\r\nHost: web\r\n\r\n")
            try expect(try kept.line().hasPrefix("HTTP/1.1 200"), "the connection that web2 had is not served")
            try kept.skipResponse()
            try mends()
            try lab.waitForChecks("\(kind) of web2 up") { $0.state(kind, "web2") == "up" }
            try expect(try lab.servers(ofNew: 6).contains("web2"), "web2 got no new flow after its \(kind) check was up")
        }
        try expect(try lab.takeovers().isEmpty, "a failed check was taken for the end of a back-end")
        return figures
    }
}

private func sorryServer(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 1_000_000
    options.serviceSettings = [
        "sorry: web3", "checks:", "  - {kind: http, path: /health, \(checkTimes)}",
    ]
    return try context.withLab(options) { lab in
        for node in lab.plan.webNodes { try lab.setHealth(node, "well") }
        try lab.waitForChecks("all up") { $0.allSatisfy { $0.state == "up" } }
        try expect(Set(try lab.servers(ofNew: 6)) == ["web1", "web2"], "the one that stands by was used too early")
        for node in ["web1", "web2"] { unlink(try lab.webDirectory(node) + "/health") }
        try lab.waitForChecks("web1 and web2 down") {
            $0.state("http", "web1") == "down" && $0.state("http", "web2") == "down"
        }
        context.console.event("web1 and web2 answer 404")
        try expect(Set(try lab.servers(ofNew: 4)) == ["web3"], "web3 does not stand in")
        try lab.setHealth("web1", "well")
        try lab.waitForChecks("web1 up") { $0.state("http", "web1") == "up" }
        try expect(Set(try lab.servers(ofNew: 4)) == ["web1"], "web3 goes on though web1 is back")
        return [:]
    }
}

private func connectionThresholds(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 1_000_000
    options.backendSettings = [["upper_threshold: 2"], ["upper_threshold: 3", "lower_threshold: 1"], ["upper_threshold: 4"]]
    return try context.withLab(options) { lab in
        let clients = try (0..<9).map { _ in try LineClient(lab: lab, port: LabPlan.port) }
        let owners = try lab.owners(of: clients)
        let counts = lab.plan.webNodes.map { name in owners.count { $0 == name } }
        try expect(counts == [2, 3, 4], "nine connections went \(counts), not 2, 3 and 4")
        let limits = try lab.directorStatus()["limits"]?.array.first
        let full = (limits?["full"]?.array ?? []).compactMap(\.string)
        try expect(full.sorted() == lab.plan.webNodes, "the status calls \(full) full")
        // A tenth is refused: its SYN is dropped, and so curl waits in vain.
        let tenth = try lab.run(
            in: "client", command: ["curl", "-s", "--connect-timeout", "1", "http://\(lab.target)/large.bin"], timeout: 5)
        try expect(tenth.status == .exited(28), "the tenth connection was not refused: \(tenth.status)")
        return ["connections": .integer(Int64(clients.count))]
    }
}

// MARK: Tools

/// What the status says of one check.
struct CheckStatus {
    var kind: String
    var backend: String
    var state: String
}

extension [CheckStatus] {
    func state(_ kind: String, _ backend: String) -> String? {
        first { $0.kind == kind && $0.backend == backend }?.state
    }
}

extension Lab {
    /// Writes the page that the checks ask for.
    func setHealth(_ node: String, _ text: String) throws {
        try writeFile(try webDirectory(node) + "/health", text + "\n")
    }

    func waitForChecks(_ what: String, _ holds: ([CheckStatus]) -> Bool) throws {
        try waitUntil("checks: \(what)", timeout: 5, every: 20) {
            let shown = try directorStatus()["checks"]?.array ?? []
            let checks = shown.map { check in
                CheckStatus(
                    kind: check["kind"]?.string ?? "", backend: check["backend"]?.string ?? "",
                    state: check["state"]?.string ?? "")
            }
            return !checks.isEmpty && holds(checks)
        }
        // The plan follows on another thread.
        pause(milliseconds: 50)
    }

    /// The back-ends of so many new connections, which end again.
    func servers(ofNew count: Int) throws -> [String] {
        try owners(of: (0..<count).map { _ in try LineClient(lab: self, port: LabPlan.port) })
    }
}

extension LineClient {
    /// Reads an HTTP/1.1 reply with a Content-Length to its end; its status line was read.
    fileprivate func skipResponse() throws {
        var length = 0
        while true {
            let line = try line()
            if line == "\r\n" { break }
            if line.lowercased().hasPrefix("content-length:") {
                length = Int(line.dropFirst(15).filter { $0.isNumber }) ?? 0
            }
        }
        var body = 0
        while body < length { body += try line().utf8.count }
    }
}
