import CLab
import Glibc
import LinuxBPF

/// `batonctl doctor`: silent when all is well; what is broken is named.
let doctorScenarios: [Scenario] = [
    Scenario(
        "doctor",
        "`batonctl doctor` says nothing of a healthy director and back-end, and names each thing that is then broken for "
            + "real: settings, MTU, groups, ARP, an MPTCP listener, a filter, a shaper, the key, XDP, the pins' layout.",
        run: doctor)
]

private func doctor(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 1_000_000
    return try context.withLab(options) { lab in
        for node in ["director", "web1"] { try expectSilence(lab.doctor(node), node) }
        let director = try sickDirector(lab, context)
        let agent = try sickAgent(lab, context)
        for node in ["director", "web1"] { try expectSilence(lab.doctor(node), "\(node), repaired,") }
        return ["named_on_director": .integer(Int64(director)), "named_on_agent": .integer(Int64(agent))]
    }
}

private func expectSilence(_ visit: Visit, _ who: String) throws {
    try expect(
        visit.status == .exited(0) && visit.text.isEmpty, "of the healthy \(who) the doctor says: \(visit.text)")
}

/// What was broken, and a word of the sentence that must name it.
private func expectNamed(_ visit: Visit, _ words: [String], _ context: ScenarioContext) throws {
    for word in words {
        try expect(visit.text.contains(word), "the doctor does not say \"\(word)\"; it says: \(visit.text)")
    }
    try expect(visit.status == .exited(2), "the doctor ends with \(visit.status)")
    let lines = visit.text.split(separator: "\n").filter { !$0.hasPrefix(" ") }
    for line in lines { context.console.line("  \(line)") }
    let remedies = visit.text.split(separator: "\n").count { $0.hasPrefix("    remedy: ") }
    try expect(remedies == lines.count, "\(lines.count) findings have \(remedies) remedies: \(visit.text)")
}

// MARK: Director

private func sickDirector(_ lab: Lab, _ context: ScenarioContext) throws -> Int {
    // web1 answers for the VIP, web2 takes no full frames, web3 hears no groups.
    let former = try lab.run(in: "web1", command: ["sysctl", "-n", "net.ipv4.conf.all.arp_ignore"]).output.trimmedLines
    try lab.setKernel("web1", ["net.ipv4.conf.all.arp_ignore=0", "net.ipv4.conf.eth0.arp_ignore=0"])
    try lab.change("web2", ["ip", "link", "set", "eth0", "mtu", "1400"])
    try lab.change("router", ["bridge", "link", "set", "dev", "web3", "mcast_flood", "off"])
    chmod(lab.plan.key, 0o644)
    let words = [
        "answers ARP for the VIP \(LabPlan.virtualAddress)", "web2 does not take frames of this side's MTU, 1500",
        "web3 does not hear the group", "permissions 644",
    ]
    try expectNamed(try lab.doctor("director"), words, context)
    chmod(lab.plan.key, 0o600)
    try lab.change("router", ["bridge", "link", "set", "dev", "web3", "mcast_flood", "on"])
    try lab.change("web2", ["ip", "link", "set", "eth0", "mtu", "1500"])
    try lab.setKernel("web1", ["net.ipv4.conf.all.arp_ignore=\(former)", "net.ipv4.conf.eth0.arp_ignore=1"])
    // A director that is to run with other pins finds this one's program at its interface, and maps of the future.
    let state = lab.plan.pins + "/other"
    try makeDirectory(state)
    let layout = try RawMap.create("layout", type: 2, keyBytes: 4, valueBytes: 4, maxEntries: 1)
    try layout.put(RawEntries(keyBytes: 4, valueBytes: 4, keys: [0, 0, 0, 0], values: [99, 0, 0, 0]))
    try layout.pin(at: state + "/layout")
    let path = lab.plan.directory + "/other.yaml"
    let text = readFile(lab.plan.directorConfiguration) ?? ""
    try writeFile(path, text.replacing("state: \(lab.plan.pins)/director", with: "state: \(state)"))
    let more = ["another XDP program", "layout version 99"]
    try expectNamed(try lab.doctor("director", configuration: path), more, context)
    return words.count + more.count
}

