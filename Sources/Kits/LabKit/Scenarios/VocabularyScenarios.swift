import Glibc
import Model

/// batonctl in ipvsadm's words.
let vocabularyScenarios: [Scenario] = [
    Scenario(
        "ipvsadm-words",
        "Services and servers added, edited, listed and taken away by ipvsadm's options under a download; what runs is "
            + "saved, restored, written and found again by a restarted director.",
        run: vocabulary)
]

private let second = "192.0.2.101:80"

private func vocabulary(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 60_000_000
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let small = try lab.publish("/small.bin", size: 20_000, seed: 9)
        let download = try Download(lab: lab, Download.Request(rate: 8_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 500_000)
        try edits(lab, small)
        context.console.event("services and servers edited")
        try listings(lab, small, port)
        context.console.event("listed and set to zero")
        try saving(lab, context)
        let result = try download.result(timeout: 30)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        return ["bytes": .integer(Int64(result.bytes))]
    }
}

extension Lab {
    /// Runs a change that must be applied.
    fileprivate func changed(_ arguments: [String], to changes: [String]) throws {
        let report = try changeReport(arguments)
        try expect(
            report.succeeded && report.applied && report.changes == changes,
            "batonctl \(arguments.joined(separator: " ")): \(report)")
    }

    fileprivate func listing(_ options: [String]) throws -> [String] {
        let result = try batonctl(["list"] + options)
        try expect(result.status.isSuccess, "batonctl list \(options): \(result.errors)")
        return result.output.split(separator: "\n").map { line in
            line.split(separator: " ").joined(separator: " ")
        }
    }

    fileprivate func service(_ name: String) throws -> JSONValue {
        let list = try JSONValue(text: try batonctl(["list", "--json"]).output)
        guard let found = list["services"]?.array.first(where: { $0["name"]?.string == name }) else {
            throw LabError.failed("the list lacks \(name)")
        }
        return found
    }
}

private func edits(_ lab: Lab, _ small: PublishedFile) throws {
    try lab.changed(
        ["service", "add", "second", "-t", second, "-s", "wlc", "-p", "--replay", "stream"],
        to: [
            "+ service second: address \(second), policy wlc, persistence {timeout: 5m, netmask: 32, netmask_ipv6: 128}, "
                + "replay stream"
        ])
    try lab.waitUntilServed(second, file: small)
    try lab.changed(
        ["service", "edit", "-t", second, "-s", "sh", "-b", "sh-port", "-p", "60", "-M", "255.255.255.0"],
        to: [
            "~ service second: policy wlc -> {name: sh, port: true}, persistence.timeout 5m -> 1m, "
                + "persistence.netmask 32 -> 24"
        ])
    try lab.fetch(second, file: small)
    try lab.changed(["server", "edit", "web3", "-w", "7"], to: ["~ server web3: weight 1 -> 7"])
    let listed = try lab.listing(["-n"])
    try expect(
        listed.contains("TCP \(second) sh sh-port persistent 60 mask 24 replay stream"),
        "list says: \(listed.joined(separator: "; "))")
    try expect(
        listed.contains { $0.hasPrefix("-> 192.0.2.13:80 Route 7 ") }, "list says: \(listed.joined(separator: "; "))")
    // All of it or nothing: the second setting is wrong.
    let wrong = try lab.changeReport(["service", "edit", "second", "-s", "rr", "--set", "forwarding=nonsense"])
    try expect(!wrong.succeeded && wrong.error?.contains("forwarding") == true, "a wrong edit: \(wrong)")
    let dry = try lab.changeReport(["service", "del", "second", "--dry-run"])
    try expect(dry.succeeded && !dry.applied, "a dry run: \(dry)")
    try expect(try lab.service("second")["scheduler"]?.string == "sh", "a refused edit has changed something")
    try lab.changed(
        ["set", "900", "120", "0"],
        to: ["~ service web: timeouts.tcp 1h -> 15m", "~ service second: timeouts.tcp 1h -> 15m"])
}

private func listings(_ lab: Lab, _ small: PublishedFile, _ port: UInt16) throws {
    let listed = try lab.listing([])
    try expect(
        listed.prefix(2) == [
            "Prot LocalAddress:Port Scheduler Flags", "-> RemoteAddress:Port Forward Weight ActiveConn InActConn",
        ], "list says: \(listed)")
    let servers = try lab.service("web")["servers"]?.array ?? []
    let active = servers.reduce(0) { $0 + ($1["active"]?.integer ?? 0) }
    try expect(active >= 1, "nobody has an active connection: \(servers)")
    try waitUntil("a rate of the download", timeout: 6, every: 200) {
        let rate = try lab.service("web")["rate"]
        return (rate?["in_pps"]?.integer ?? 0) > 0 && (rate?["in_bps"]?.integer ?? 0) > 0
    }
    try lab.fetch(second, file: small)
    let before = try lab.service("second")["stats"]?["conns"]?.integer ?? 0
    try expect(before >= 2, "\(before) connections are counted")
    try expect(try lab.batonctl(["zero", "second"]).status.isSuccess, "zero failed")
    try expect(try lab.service("second")["stats"]?["conns"]?.integer == 0, "zero has set nothing to zero")
    try expect(try lab.service("web")["stats"]?["conns"]?.integer ?? 0 > 0, "zero of one service was that of all")
    try expect(try lab.listing(["--rate"]).first == "Prot LocalAddress:Port CPS InPPS OutPPS InBPS OutBPS", "--rate")
    let flows = try lab.batonctl(["list", "--connections", "--numeric"]).output.split(separator: "\n")
    let source = "\(LabPlan.clientAddress):\(port)"
    try expect(
        flows.contains { line in
            line.hasPrefix("TCP") && line.contains(" ESTABLISHED ") && line.contains(source)
                && line.contains("\(LabPlan.virtualAddress):80")
        }, "the download is not in the flow table: \(flows.prefix(5))")
}

/// What runs as a file: printed, restored, written, and read by the next director.
private func saving(_ lab: Lab, _ context: ScenarioContext) throws {
    let saved = try lab.batonctl(["save"])
    try expect(saved.status.isSuccess && saved.output.contains("name: second"), "save: \(saved.output)\(saved.errors)")
    let copy = lab.plan.directory + "/saved.yaml"
    try writeFile(copy, saved.output)
    try lab.changed(["service", "del", "second"], to: ["- service second: \(second)"])
    try lab.changed(["server", "del", "-r", "192.0.2.13"], to: ["- server web3: 192.0.2.13"])
    let restored = try lab.changeReport(["restore", copy])
    try expect(restored.applied && restored.changes.count == 2, "restore: \(restored)")
    try expect(try lab.batonctl(["save"]).output == saved.output, "what was restored is not what was saved")
    let dry = try lab.changeReport(["reload", "--dry-run"])
    try expect(dry.changes.count >= 2, "the file was changed by a mere restore: \(dry)")
    let former = try lab.directorFile()
    let written = try lab.batonctl(["save", "--write"])
    try expect(written.status.isSuccess, "save --write: \(written.errors)")
    try expect(readFile(lab.plan.directorConfiguration + ".bak") == former, "the backup is not what the file was")
    let again = try lab.changeReport(["reload"])
    try expect(again.succeeded && again.changes.isEmpty, "a reload after save --write: \(again)")
    try expect(try lab.signal("director", role: "director", SIGKILL), "the director was not running")
    try lab.startDaemon("director")
    try lab.waitUntilLive()
    try expect(try lab.batonctl(["save"]).output == saved.output, "a restarted director has another configuration")
    context.console.event("saved, restored, written, and found again after a restart")
}
