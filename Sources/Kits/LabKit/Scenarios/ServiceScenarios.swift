import Model

/// Services of other kinds than TCP over IPv4 at one port.
let serviceScenarios: [Scenario] = [
    Scenario(
        "takeover-ipv6",
        "A 60 MB download over IPv6 whose server's cable is cut at half of it, or, in a cluster without IPv4, whose "
            + "web server is killed: right SHA-256; neighbour discovery gives the director's address for the VIP.",
        run: takeoverIPv6),
    Scenario(
        "two-armed",
        "A director with one interface for clients and one for back-ends: a 60 MB download survives a cut cable, and no "
            + "frame of it leaves by the clients' interface.",
        run: twoArmed),
    Scenario(
        "jumbo-frames",
        "With an MTU of 9000 an upload reaches its server in jumbo frames, and a download survives a cut cable.",
        run: jumboFrames),
    Scenario(
        "icmp-to-owner",
        "A hop with a smaller MTU appears in the middle of a download, over IPv4 and over IPv6: what the router says to "
            + "the VIP reaches the flow's owner, and the download ends with the right SHA-256.",
        run: icmpToOwner),
    Scenario(
        "port-ranges",
        "Services of a port, a range, all ports, and two ports with persistence, at one VIP: each request is counted for "
            + "the right one, and a client keeps its server across the two ports.",
        run: portRanges),
    Scenario(
        "udp-service",
        "Datagrams of a client's port go to one server, those of several are spread; large ones arrive in fragments; after "
            + "a cut cable another server answers; a silent flow is over after its time.",
        run: datagrams),
]

// MARK: IPv6

private func takeoverIPv6(_ context: ScenarioContext) throws -> Figures {
    var figures: Figures = [:]
    for (how, replay) in [(KillMode.link, "stream"), (.app, "http")] {
        context.console.line("\(how.meaning), replay \(replay)")
        var lab = LabOptions()
        lab.ipv6 = true
        lab.ipv6Only = how == .app
        lab.replay = replay
        lab.fileSize = 60_000_000
        for (name, value) in try context.withLab(lab, { try survive($0, context, how) }) {
            figures["\(name)_\(how.rawValue)"] = value
        }
    }
    return figures
}

