import Glibc
import Model

/// The ring: several failures close together, and back-ends that come back.
let ringScenarios: [Scenario] = [
    Scenario(
        "two-die-one-after-the-other",
        "N = 2: the server of a download dies, then the backup that took it over: the second backup goes on.",
        run: oneAfterTheOther),
    Scenario(
        "two-die-at-once",
        "N = 2: the server of a download and its first backup die at the same moment: the second backup goes on.",
        run: atOnce),
    Scenario(
        "three-die-at-once",
        "N = 3: the server of a download and two backups die at the same moment: the third backup goes on.",
        run: threeAtOnce),
    Scenario(
        "owner-dies-in-takeover",
        "N = 2: the backup dies while it takes 300 downloads over: the second backup goes on with them all.",
        alone: true, run: ownerDies),
    Scenario(
        "revive-keeps-flows",
        "A server comes back while its old downloads go on at the backup: they stay there, new flows come to it.",
        run: reviveKeepsFlows),
    Scenario(
        "partition-director-agent",
        "Director and one agent do not hear each other, the agents do: one take-over, one server at any time.",
        run: partitionFromDirector),
    Scenario(
        "partition-agents",
        "Two agents do not hear each other, the director hears both: no take-over, nobody stalls.",
        alone: true, run: partitionOfAgents),
]

private func twoBackups(_ size: Int) -> LabOptions {
    var options = LabOptions()
    options.backups = 2
    options.fileSize = size
    return options
}

extension Lab {
    /// The back-ends that follow one on the ring.
    func successors(of node: String) -> [String] {
        let ring = plan.webNodes
        let place = ring.firstIndex(of: node) ?? 0
        return (1..<ring.count).map { ring[(place + $0) % ring.count] }
    }

    /// Drops what two nodes send each other, at the receiver's interface, until the lab is taken down or `healed`.
    func partition(_ node: String, from other: String) throws {
        try Requirements.require("nft", from: "nftables")
        for (here, there) in [(node, other), (other, node)] {
            let address = plan.address(of: there)?.description ?? ""
            let rules =
                "table netdev lab_partition { chain cut { type filter hook ingress device eth0 priority -300; "
                + "ip saddr \(address) drop; }; }"
            try require(Topology.enter(plan, here, ["nft", rules]))
        }
    }

    func heal(_ node: String, from other: String) throws {
        for name in [node, other] {
            try require(Topology.enter(plan, name, ["nft", "delete", "table", "netdev", "lab_partition"]))
        }
    }
}

private func oneAfterTheOther(_ context: ScenarioContext) throws -> Figures {
    try context.withLab(twoBackups(120_000_000)) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 20_000_000)
        let victim = try lab.server(ofClientPort: port)
        let first = try lab.kill(victim, how: .power)
        context.console.event("\(victim): power lost")
        let report = try lab.settledTakeover(of: victim, after: first)
        try waitUntil("more of the download", timeout: 20) { download.bytes > 70_000_000 || download.isFinished }
        let second = try lab.kill(report.backup, how: .power)
        context.console.event("\(report.backup): power lost too, \(byteText(download.bytes)) have arrived")
        let next = try lab.settledTakeover(of: report.backup, after: second)
        let result = try download.result(timeout: 60)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        var figures = next.figures(failure: second)
        figures["stall_ms"] = .number(result.stall(after: first))
        return figures
    }
}

private func atOnce(_ context: ScenarioContext) throws -> Figures {
    try context.withLab(twoBackups(100_000_000)) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 40_000_000)
        let victim = try lab.server(ofClientPort: port)
        let successors = lab.successors(of: victim)
        let failure = try lab.kill(victim, how: .power)
        try lab.kill(successors[0], how: .power)
        context.console.event("\(victim) and \(successors[0]): power lost")
        let result = try download.result(timeout: 60)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        let flow = try lab.takeovers().first { $0.backup == successors[1] && $0.adopted > 0 }
        try expect(flow != nil, "\(successors[1]) has taken nothing over")
        return ["stall_ms": .number(result.stall(after: failure))]
    }
}

private func threeAtOnce(_ context: ScenarioContext) throws -> Figures {
    var options = twoBackups(60_000_000)
    options.backups = 3
    options.backends = 4
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 20_000_000)
        let victim = try lab.server(ofClientPort: port)
        let others = lab.successors(of: victim)
        let failure = try lab.kill(victim, how: .power)
        for node in others.prefix(2) { try lab.kill(node, how: .power) }
        context.console.event("\(victim), \(others[0]) and \(others[1]): power lost")
        let result = try download.result(timeout: 60)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        let flow = try lab.takeovers().first { $0.backup == others[2] && $0.adopted > 0 }
        try expect(flow != nil, "\(others[2]) has taken nothing over")
        return ["stall_ms": .number(result.stall(after: failure))]
    }
}

