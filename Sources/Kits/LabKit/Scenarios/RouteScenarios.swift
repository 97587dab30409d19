import Model

/// `batonctl route`: asked first, then done.
let routeScenarios: [Scenario] = [
    Scenario(
        "route",
        "`batonctl route` names the back-end of the next connection, by whatever policy, and changes nothing by being "
            + "asked; it finds flows that are there, and says why others go nowhere.",
        run: route)
]

private func route(_ context: ScenarioContext) throws -> Figures {
    var figures: Figures = [:]
    // A counter, a load and a hash; the tests of the data plane ask about all the others.
    for policy in ["rr", "lc", "sh"] {
        var options = LabOptions()
        options.policy = policy
        options.fileSize = 1_000_000
        if policy == "sh" { options.serviceSettings = ["persistence:", "  timeout: 5m"] }
        let asked = try context.withLab(options) { lab in
            let asked = try compareConnections(lab, policy)
            if policy == "rr" { try goesNowhere(lab) }
            return asked
        }
        figures["connections_\(policy)"] = .integer(Int64(asked))
    }
    return figures
}

/// Asks for each connection before it is made, twice over, and afterwards.
private func compareConnections(_ lab: Lab, _ policy: String) throws -> Int {
    var clients: [LineClient] = []
    for number in 0..<8 {
        let port = UInt16(42_000 + number)
        let first = try lab.route(port)
        let second = try lab.route(port)
        try expect(first == second, "\(policy): asked twice, `route` said \(first) and \(second)")
        try expect(first["flow"]?.string == "new", "\(policy): a connection to come is \(first)")
        clients.append(try LineClient(lab: lab, port: LabPlan.port, from: port))
        let server = try lab.server(ofClientPort: port)
        try expect(
            first["owner"]?.string == server, "\(policy): `route` named \(first["owner"] ?? .null), and \(server) has it")
        let known = try lab.route(port)
        try expect(
            known["flow"]?.string == "existing" && known["owner"]?.string == server
                && known["state"]?.string == "established",
            "\(policy): of the connection of port \(port) on \(server) `route` says \(known)")
        let ways = known["ways"]?.array.compactMap { $0["to"]?.string } ?? []
        try expect(ways == ["group", "owner", "group"], "\(policy): SYN, acknowledgment and data go to \(ways)")
        if policy == "sh", number > 0 {
            try expect(
                first["persistent"] == .boolean(true), "the client's next connection is not persistent: \(first)")
        }
    }
    return clients.count
}

private func goesNowhere(_ lab: Lab) throws {
    let none = try lab.route(42_100, to: 81)
    try expect(
        none["flow"]?.string == "none" && none["reason"]?.string?.contains("no service is at") == true,
        "of a port without a service `route` says \(none)")
    // With nobody left a SYN is dropped, and each back-end's reason is told.
    for node in lab.plan.webNodes { lab.beginDrain(node) }
    try waitUntil("`route` to say that nobody is left", timeout: 5, every: 20) {
        try lab.route(42_101)["flow"]?.string == "none"
    }
    let drained = try lab.route(42_101)
    let reason = drained["reason"]?.string ?? ""
    try expect(
        drained["ways"]?.array.first?["to"]?.string == "dropped" && lab.plan.webNodes.allSatisfy { reason.contains($0) },
        "with all back-ends drained `route` says \(drained)")
}

extension Lab {
    /// `batonctl route --json` from the client's port.
    func route(_ clientPort: UInt16, to port: UInt16 = LabPlan.port) throws -> JSONValue {
        let result = try runCommand(
            [
                programs + "/batonctl", "--socket", plan.socket, "route",
                "\(LabPlan.clientAddress):\(clientPort)", "\(LabPlan.virtualAddress):\(port)", "--json",
            ],
            timeout: 10)
        guard [.exited(0), .exited(1)].contains(result.status), !result.output.isEmpty else {
            throw LabError.failed("batonctl route: \(result.status): \(result.errors.trimmedLines)")
        }
        return try JSONValue(text: result.output)
    }

    /// Drains a back-end without waiting for its flows.
    fileprivate func beginDrain(_ node: String) {
        let words = ["drain", node, "--wait", "--timeout", "0.01"]
        _ = try? runCommand([programs + "/batonctl", "--socket", plan.socket] + words, timeout: 10)
    }
}