private func survive(
    _ lab: Lab, _ context: ScenarioContext, _ how: KillMode, at vip: IPAddress = LabPlan.virtualAddress6
) throws -> Figures {
    var options = Demo.Options()
    options.size = lab.options.fileSize
    options.rate = 30_000_000
    options.failAt = 0.5
    options.how = how
    options.url = "http://\(vip.isIPv4 ? "\(vip)" : "[\(vip)]")/large.bin"
    let report = try Demo(options: options, console: context.console).run(in: lab)
    try expect(report.passed, report.complaints.joined(separator: "; "))
    if !vip.isIPv4 { try expectNeighbour(lab) }
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

// MARK: Counters

/// What the director has counted for a service, or of the kind.
private func serviceCount(_ lab: Lab, _ service: String, _ key: String) throws -> Int {
    let services = try lab.directorStatus()["services"]?.array ?? []
    guard let count = services.first(where: { $0["name"]?.string == service })?[key]?.integer else {
        throw LabError.failed("the director's status has no \(key) of the service \(service)")
    }
    return count
}

private func count(_ lab: Lab, _ key: String) throws -> Int {
    guard let count = try lab.directorStatus()["counters"]?[key]?.integer else {
        throw LabError.failed("the director's status has no counter \(key)")
    }
    return count
}

// MARK: Two-armed

private func twoArmed(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.twoArmed = true
    options.fileSize = 60_000_000
    return try context.withLab(options) { lab in
        var figures = try survive(lab, context, .link, at: LabPlan.virtualAddress)
        let forwarded = try serviceCount(lab, "web", "frames_to_owner") + serviceCount(lab, "web", "frames_to_group")
        // What the router receives from each of the director's interfaces.
        let received = try ["director", "directorlan"].map { try receivedPackets(lab, $0) }
        // Acknowledgments above all, and GRO makes few of many.
        try expect(forwarded > 200, "only \(forwarded) frames were forwarded")
        try expect(received[0] < 100, "\(received[0]) frames came out of the clients' interface")
        try expect(received[1] >= forwarded, "\(received[1]) frames came out of the back-ends' interface of \(forwarded)")
        figures["forwarded"] = .integer(Int64(forwarded))
        figures["by_clients_interface"] = .integer(Int64(received[0]))
        return figures
    }
}

private func receivedPackets(_ lab: Lab, _ port: String) throws -> Int {
    let text = try lab.run(in: "router", command: ["ip", "-s", "-j", "link", "show", port]).output
    guard let link = try JSONValue(text: text).array.first,
        let packets = link["stats64"]?["rx"]?["packets"]?.integer
    else { throw LabError.failed("no counters of the router's port \(port): \(text)") }
    return packets
}

// MARK: Jumbo frames

private func jumboFrames(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.mtu = 9000
    options.fileSize = 60_000_000
    return try context.withLab(options) { lab in
        let source = try lab.webDirectory("web1") + "/large.bin"
        let upload = try lab.run(
            in: "client",
            command: [
                "curl", "--silent", "--show-error", "--max-time", "20", "-H", "Expect:", "--data-binary", "@\(source)",
                "http://\(lab.target)/upload",
            ])
        try expect(upload.output.contains("taken"), "the upload was not taken: \(upload.output) \(upload.errors)")
        let frames = try serviceCount(lab, "web", "frames_to_owner") + serviceCount(lab, "web", "frames_to_group")
        let bytes = try serviceCount(lab, "web", "bytes")
        try expect(bytes > options.fileSize, "the director saw \(bytes) bytes")
        try expect(bytes / max(frames, 1) > 5000, "\(bytes) bytes came in \(frames) frames")
        var figures = try survive(lab, context, .link, at: LabPlan.virtualAddress)
        figures["bytes_per_frame"] = .integer(Int64(bytes / max(frames, 1)))
        return figures
    }
}

// MARK: ICMP

private func icmpToOwner(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.ipv6 = true
    options.fileSize = 30_000_000
    return try context.withLab(options) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        var figures: Figures = [:]
        for (name, host) in [("ipv4", lab.target), ("ipv6", "[\(LabPlan.virtualAddress6)]")] {
            let before = try count(lab, "errors_forwarded")
            let request = Download.Request(url: "http://\(host)/large.bin", rate: 20_000_000)
            let download = try Download(lab: lab, request)
            defer { download.cancel() }
            _ = try lab.connected(download, bytes: file.size / 4)
            try setClientMTU(lab, 1280)
            context.console.event("\(name): the link to the client has an MTU of 1280")
            let result = try download.result(timeout: 20)
            try expect(result.matches(file), "\(name): \(result.bytes) of \(file.size) bytes; \(result.error)")
            let errors = try count(lab, "errors_forwarded") - before
            try expect(errors > 0, "\(name): no error was forwarded")
            figures["errors_\(name)"] = .integer(Int64(errors))
            try setClientMTU(lab, 1500)
        }
        return figures
    }
}

/// Of the router's port alone: the client's own stays, so that its MSS promises too much.
private func setClientMTU(_ lab: Lab, _ bytes: Int) throws {
    let result = try lab.run(in: "router", command: ["ip", "link", "set", "client", "mtu", "\(bytes)"])
    try expect(result.status.isSuccess, "the MTU cannot be set: \(result.errors)")
}

// MARK: Ports

private func portRanges(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 100_000
    options.webPorts = [8000, 8005, 8099, 8443, 8444, 9000]
    let vip = LabPlan.virtualAddress
    options.serviceLines = [
        "  - {name: rest, address: \(vip), ports: all}",
        "  - {name: some, address: \(vip), ports: 8000-8099}",
        "  - {name: one, address: \"\(vip):8005\"}",
        "  - {name: pair, address: \(vip), ports: [8443, 8444], persistence: {timeout: 5m}}",
    ]
    return try context.withLab(options) { lab in
        let requests: [(UInt16, String)] = [
            (80, "web"), (8005, "one"), (8000, "some"), (8099, "some"), (9000, "rest"), (8443, "pair"), (8444, "pair"),
        ]
        for (port, service) in requests {
            let before = try serviceCount(lab, service, "new_flows")
            try fetch(lab, port)
            let after = try serviceCount(lab, service, "new_flows")
            try expect(after == before + 1, "port \(port) was not counted for \(service)")
        }
        for _ in 0..<3 { for port in [8443, 8444] as [UInt16] { try fetch(lab, port) } }
        let flows = try lab.directorFlows()["flows"]?.array ?? []
        let pair = flows.filter { ["\(vip):8443", "\(vip):8444"].contains($0["service"]?.string) }
        let owners = Set(pair.compactMap { $0["owner"]?.string })
        try expect(pair.count == 8 && owners.count == 1, "\(pair.count) flows of one client went to \(owners.sorted())")
        try addPort(lab, 9000, to: "pair", ports: [8443, 8444], owners: owners)
        return ["flows": .integer(Int64(flows.count))]
    }
}

