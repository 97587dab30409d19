import Glibc
import Model

/// `fence: command`: a script that stands for a power switch.
let fenceScenarios: [Scenario] = [
    Scenario(
        "fence-command",
        "A cut server is taken over after the fence script has succeeded, and not while it fails or hangs.",
        run: fenceCommand)
]

private func fenceCommand(_ context: ScenarioContext) throws -> Figures {
    var figures: Figures = [:]
    for outcome in ["succeeds", "fails", "hangs"] {
        context.console.line("a script that \(outcome)")
        for (name, value) in try run(context, outcome) { figures["\(outcome)_\(name)"] = value }
    }
    return figures
}

private func run(_ context: ScenarioContext, _ outcome: String) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 100_000_000
    // The work directory has the lab's name, and is made by `up`.
    let directory = "/run/baton-lab/\(context.labName)"
    options.directorLines = ["fence:", "  command: [\(directory)/fence.sh, power-off]", "  timeout: 1s"]
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        let last = ["succeeds": "exit 0", "fails": "exit 3", "hangs": "sleep 60"][outcome] ?? ""
        // ls itself has the directory open as 3: anything above was inherited from the daemon.
        let list = "ls /proc/self/fd | tr '\\n' ' ' > \(directory)/fence.fds"
        let script = "#!/bin/sh\necho \"$@\" >> \(directory)/fence.txt\n\(list)\n\(last)\n"
        try writeFile(directory + "/fence.sh", script, mode: 0o700)
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 20_000_000)
        let victim = try lab.server(ofClientPort: port)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut")
        if outcome == "succeeds" {
            let report = try lab.settledTakeover(of: victim, after: failure)
            let result = try download.result(timeout: 60)
            try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
            try expectCall(directory, victim, lab)
            return report.figures(failure: failure)
        }
        try waitUntil("the fence command's failure in the status", timeout: 5, every: 20) {
            try lab.backendState(victim) == "fence-failed"
        }
        pause(milliseconds: 500)
        try expect(lab.takeovers().isEmpty, "there was a take-over in spite of the failure")
        try expectCall(directory, victim, lab)
        let counters = try lab.directorStatus()["counters"]
        try expect(counters?["fence_failures"]?.integer == 1, "the failure is not counted")
        // The cable is mended: the same life goes on, and the client with it.
        try lab.revive(victim)
        let result = try download.result(timeout: 60)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        return ["stall_ms": .number(result.stall(after: failure))]
    }
}

private func expectCall(_ directory: String, _ victim: String, _ lab: Lab) throws {
    let address = lab.plan.address(of: victim)?.description ?? ""
    let said = (readFile(directory + "/fence.txt") ?? "").trimmedLines
    let inherited = (readFile(directory + "/fence.fds") ?? "").trimmedLines
    try expect(inherited == "0 1 2 3", "the script has inherited descriptors of the daemon: \(inherited)")
    try expect(said == "power-off \(victim) \(address)", "the script was called with \"\(said)\"")
}