private func ownerDies(_ context: ScenarioContext) throws -> Figures {
    try context.withLab(twoBackups(300_000)) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        var request = BulkDownload.Request()
        // So many that the take-over is not done before the next blow.
        request.count = 900
        request.rate = 50_000
        request.receiveBuffer = 16_384
        let bulk = try BulkDownload(lab: lab, request)
        defer { bulk.cancel() }
        let (victim, hit) = try waitForSpread(bulk, lab, total: 900 * 60_000)
        let heir = lab.successors(of: victim)[0]
        let failure = try lab.kill(victim, how: .power)
        // The log says it at once; asking by batonctl would take as long as the take-over.
        try waitUntil("the order to \(heir)", timeout: 5, every: 1) {
            (readFile(lab.plan.log("director", "director")) ?? "").contains("\(heir) is ordered to take over from \(victim)")
        }
        let second = try lab.kill(heir, how: .power)
        context.console.event("\(victim), then \(heir): power lost; \(hit.count) downloads were on the first")
        let results = try bulk.results(timeout: 60)
        let wrong = results.filter { !$0.matches(file) }
        try expect(wrong.isEmpty, "\(wrong.count) of 900 downloads are wrong: \(wrong.first?.error ?? "")")
        let finished = try lab.takeovers().contains { report in
            report.backup == heir && report.settledNs.map { $0 < second.nanoseconds } ?? false
        }
        return [
            "stall_ms_longest": .number(results.map { $0.stall(after: failure) }.max() ?? 0),
            "second_death_ms_after_first": .number((second - failure).milliseconds),
            "first_takeover_had_settled": .boolean(finished),
        ]
    }
}

private func reviveKeepsFlows(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 120_000_000
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let small = try lab.publish("/small.bin", size: 20_000, seed: 9)
        let download = try Download(lab: lab, Download.Request(rate: 12_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 12_000_000)
        let victim = try lab.server(ofClientPort: port)
        let failure = try lab.kill(victim, how: .power)
        let report = try lab.settledTakeover(of: victim, after: failure)
        try lab.revive(victim)
        try lab.waitUntilLive()
        context.console.event("\(victim): back; the download is at \(report.backup)")
        pause(milliseconds: 500)
        let servers = try lab.servers(ofClientPorts: [port])[port] ?? []
        try expect(servers == [report.backup], "the download is on \(servers), not on \(report.backup) alone")
        var request = BulkDownload.Request()
        request.count = 30
        request.path = small.path
        let bulk = try BulkDownload(lab: lab, request)
        defer { bulk.cancel() }
        let wrong = try bulk.results(timeout: 20).filter { !$0.matches(small) }
        try expect(wrong.isEmpty, "\(wrong.count) new downloads failed: \(wrong.first?.error ?? "")")
        let log = readFile("\(lab.plan.directory)/\(victim)/nginx/access.log") ?? ""
        let served = log.split(separator: "\n").count { $0.contains("/small.bin") }
        try expect(served > 0, "the revived \(victim) got no new flow")
        let result = try download.result(timeout: 60)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        return ["stall_ms": .number(result.stall(after: failure)), "served_by_revived": .integer(Int64(served))]
    }
}

// MARK: Partitions

/// The director cannot tell it from a death, and orders the backup, which stops echoing and fences or waits.
private func partitionFromDirector(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 120_000_000
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 40_000_000)
        let victim = try lab.server(ofClientPort: port)
        let cut = Instant.now()
        try lab.partition(victim, from: "director")
        context.console.event("\(victim) and the director do not hear each other")
        let report = try lab.settledTakeover(of: victim, after: cut)
        let status = try lab.agentStatus(victim)
        try expect(status["fenced"] == .boolean(true), "\(victim) is not fenced after \(report.backup) took over")
        let servers = try lab.servers(ofClientPorts: [port])[port] ?? []
        try expect(servers == [report.backup], "the connection is on \(servers), not on \(report.backup) alone")
        try lab.heal(victim, from: "director")
        try lab.waitUntilLive()
        let result = try download.result(timeout: 60)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        var figures = report.figures(failure: cut)
        figures["stall_ms"] = .number(result.stall(after: cut))
        return figures
    }
}

private func partitionOfAgents(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 120_000_000
    // Nothing has to be detected here, and no busy machine's late heartbeat shall be taken for what it is not.
    options.heartbeatWindowMilliseconds = 500
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 40_000_000)
        let server = try lab.server(ofClientPort: port)
        let backup = lab.successors(of: server)[0]
        let cut = Instant.now()
        try lab.partition(server, from: backup)
        context.console.event("\(server) and its backup \(backup) do not hear each other")
        pause(milliseconds: 2000)
        try expect(lab.takeovers().isEmpty, "there was a take-over")
        let servers = try lab.servers(ofClientPorts: [port])[port] ?? []
        try expect(servers == [server], "the connection is on \(servers)")
        try lab.heal(server, from: backup)
        let result = try download.result(timeout: 60)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        try expect(lab.takeovers().isEmpty, "there was a take-over")
        return ["stall_ms": .number(result.stall(after: cut))]
    }
}
