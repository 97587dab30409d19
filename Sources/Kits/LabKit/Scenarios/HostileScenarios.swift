import CLab
import Glibc
import Model

/// Input that nobody should send, and files that nobody should write.
let hostileScenarios: [Scenario] = [
    Scenario(
        "bad-configuration",
        "Wrong configuration files: file:line:column, the key, what was expected, exit 78, nothing changed.",
        run: badConfiguration),
    Scenario(
        "random-input",
        "10 s of random frames at the director and random datagrams at the control ports: no crash, traffic goes on.",
        alone: true, run: randomInput),
]

// MARK: Configuration

/// A change of a good file, and what the complaint has to name.
private struct Mistake {
    let name: String
    let from: String
    let to: String
    let mentions: String

    init(_ name: String, _ from: String, _ to: String, _ mentions: String) {
        self.name = name
        self.from = from
        self.to = to
        self.mentions = mentions
    }
}

private let directorMistakes = [
    Mistake("unknown-key", "backups: 1", "backupps: 1", "backupps"),
    Mistake("bad-address", "address: 192.0.2.11", "address: 192.0.2.311", "192.0.2.311"),
    Mistake("duplicate-backend", "name: web2", "name: web1", "web1"),
    Mistake("missing-interface", "interface: eth0", "interface: eth7", "eth7"),
    Mistake("no-unit", "window: 50ms", "window: 50", "window"),
]

private let agentMistakes = [
    Mistake("agent-unknown-key", "director:", "direktor:", "direktor"),
    Mistake("agent-bad-address", "director: 192.0.2.2", "director: 192.0.2.999", "192.0.2.999"),
    Mistake("agent-missing-interface", "interface: eth0", "interface: eth7", "eth7"),
]

private func badConfiguration(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 1000
    options.daemons = false
    return try context.withLab(options) { lab in
        var figures: Figures = [:]
        for mistake in directorMistakes {
            figures[mistake.name] = .string(
                try complaint(lab, mistake, node: "director", of: "baton-director", lab.plan.directorConfiguration))
        }
        for mistake in agentMistakes {
            figures[mistake.name] = .string(
                try complaint(lab, mistake, node: "web1", of: "baton-agent", lab.plan.agentConfiguration("web1")))
        }
        return figures
    }
}

/// What a program says of a file with a mistake; it has to name the place, end with 78, and change nothing.
private func complaint(
    _ lab: Lab, _ mistake: Mistake, node: String, of program: String, _ goodFile: String
) throws -> String {
    guard let good = readFile(goodFile) else { throw LabError.failed("no configuration") }
    guard let place = good.split(separator: mistake.from, maxSplits: 1, omittingEmptySubsequences: false).first,
        place.count < good.count
    else { throw LabError.failed("\(mistake.name): the good file has no \"\(mistake.from)\"") }
    let text = place + mistake.to + good.dropFirst(place.count + mistake.from.count)
    let path = lab.plan.directory + "/\(mistake.name).yaml"
    try writeFile(path, String(text))
    let before = try machine(lab, node)
    let result = try lab.run(in: node, command: [lab.programs + "/" + program, "--configuration", path], timeout: 10)
    try expect(result.status == .exited(78), "\(mistake.name): \(result.status), not status 78")
    let complaint = result.errors + result.output
    try expect(namesPlace(complaint, path), "\(mistake.name): no file:line:column in: \(complaint)")
    try expect(
        complaint.contains(mistake.mentions),
        "\(mistake.name): it does not name \(mistake.mentions): \(complaint)")
    try expect(try machine(lab, node) == before, "\(mistake.name): something changed on the machine")
    return complaint.trimmedLines
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

/// What a daemon could have changed in a node.
private func machine(_ lab: Lab, _ node: String) throws -> String {
    var text = ""
    for command in [
        ["ip", "-o", "address"], ["ip", "-o", "link"], ["nft", "list", "tables"], ["sysctl", "net.ipv4.conf"],
    ] {
        text += try lab.run(in: node, command: command).output
    }
    text += listDirectory(lab.plan.pins).joined(separator: " ")
    return text + String(fileExists(lab.plan.socket)) + String(fileExists(lab.plan.agentSocket(node)))
}

// MARK: Random input

private func randomInput(_ context: ScenarioContext) throws -> Figures {
    try context.withLab { lab in
        let download = try Download(lab: lab, Download.Request(rate: 12_000_000))
        defer { download.cancel() }
        _ = try lab.connected(download)
        context.console.event("random frames, and random datagrams and streams at the control ports, for 10 s")
        let sent = try throwGarbage(lab, seconds: 10)
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
            "frames": .integer(Int64(sent.frames)), "datagrams": .integer(Int64(sent.datagrams)),
            "streams": .integer(Int64(sent.streams)), "stall_ms": .number(result.longestGap?.milliseconds ?? 0),
        ]
    }
}

private struct Garbage {
    var frames = 0
    var datagrams = 0
    var streams = 0
}

/// From the router, in turn: random frames into the director's port of the bridge, a random datagram at each control
/// port, and now and then a TCP connection with random bytes to the director's.
private func throwGarbage(_ lab: Lab, seconds: Double) throws -> Garbage {
    let deadline = Deadline(seconds: seconds)
    let director = LabPlan.directorAddress.ipv4 ?? 0
    let agents = lab.plan.webNodes.compactMap { lab.plan.address(of: $0)?.ipv4 }
    return try inNetworkNamespace(lab.plan.namespacePath("router")) {
        let frames = clab_frame_socket("director")
        guard frames >= 0 else { throw LabError.system("raw socket", code: -frames) }
        defer { close(frames) }
        let control = [clab_udp_connect(director, 7400)] + agents.map { clab_udp_connect($0, 7401) }
        defer { for socket in control { close(socket) } }
        guard control.allSatisfy({ $0 >= 0 }) else { throw LabError.system("socket", code: -(control.min() ?? 0)) }
        var generator = RandomFrames(seed: 7)
        var sent = Garbage()
        var round = 0
        while !deadline.isOver, !Interrupts.isRaised {
            for _ in 0..<50 {
                let frame = generator.frame()
                if write(frames, frame, frame.count) == frame.count { sent.frames += 1 }
            }
            for socket in control {
                let datagram = generator.bytes(0...1400)
                if write(socket, datagram, datagram.count) >= 0 { sent.datagrams += 1 }
            }
            if round % 20 == 0, throwStream(at: director, &generator) { sent.streams += 1 }
            round += 1
            pause(milliseconds: 2)
        }
        return sent
    }
}

private func throwStream(at address: UInt32, _ generator: inout RandomFrames) -> Bool {
    let stream = clab_tcp_connect(address, 7400, 0, 0)
    guard stream >= 0 else { return false }
    defer { close(stream) }
    pause(milliseconds: 2)
    let bytes = generator.bytes(1...1400)
    return write(stream, bytes, bytes.count) == bytes.count
}
