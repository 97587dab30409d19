import Model

/// Services of other kinds than TCP over IPv4 at one port.
let serviceScenarios: [Scenario] = [
    Scenario(
        "takeover-ipv6",
        "A 60 MB download over IPv6 whose server's cable is cut at half of it, or whose web server is killed: right "
            + "SHA-256; the router finds the VIP by neighbour discovery, and no back-end answers for it.",
        run: takeoverIPv6)
]

// MARK: IPv6

private func takeoverIPv6(_ context: ScenarioContext) throws -> Figures {
    var figures: Figures = [:]
    for (how, replay) in [(KillMode.link, "stream"), (.app, "http")] {
        context.console.line("\(how.meaning), replay \(replay)")
        var lab = LabOptions()
        lab.ipv6 = true
        lab.replay = replay
        lab.fileSize = 60_000_000
        for (name, value) in try context.withLab(lab, { try survive($0, context, how) }) {
            figures["\(name)_\(how.rawValue)"] = value
        }
    }
    return figures
}

private func survive(_ lab: Lab, _ context: ScenarioContext, _ how: KillMode) throws -> Figures {
    var options = Demo.Options()
    options.size = lab.options.fileSize
    options.rate = 30_000_000
    options.failAt = 0.5
    options.how = how
    options.url = "http://[\(LabPlan.virtualAddress6)]/large.bin"
    let report = try Demo(options: options, console: context.console).run(in: lab)
    try expect(report.passed, report.complaints.joined(separator: "; "))
    try expectNeighbour(lab)
    return [
        "stall_ms": .number(report.hit.map(\.stallMs).max() ?? 0),
        "arrival_stall_ms": .number(report.hit.compactMap(\.arrivalStallMs).max() ?? 0),
    ]
}

/// The router has learned the VIP's link-layer address by neighbour discovery: it must be the director's.
private func expectNeighbour(_ lab: Lab) throws {
    let neighbours = try lab.run(
        in: "router", command: ["ip", "-6", "neighbour", "show", "\(LabPlan.virtualAddress6)", "dev", "br0"])
    let own = try lab.run(in: "director", command: ["ip", "-o", "link", "show", "eth0"]).output
    let words = neighbours.output.split(whereSeparator: \.isWhitespace).map(String.init)
    let address = words.firstIndex(of: "lladdr").flatMap { words.indices.contains($0 + 1) ? words[$0 + 1] : nil }
    guard let address else {
        throw LabError.failed("the router has no neighbour \(LabPlan.virtualAddress6): \(neighbours.output)")
    }
    try expect(own.contains(address), "the router takes \(address) for the VIP; the director has: \(own)")
}
