import Glibc
import Model

/// `fence: command`: a script that stands for a power switch.
let fenceScenarios: [Scenario] = [
    Scenario(
        "fence-command",
        "A cut server is not taken over while the fence script fails or hangs, and is once it succeeds.",
        run: fenceCommand)
]

private func fenceCommand(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 160_000_000
    // The work directory has the lab's name, and is made by `up`.
    let directory = "/run/baton-lab/\(context.labName)"
    options.directorLines = ["fence:", "  command: [\(directory)/fence.sh, power-off]", "  timeout: 500ms"]
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        try writeScript("exit 3", directory)
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 20_000_000)
        let victim = try lab.server(ofClientPort: port)
        for (number, last) in ["exit 3", "sleep 60"].enumerated() {
            try writeScript(last, directory)
            try lab.kill(victim, how: .link)
            context.console.event("\(victim): cable cut; the script says: \(last)")
            try expectFailure(number + 1, victim, lab)
            try expectCall(directory, victim, lab)
            // The cable is mended: the same life goes on, and the client with it.
            try lab.revive(victim)
            try lab.waitUntilLive()
            let bytes = download.bytes
            try waitUntil("more of the download", timeout: 10) { download.bytes > bytes + 1_000_000 }
        }
        try writeScript("exit 0", directory)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut; the script says: exit 0")
        let report = try lab.settledTakeover(of: victim, after: failure)
        try expectCall(directory, victim, lab)
        let result = try download.result(timeout: 60)
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        return report.figures(failure: failure)
    }
}

private func writeScript(_ last: String, _ directory: String) throws {
    // ls itself has the directory open as 3: anything above was inherited from the daemon.
    let list = "ls /proc/self/fd | tr '\\n' ' ' > \(directory)/fence.fds"
    let script = "#!/bin/sh\necho \"$@\" > \(directory)/fence.txt\n\(list)\n\(last)\n"
    try writeFile(directory + "/fence.sh", script, mode: 0o700)
}

private func expectFailure(_ number: Int, _ victim: String, _ lab: Lab) throws {
    try waitUntil("failure \(number) of the fence command in the status", timeout: 5, every: 20) {
        let failures = try lab.directorStatus()["counters"]?["fence_failures"]?.integer
        return try lab.backendState(victim) == "fence-failed" && failures == number
    }
    pause(milliseconds: 300)
    try expect(lab.takeovers().isEmpty, "there was a take-over in spite of the failure")
}

private func expectCall(_ directory: String, _ victim: String, _ lab: Lab) throws {
    let address = lab.plan.address(of: victim)?.description ?? ""
    let said = (readFile(directory + "/fence.txt") ?? "").trimmedLines
    let inherited = (readFile(directory + "/fence.fds") ?? "").split(separator: " ")
    try expect(inherited == ["0", "1", "2", "3"], "the script has inherited descriptors of the daemon: \(inherited)")
    try expect(said == "power-off \(victim) \(address)", "the script was called with \"\(said)\"")
}