/// A service that gets another port keeps its flows, and the new port goes where the client's others have gone.
private func addPort(_ lab: Lab, _ port: UInt16, to name: String, ports: [UInt16], owners: Set<String>) throws {
    let list = (ports + [port]).map { "\($0)" }.joined(separator: ", ")
    let edit = try lab.batonctl(["service", "edit", name, "--set", "ports=[\(list)]"])
    try expect(edit.status.isSuccess, "the service cannot be edited: \(edit.errors)")
    let before = try serviceCount(lab, name, "new_flows")
    try fetch(lab, port)
    try expect(try serviceCount(lab, name, "new_flows") == before + 1, "port \(port) was not counted for \(name)")
    let flows = try lab.directorFlows()["flows"]?.array ?? []
    let own = flows.filter { flow in (ports + [port]).contains { flow["service"]?.string == "\(LabPlan.virtualAddress):\($0)" } }
    let places = Set(own.compactMap { $0["owner"]?.string })
    // The fetch of port 9000 for the service of all ports is still in the table, under that one's number.
    try expect(own.count == 10 && places.isSuperset(of: owners), "\(own.count) flows at \(places.sorted())")
}

private func fetch(_ lab: Lab, _ port: UInt16) throws {
    let download = try Download(lab: lab, Download.Request(url: "http://\(lab.target):\(port)/large.bin"))
    defer { download.cancel() }
    guard let file = lab.file() else { throw LabError.failed("no file") }
    let result = try download.result(timeout: 10)
    try expect(result.matches(file), "port \(port): \(result.bytes) of \(file.size) bytes; \(result.error)")
}

// MARK: Datagrams

private func datagrams(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 100_000
    let port: UInt16 = 5300
    options.serviceLines = [
        "  - {name: names, address: \"\(LabPlan.virtualAddress):\(port)\", protocol: udp, timeouts: {udp: 2s}}"
    ]
    return try context.withLab(options) { lab in
        let servers = try DatagramServers(lab: lab, port: port)
        defer { servers.stop() }
        let clients = try (0..<6).map { _ in try DatagramClient(lab: lab, port: port) }
        let first = try clients.map { try $0.ask(bytes: 10) }
        for node in lab.plan.webNodes {
            try expect(first.count { $0 == node } == 2, "six clients went to \(first)")
        }
        for _ in 0..<4 { try expect(try clients.map { try $0.ask(bytes: 10) } == first, "a flow has moved") }
        // Three fragments each, of which the first one alone has the ports.
        try expect(try clients.map { try $0.ask(bytes: 4000) } == first, "a large datagram went elsewhere")
        let fragments = try count(lab, "fragments_forwarded")
        try expect(fragments >= 2 * clients.count, "\(fragments) fragments were forwarded")
        let failure = try lab.kill(first[0], how: .link)
        context.console.event("\(first[0]): cable cut")
        let another = try clients[0].askUntilAnswered(seconds: 5)
        let outage = (Instant.now() - failure).milliseconds
        try expect(another != first[0], "a server without a cable has answered")
        let flows = try serviceCount(lab, "names", "new_flows")
        pause(milliseconds: 3500)
        _ = try clients[1].askUntilAnswered(seconds: 5)
        try expect(try serviceCount(lab, "names", "new_flows") > flows, "a flow outlived its time")
        return ["outage_ms": .number(outage), "fragments": .integer(Int64(fragments))]
    }
}