// MARK: Agent

private func sickAgent(_ lab: Lab, _ context: ScenarioContext) throws -> Int {
    let settings = [
        "net.ipv4.tcp_syncookies", "net.ipv4.tcp_timestamps", "net.ipv4.tcp_sack", "net.ipv4.tcp_window_scaling",
        "net.ipv4.conf.all.arp_announce", "net.ipv4.conf.eth0.arp_announce",
    ]
    let switches = ["net.ipv4.conf.all.rp_filter", "net.ipv4.conf.all.drop_unicast_in_l2_multicast"]
    let former = try (settings + switches).map { name in
        try lab.run(in: "web1", command: ["sysctl", "-n", name]).output.trimmedLines
    }
    try lab.setKernel("web1", settings.map { $0 + "=0" } + switches.map { $0 + "=1" })
    let listener = try inNetworkNamespace(lab.plan.namespacePath("web1")) { clab_mptcp_listen(8443) }
    guard listener >= 0 else { throw LabError.system("an MPTCP listener", code: -listener) }
    let rules = lab.plan.directory + "/others.nft"
    try writeFile(
        rules,
        "table inet others { chain input { type filter hook input priority 0; policy drop; accept; }; }\n")
    try lab.change("web1", ["nft", "-f", rules])
    let queue = ["root", "tbf", "rate", "1gbit", "burst", "1mb", "latency", "50ms"]
    try lab.change("web1", ["tc", "qdisc", "replace", "dev", "eth0"] + queue)
    // Who claims the director's VIP as well: the client's neighbours would go astray.
    try lab.change("web2", ["ip", "address", "add", "\(LabPlan.virtualAddress)/32", "dev", "eth0"])
    try lab.setKernel("web2", ["net.ipv4.conf.all.arp_ignore=0", "net.ipv4.conf.eth0.arp_ignore=0"])
    let words = [
        "tcp_syncookies is 0", "timestamps", "selective acknowledgments", "window scaling", "arp_announce is 0",
        "rp_filter (or that of `all`) is 1", "drop_unicast_in_l2_multicast", "0.0.0.0:8443 is an MPTCP one",
        "queueing discipline tbf of eth0", "chain input of the nftables table inet others drops", "answers ARP for the VIP",
    ]
    let visit = try lab.doctor("web1")
    close(listener)
    try lab.change("web1", ["tc", "qdisc", "delete", "dev", "eth0", "root"])
    try lab.change("web1", ["nft", "delete", "table", "inet", "others"])
    try lab.setKernel("web1", zip(settings + switches, former).map { "\($0)=\($1)" })
    try lab.change("web2", ["ip", "address", "delete", "\(LabPlan.virtualAddress)/32", "dev", "eth0"])
    try lab.setKernel("web2", ["net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.eth0.arp_ignore=1"])
    try expectNamed(visit, words, context)
    return words.count
}

// MARK: The doctor

/// What `batonctl doctor` printed, and how it ended.
struct Visit {
    var text: String
    var status: ExitStatus
}

extension Lab {
    func doctor(_ node: String, configuration: String? = nil) throws -> Visit {
        let isDirector = node == "director"
        let path = configuration ?? (isDirector ? plan.directorConfiguration : plan.agentConfiguration(node))
        let result = try run(
            in: node,
            command: [
                programs + "/batonctl", "doctor", isDirector ? "--director" : "--agent", "--configuration", path,
            ], timeout: 20)
        return Visit(text: result.output + result.errors, status: result.status)
    }

    /// Runs a command that has to succeed in a node.
    fileprivate func change(_ node: String, _ command: [String]) throws {
        _ = try require(Topology.enter(plan, node, command))
    }
}
