import Glibc
import Model

/// The forwarding modules `duplicate`, `multicast`, `selective` and, while nothing fails, `owner`.
let forwardingScenarios: [Scenario] = [
    Scenario(
        "forwarding-methods",
        "A download survives a cut cable under each forwarding method, and with the method changed four times under "
            + "it; the counters say which way its frames went.",
        run: forwardingMethods)
]

private func forwardingMethods(_ context: ScenarioContext) throws -> Figures {
    var figures: Figures = [:]
    for method in ["duplicate", "multicast", "selective"] {
        context.console.line("method \(method)")
        var options = LabOptions()
        options.forwarding = method
        for (name, value) in try context.withLab(options, { try survive($0, context, method) }) {
            figures["\(name)_\(method)"] = value
        }
    }
    context.console.line("method changed at run time")
    for (name, value) in try context.withLab(LabOptions(), { try change($0, context) }) {
        figures["\(name)_changed"] = value
    }
    return figures
}

// MARK: Counters

/// What the director says of the lab's service.
private struct Forwarding {
    var method: String
    var toOwner: Int
    var toGroup: Int
    var copies: Int
    var notCopied: Int

    init(_ lab: Lab) throws {
        let status = try lab.directorStatus()["services"]?.array.first
        guard let method = status?["forwarding"]?.string, let toOwner = status?["frames_to_owner"]?.integer,
            let toGroup = status?["frames_to_group"]?.integer, let copies = status?["copies"]?.integer,
            let notCopied = status?["frames_not_copied"]?.integer
        else { throw LabError.failed("the director's status lacks the service's counters") }
        self.method = method
        self.toOwner = toOwner
        self.toGroup = toGroup
        self.copies = copies
        self.notCopied = notCopied
    }

    /// What came since.
    func since(_ former: Forwarding) -> Forwarding {
        var difference = self
        difference.toOwner -= former.toOwner
        difference.toGroup -= former.toGroup
        difference.copies -= former.copies
        difference.notCopied -= former.notCopied
        return difference
    }

    /// A machine that is busy joins many segments before it acknowledges them.
    private static let enough = 20

    /// Throws unless these frames went the way of the method. With N = 1 a group has two members: owner and backup.
    func check(_ expected: String) throws {
        let text =
            "\(method): \(toOwner) to the owner, \(toGroup) to the group, \(copies) copies, \(notCopied) not copied"
        try expect(method == expected, "the director says \(text); expected \(expected)")
        switch expected {
        case "duplicate":
            try expect(toOwner == 0 && toGroup > Self.enough, text)
            // Segments with data may have been joined before they were copied; a download's are ACKs. Just after the
            // ring has changed, a former backup may be a third member.
            try expect(copies > toGroup * 2 * 9 / 10 && copies <= toGroup * 3, text)
        case "owner": try expect(toOwner > Self.enough && toGroup == 0 && copies == 0, text)
        case "multicast": try expect(toOwner == 0 && toGroup > Self.enough && copies == 0, text)
        case _: try expect(toOwner > Self.enough && toGroup < toOwner && copies == 0, text)
        }
    }

    var figures: Figures {
        [
            "to_owner": .integer(Int64(toOwner)), "to_group": .integer(Int64(toGroup)),
            "copies": .integer(Int64(copies)), "not_copied": .integer(Int64(notCopied)),
        ]
    }
}

/// A slot may settle before the backup has reported its connections.
private func expectOneAdoption(_ lab: Lab, of victim: String, after failure: Instant) throws {
    try waitUntil("the backup's report of one adopted connection", timeout: 5, every: 20) {
        try lab.takeover(of: victim, after: failure)?.adopted == 1
    }
}

// MARK: One method

private func survive(_ lab: Lab, _ context: ScenarioContext, _ method: String) throws -> Figures {
    guard let file = lab.file() else { throw LabError.failed("no file") }
    let download = try Download(lab: lab, Download.Request(rate: 40_000_000))
    defer { download.cancel() }
    let port = try lab.connected(download, bytes: file.size / 4)
    try Forwarding(lab).check(method)
    let victim = try lab.server(ofClientPort: port)
    _ = try lab.connected(download, bytes: file.size / 2)
    let failure = try lab.kill(victim, how: .link)
    context.console.event("\(victim): cable cut with \(byteText(download.bytes)) done")
    _ = try lab.settledTakeover(of: victim, after: failure)
    let settled = try Forwarding(lab)
    let result = try download.result(timeout: 60)
    try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
    try expectOneAdoption(lab, of: victim, after: failure)
    let final = try Forwarding(lab)
    // The taken-over slot's owner and its backup are members as before.
    try final.since(settled).check(method)
    var figures = final.figures
    figures["stall_ms"] = .number(result.stall(after: failure))
    return figures
}

// MARK: Changes

private func change(_ lab: Lab, _ context: ScenarioContext) throws -> Figures {
    guard let file = lab.file() else { throw LabError.failed("no file") }
    let download = try Download(lab: lab, Download.Request(rate: 30_000_000))
    defer { download.cancel() }
    let port = try lab.connected(download, bytes: file.size / 10)
    let victim = try lab.server(ofClientPort: port)
    try Forwarding(lab).check("selective")
    var figures: Figures = [:]
    // The last of them is in force when the server fails.
    for (method, share) in [("multicast", 3), ("owner", 4), ("selective", 5), ("duplicate", 7)] {
        try lab.setForwarding(of: "web", method)
        context.console.event("\(method) with \(byteText(download.bytes)) done")
        pause(milliseconds: 100)
        let before = try Forwarding(lab)
        _ = try lab.connected(download, bytes: file.size * share / 10)
        let after = try Forwarding(lab).since(before)
        try after.check(method)
        for (name, value) in after.figures { figures["\(name)_\(method)"] = value }
    }
    let failure = try lab.kill(victim, how: .link)
    context.console.event("\(victim): cable cut with \(byteText(download.bytes)) done")
    _ = try lab.settledTakeover(of: victim, after: failure)
    try refuse(lab)
    let result = try download.result(timeout: 60)
    try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
    try expectOneAdoption(lab, of: victim, after: failure)
    figures["stall_ms"] = .number(result.stall(after: failure))
    try restart(lab)
    return figures
}

/// What does not exist is refused, and changes nothing.
private func refuse(_ lab: Lab) throws {
    let mistakes = [("web", "triplicate", "duplicate, multicast, owner, selective"), ("wob", "multicast", "web")]
    for (service, method, said) in mistakes {
        do {
            try lab.setForwarding(of: service, method)
        } catch {
            try expect("\(error)".contains(said), "\(service) \(method): \(error)")
            continue
        }
        throw LabError.failed("\(service) \(method) was not refused")
    }
    try expect(try Forwarding(lab).method == "duplicate", "a refused change has changed the method")
}

/// A new life of the daemon goes by its configuration again.
private func restart(_ lab: Lab) throws {
    try expect(try lab.signal("director", role: "director", SIGKILL), "the director was not running")
    try lab.startDaemon("director")
    try waitUntil("a new life of the director", timeout: 10, every: 20) { (try? Forwarding(lab)) != nil }
    try expect(try Forwarding(lab).method == "selective", "after a restart the configuration does not rule")
    let before = try Forwarding(lab)
    let download = try Download(lab: lab, Download.Request(rate: 100_000_000))
    defer { download.cancel() }
    guard let file = lab.file() else { throw LabError.failed("no file") }
    try expect(try download.result(timeout: 60).matches(file), "the download after the restart failed")
    try Forwarding(lab).since(before).check("selective")
}
