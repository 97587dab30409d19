import Glibc
import Model

/// The director's configuration changed while it runs.
let reloadScenarios: [Scenario] = [
    Scenario(
        "reload",
        "Services and a weight changed by SIGHUP and by `batonctl reload` under downloads: these go on; a bad file, one "
            + "that needs a restart and one that cannot be carried out change nothing.",
        run: reload)
]

extension Lab {
    /// The director's configuration file.
    func directorFile() throws -> String {
        guard let text = readFile(plan.directorConfiguration) else { throw LabError.failed("no configuration file") }
        return text
    }

    func writeDirectorFile(_ text: String) throws { try writeFile(plan.directorConfiguration, text) }

    /// `batonctl reload`, or another command that answers with a report of changes.
    func changeReport(_ arguments: [String]) throws -> ChangeOutcome {
        let result = try batonctl(arguments + ["--json"])
        guard let report = try? JSONValue(text: result.output) else {
            throw LabError.failed("batonctl \(arguments.joined(separator: " ")): \(result.output) \(result.errors)")
        }
        return ChangeOutcome(
            succeeded: result.status.isSuccess,
            applied: report["applied"]?.boolean ?? false,
            undone: report["undone"]?.boolean ?? false,
            changes: report["changes"]?.array.compactMap(\.string) ?? [],
            error: report["failure"]?.string
        )
    }

    /// One small reply of a service.
    func fetch(_ address: String, file: PublishedFile) throws {
        let download = try Download(lab: self, Download.Request(url: "http://\(address)\(file.path)"))
        defer { download.cancel() }
        let result = try download.result(timeout: 5)
        try expect(result.matches(file), "\(address): \(result.bytes) of \(file.size) bytes; \(result.error)")
    }

    /// Until a service has new flows: its applications have been checked.
    func waitUntilServed(_ address: String, file: PublishedFile) throws {
        try waitUntil("\(address) to be served", timeout: 5, every: 50) { (try? fetch(address, file: file)) != nil }
    }

    func serviceNames() throws -> [String] {
        try directorStatus()["services"]?.array.compactMap { $0["name"]?.string } ?? []
    }
}

struct ChangeOutcome {
    var succeeded: Bool
    var applied: Bool
    var undone: Bool
    var changes: [String]
    var error: String?
}

private let secondAddress = "192.0.2.101:80"

private func reload(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 80_000_000
    options.policy = "wrr"
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let small = try lab.publish("/small.bin", size: 20_000, seed: 9)
        let download = try Download(lab: lab, Download.Request(rate: 12_000_000))
        defer { download.cancel() }
        _ = try lab.connected(download, bytes: 1_000_000)
        let before = try lab.directorFile()
        let start = Instant.now()
        try addAndRemove(lab, context, before, small)
        try refusals(lab, context, before, small)
        let result = try download.result(timeout: 30)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        try expect(try lab.takeovers().isEmpty, "there was a take-over")
        return ["stall_ms": .number(result.stall(after: start)), "changes": .integer(6)]
    }
}

/// A second service on a VIP of its own comes by SIGHUP, a weight changes by `batonctl reload`, the service goes.
private func addAndRemove(_ lab: Lab, _ context: ScenarioContext, _ before: String, _ small: PublishedFile) throws {
    let added = before.replacing(
        "backends:\n", with: "  - name: second\n    address: \(secondAddress)\n    replay: stream\nbackends:\n")
    try lab.writeDirectorFile(added)
    let dry = try lab.changeReport(["reload", "--dry-run"])
    try expect(dry.succeeded && !dry.applied && dry.changes.count == 1, "dry run: \(dry)")
    try expect(try lab.serviceNames() == ["web"], "a dry run has changed something")
    try expect(try lab.signal("director", role: "director", SIGHUP), "the director was not running")
    try lab.waitUntilServed(secondAddress, file: small)
    context.console.event("a service added by SIGHUP is served")
    // A download of its own, over the removal of nothing but a weight.
    try lab.writeDirectorFile(
        added.replacing("  - name: web1\n", with: "  - name: web1\n    weight: 0\n", maxReplacements: 1))
    let weight = try lab.changeReport(["reload"])
    try expect(weight.applied && weight.changes == ["~ server web1: weight 1 -> 0"], "reload: \(weight)")
    let flows = try lab.directorFlows()["flows"]?.array ?? []
    try expect(!flows.isEmpty, "the flows are gone")
    for _ in 0..<4 { try lab.fetch(LabPlan.virtualAddress.description, file: small) }
    try lab.writeDirectorFile(before)
    let removed = try lab.changeReport(["reload"])
    try expect(removed.applied && removed.changes.count == 2, "reload: \(removed)")
    let addresses = try lab.run(in: "director", command: ["ip", "-o", "address", "show", "dev", "eth0"]).output
    try expect(!addresses.contains("192.0.2.101"), "the VIP of a service that is gone is still there")
    let again = try lab.changeReport(["reload"])
    try expect(again.succeeded && !again.applied && again.changes.isEmpty, "a reload of nothing new: \(again)")
    context.console.event("a weight changed, and the service removed, by batonctl reload")
}

/// All of it or nothing.
private func refusals(_ lab: Lab, _ context: ScenarioContext, _ before: String, _ small: PublishedFile) throws {
    let good = "  - name: second\n    address: \(secondAddress)\n"
    let cases: [(name: String, text: String)] = [
        ("a fault", before.replacing("backends:\n", with: good + "    policy: nonsense\nbackends:\n")),
        (
            "a key that needs a restart",
            before.replacing("backends:\n", with: good + "backends:\n").replacing("window: 50ms", with: "window: 80ms")
        ),
        // IPv6 is off at the interface: the address cannot be put there, when the service before it has been.
        (
            "a step that fails",
            before.replacing(
                "backends:\n", with: good + "  - name: third\n    address: \"[2001:db8::101]:80\"\nbackends:\n")
        ),
    ]
    try lab.setKernel("director", ["net.ipv6.conf.eth0.disable_ipv6=1"])
    for (name, text) in cases {
        try lab.writeDirectorFile(text)
        let report = try lab.changeReport(["reload"])
        try expect(!report.succeeded && !report.applied, "\(name) was applied: \(report)")
        try expect(report.error != nil, "\(name): nothing is said: \(report)")
        try expect(report.undone == (name == "a step that fails"), "\(name): \(report)")
        try expect(try lab.serviceNames() == ["web"], "\(name) has changed the services")
        let addresses = try lab.run(in: "director", command: ["ip", "-o", "address", "show", "dev", "eth0"]).output
        try expect(!addresses.contains("192.0.2.101"), "\(name) has left a VIP")
        try lab.fetch(LabPlan.virtualAddress.description, file: small)
        context.console.event("\(name) is refused, and nothing is changed: \(report.error ?? "")")
    }
    try lab.writeDirectorFile(before)
    let checked = try runCommand([lab.programs + "/baton-director", "--check", "/nonexistent.yaml"])
    try expect(checked.status == .exited(78), "--check of no file: \(checked.status)")
}
