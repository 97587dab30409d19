import Model

/// Where new flows go.
let dispatchScenarios: [Scenario] = [
    Scenario(
        "dispatch-by-load",
        "Connections under `lc` are spread evenly; a back-end whose clients leave gets the next ones.",
        run: dispatchByLoad)
]

private func dispatchByLoad(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.policy = "lc"
    options.fileSize = 1_000_000
    return try context.withLab(options) { lab in
        var clients = try (0..<9).map { _ in try LineClient(lab: lab, port: LabPlan.port) }
        let before = try lab.owners(of: clients)
        for name in lab.plan.webNodes {
            let count = before.count { $0 == name }
            try expect(count == 3, "\(name) has \(count) of nine connections, not three")
        }
        // Two of the three on one back-end end, by FIN: the next two go there, whoever's turn it were.
        let chosen = try firstOwner(before)
        let ended = before.indices.filter { before[$0] == chosen }.prefix(2)
        for index in ended.reversed() { clients.remove(at: index) }
        pause(milliseconds: 200)
        let next = try (0..<2).map { _ in try LineClient(lab: lab, port: LabPlan.port) }
        let after = try lab.owners(of: next)
        try expect(after == [chosen, chosen], "after two on \(chosen) had ended the next ones went to \(after)")
        return ["connections": .integer(Int64(clients.count + next.count)), "moved_to": .string(chosen)]
    }
}

private func firstOwner(_ owners: [String]) throws -> String {
    guard let owner = owners.first else { throw LabError.failed("no connection has an owner") }
    return owner
}
