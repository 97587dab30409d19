import CLab
import Glibc
import Model

/// The director's daemon, and input that nobody should send.
let directorScenarios: [Scenario] = [
    Scenario(
        "director-killed",
        "kill -9 of baton-director during a download: it goes on; after the restart its flow is still known.",
        run: directorKilled),
    Scenario(
        "bad-configuration",
        "Wrong configuration files: file:line:column, the key, what was expected, exit 78, nothing changed.",
        run: badConfiguration),
    Scenario(
        "random-input",
        "10 s of random frames at the director and random datagrams at the control ports: no crash, traffic goes on.",
        run: randomInput),
]

private func directorKilled(_ context: ScenarioContext) throws -> Figures {
    try context.withLab { lab in
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 40_000_000)
        let killed = Instant.now()
        try expect(try lab.signal("director", role: "director", SIGKILL), "the director was not running")
        context.console.event("baton-director: kill -9")
        let atKill = download.bytes
        pause(milliseconds: 2000)
        try expect(download.bytes > atKill + 20_000_000, "the download stopped with the director's daemon")
        try lab.startDaemon("director")
        try lab.waitUntilLive()
        let flows = try lab.directorFlows()["flows"]?.array ?? []
        let client = "\(LabPlan.clientAddress):\(port)"
        try expect(
            flows.contains { $0["client"]?.string == client }, "after the restart the flow \(client) is not known")
        let result = try download.result(timeout: 60)
        guard let file = lab.file() else { throw LabError.failed("no file") }
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        try expect(try lab.takeovers().isEmpty, "the restart was taken for a failure of a back-end")
        return ["stall_ms": .number(result.stall(after: killed)), "flows_after_restart": .integer(Int64(flows.count))]
    }
}

// MARK: Configuration

/// Each a change of a good file, and what the complaint has to name.
private let mistakes: [(name: String, from: String, to: String, mentions: String)] = [
    ("unknown-key", "backups: 1", "backupps: 1", "backupps"),
    ("bad-address", "address: 192.0.2.11", "address: 192.0.2.311", "192.0.2.311"),
    ("duplicate-backend", "name: web2", "name: web1", "web1"),
    ("missing-interface", "interface: eth0", "interface: eth7", "eth7"),
    ("no-unit", "window: 50ms", "window: 50", "window"),
]

private func badConfiguration(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 1000
    options.daemons = false
    return try context.withLab(options) { lab in
        guard let good = readFile(lab.plan.directorConfiguration) else { throw LabError.failed("no configuration") }
        var figures: Figures = [:]
        for mistake in mistakes {
            guard let place = good.split(separator: mistake.from, maxSplits: 1, omittingEmptySubsequences: false).first,
                place.count < good.count
            else { throw LabError.failed("\(mistake.name): the good file has no \"\(mistake.from)\"") }
            let text = place + mistake.to + good.dropFirst(place.count + mistake.from.count)
            let path = lab.plan.directory + "/\(mistake.name).yaml"
            try writeFile(path, String(text))
            let before = try machine(lab)
            let command = [lab.programs + "/baton-director", "--configuration", path]
            let result = try lab.run(in: "director", command: command, timeout: 10)
            try expect(result.status == .exited(78), "\(mistake.name): \(result.status), not status 78")
            let complaint = result.errors + result.output
            try expect(namesPlace(complaint, path), "\(mistake.name): no file:line:column in: \(complaint)")
            try expect(
                complaint.contains(mistake.mentions),
                "\(mistake.name): it does not name \(mistake.mentions): \(complaint)")
            try expect(try machine(lab) == before, "\(mistake.name): something changed on the machine")
            figures[mistake.name] = .string(complaint.trimmedLines)
        }
        return figures
    }
}

/// Whether a text holds `path:line:column:`.
private func namesPlace(_ text: String, _ path: String) -> Bool {
    text.split(separator: "\n").contains { line in
        guard line.contains(path + ":") else { return false }
        let rest = line.split(separator: path + ":", maxSplits: 1, omittingEmptySubsequences: false).last ?? ""
        let parts = rest.split(separator: ":")
        return parts.count >= 2 && Int(parts[0]) != nil && Int(parts[1]) != nil
    }
}

/// What a daemon could have changed in the director's node.
private func machine(_ lab: Lab) throws -> String {
    var text = try lab.run(in: "director", command: ["ip", "-o", "address"]).output
    text += try lab.run(in: "director", command: ["ip", "-o", "link"]).output
    text += listDirectory(lab.plan.pins).joined(separator: " ")
    return text + String(fileExists(lab.plan.socket))
}

// MARK: Random input

private func randomInput(_ context: ScenarioContext) throws -> Figures {
    try context.withLab { lab in
        let download = try Download(lab: lab, Download.Request(rate: 12_000_000))
        defer { download.cancel() }
        _ = try lab.connected(download)
        context.console.event("random frames at the director, random datagrams at the control ports, for 10 s")
        let frames = try throwFrames(lab, seconds: 10)
        let datagrams = try throwDatagrams(lab, seconds: 0.1)
        for node in ["director"] + lab.plan.webNodes {
            for process in try lab.node(node).processes where !process.running {
                throw LabError.failed(
                    "\(process.role) on \(node) has ended: \(lab.tail(lab.plan.log(node, process.role)))")
            }
        }
        let result = try download.result(timeout: 60)
        guard let file = lab.file() else { throw LabError.failed("no file") }
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        try expect(try lab.takeovers().isEmpty, "random input was taken for a failure of a back-end")
        return [
            "frames": .integer(Int64(frames)), "datagrams": .integer(Int64(datagrams)),
            "stall_ms": .number(result.longestGap?.milliseconds ?? 0),
        ]
    }
}

/// Random frames from the router's port to the director, and between them random datagrams to its control port.
private func throwFrames(_ lab: Lab, seconds: Double) throws -> Int {
    let deadline = Deadline(seconds: seconds)
    let address = LabPlan.directorAddress.ipv4 ?? 0
    return try inNetworkNamespace(lab.plan.namespacePath("router")) {
        let socket = clab_frame_socket("director")
        guard socket >= 0 else { throw LabError.system("raw socket", code: -socket) }
        defer { close(socket) }
        let control = clab_udp_connect(address, 7400)
        guard control >= 0 else { throw LabError.system("socket", code: -control) }
        defer { close(control) }
        var generator = RandomFrames(seed: 7)
        var sent = 0
        while !deadline.isOver, !Interrupts.isRaised {
            for _ in 0..<50 {
                let frame = generator.frame()
                if write(socket, frame, frame.count) == frame.count { sent += 1 }
            }
            let datagram = generator.bytes(1...1400)
            _ = write(control, datagram, datagram.count)
            pause(milliseconds: 2)
        }
        return sent
    }
}

private func throwDatagrams(_ lab: Lab, seconds: Double) throws -> Int {
    var targets: [(UInt32, UInt16)] = []
    for node in lab.plan.webNodes { targets.append((lab.plan.address(of: node)?.ipv4 ?? 0, 7401)) }
    targets.append((LabPlan.directorAddress.ipv4 ?? 0, 7400))
    let all = targets
    return try inNetworkNamespace(lab.plan.namespacePath("router")) {
        var generator = RandomFrames(seed: 8)
        var sent = 0
        for (address, port) in all {
            let socket = clab_udp_connect(address, port)
            guard socket >= 0 else { throw LabError.system("socket", code: -socket) }
            defer { close(socket) }
            for _ in 0..<2000 {
                let datagram = generator.bytes(0...1400)
                if write(socket, datagram, datagram.count) >= 0 { sent += 1 }
            }
        }
        return sent
    }
}
