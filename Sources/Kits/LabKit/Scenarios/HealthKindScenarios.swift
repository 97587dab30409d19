import Glibc
import Model

/// The director's checks over TLS and of name servers, and what it makes of a back-end that goes up and down.
let healthKindScenarios: [Scenario] = [
    Scenario(
        "health-tls",
        "A certificate of another name, no TLS at all or another page on one back-end: no new flows there while the check fails.",
        run: healthOverTLS),
    Scenario(
        "health-dns",
        "A name server of a UDP service that answers wrongly, or no more: no new flows there while the check fails.",
        run: healthOverDNS),
    Scenario(
        "health-dampening",
        "A page that goes bad, good and bad again within its time is held down for two seconds more, though it is good.",
        run: healthDampening),
]

private let checkedName = "web.example"
private let otherName = "other.example"
private let checkTimes = "interval: 150ms, timeout: 140ms, rise: 2, fall: 2"

private func healthOverTLS(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 1_000_000
    // A first check that fails is enough to be down: the certificates have to be there before the director is.
    options.daemons = false
    let authorities = "/run/baton-lab/\(context.labName)/\(checkedName).pem"
    let trust = "port: 443, host: \(checkedName), verify: true, authorities: \(authorities)"
    options.serviceSettings = [
        "checks:",
        "  - {kind: tls, \(trust), \(checkTimes)}",
        "  - {kind: https, \(trust), path: /health, status: 200, regex: \"^all is (well|fine)\", \(checkTimes)}",
    ]
    return try context.withLab(options) { lab in
        for name in [checkedName, otherName] { try lab.makeCertificate(name) }
        for node in lab.plan.webNodes {
            try lab.setHealth(node, "all is fine")
            try lab.serveTLS(node, certificate: checkedName)
        }
        for node in lab.plan.webNodes {
            try waitUntil("TLS on \(node)", timeout: 5, every: 20) {
                try KernelSockets.listening(inNamespace: lab.plan.namespacePath(node)).contains(443)
            }
        }
        for node in ["director"] + lab.plan.webNodes { try lab.startDaemon(node) }
        try lab.waitUntilLive()
        try lab.waitForChecks("all up") { $0.count == 6 && $0.allSatisfy { $0.state == "up" } }
        let breakages: [(name: String, down: [String], up: [String], breaks: () throws -> Void)] = [
            ("name", ["tls", "https"], [], { try lab.serveTLS("web2", certificate: otherName) }),
            ("plain", ["tls", "https"], [], { try lab.serveTLS("web2", certificate: nil) }),
            ("page", ["https"], ["tls"], { try lab.setHealth("web2", "something is wrong") }),
        ]
        var figures: Figures = [:]
        for (name, down, up, breaks) in breakages {
            let broken = Instant.now()
            try breaks()
            try lab.waitForChecks("\(name) of web2 down") { checks in
                down.allSatisfy { checks.state($0, "web2") == "down" }
            }
            figures["\(name)_down_ms"] = .number((Instant.now() - broken).milliseconds)
            context.console.event("web2: \(name) broken; \(down.joined(separator: " and ")) down")
            try lab.waitForChecks("the others up") { checks in
                up.allSatisfy { checks.state($0, "web2") == "up" }
                    && checks.allSatisfy { $0.backend == "web2" || $0.state == "up" }
            }
            try expect(try !lab.servers(ofNew: 6).contains("web2"), "web2 got a new flow with a wrong \(name)")
            try lab.setHealth("web2", "all is well")
            try lab.serveTLS("web2", certificate: checkedName)
            try lab.waitForChecks("\(name) of web2 up") { checks in
                ["tls", "https"].allSatisfy { checks.state($0, "web2") == "up" }
            }
            try expect(try lab.servers(ofNew: 6).contains("web2"), "web2 got no new flow with the right \(name) again")
        }
        try expect(try lab.takeovers().isEmpty, "a failed check was taken for the end of a back-end")
        return figures
    }
}

private func healthOverDNS(_ context: ScenarioContext) throws -> Figures {
    try Requirements.require("dnsmasq", from: "dnsmasq-base")
    var options = LabOptions()
    options.fileSize = 1_000_000
    options.daemons = false
    let check = "{kind: dns, query: \(checkedName), type: A, answer: 192.0.2.7, \(checkTimes)}"
    options.serviceLines = [
        "  - {name: names, address: \"\(LabPlan.virtualAddress):53\", protocol: udp, checks: [\(check)]}"
    ]
    return try context.withLab(options) { lab in
        for node in lab.plan.webNodes { try lab.serveNames(node, "192.0.2.7") }
        for node in ["director"] + lab.plan.webNodes { try lab.startDaemon(node) }
        try lab.waitUntilLive()
        try lab.waitForChecks("all up") { $0.count == 3 && $0.allSatisfy { $0.state == "up" } }
        try expect(try lab.nameServers(of: 20_000..<20_006) == Set(lab.plan.webNodes), "not every name server gets questions")
        var figures: Figures = [:]
        for (name, answer, port) in [("wrong", "192.0.2.8", 21_000), ("silent", nil, 22_000)] as [(String, String?, Int)] {
            let broken = Instant.now()
            try lab.serveNames("web2", answer)
            try lab.waitForChecks("web2 down") { $0.state("dns", "web2") == "down" }
            figures["\(name)_down_ms"] = .number((Instant.now() - broken).milliseconds)
            context.console.event("web2: its name server is \(name), and down")
            try expect(try lab.nameServers(of: port..<port + 6) == ["web1", "web3"], "web2 gets new flows")
            try lab.serveNames("web2", "192.0.2.7")
            try lab.waitForChecks("web2 up") { $0.state("dns", "web2") == "up" }
        }
        return figures
    }
}

private func healthDampening(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 1_000_000
    // A page that is missing at the start would be a change already.
    options.daemons = false
    options.serviceSettings = [
        "checks:",
        "  - {kind: http, path: /health, status: 200, \(checkTimes), dampening: {changes: 3, within: 30s, hold: 2s}}",
    ]
    return try context.withLab(options) { lab in
        for node in lab.plan.webNodes { try lab.setHealth(node, "well") }
        for node in ["director"] + lab.plan.webNodes { try lab.startDaemon(node) }
        try lab.waitUntilLive()
        try lab.waitForChecks("all up") { $0.allSatisfy { $0.state == "up" } }
        let page = try lab.webDirectory("web2") + "/health"
        unlink(page)
        try lab.waitForChecks("web2 down") { $0.state("http", "web2") == "down" }
        try lab.setHealth("web2", "well")
        try lab.waitForChecks("web2 up") { $0.state("http", "web2") == "up" }
        unlink(page)
        try lab.waitForChecks("web2 held") { $0.state("http", "web2") == "held" }
        let held = Instant.now()
        try lab.setHealth("web2", "well")
        context.console.event("web2: held down at its third change")
        pause(milliseconds: 500)
        try expect(try !lab.servers(ofNew: 6).contains("web2"), "web2 got a new flow while it was held down")
        try lab.waitForChecks("web2 up") { $0.state("http", "web2") == "up" }
        let time = (Instant.now() - held).milliseconds
        // Without a hold two good checks suffice: 300 ms. The status was asked some time after the fall itself.
        try expect(time >= 1500, "web2 was up again after \(time) ms")
        try expect(try lab.servers(ofNew: 6).contains("web2"), "web2 got no new flow after it was held down")
        return ["held_ms": .number(time)]
    }
}

// MARK: Tools

extension Lab {
    /// A certificate signed by itself, and its key.
    fileprivate func makeCertificate(_ name: String) throws {
        let place = plan.directory + "/" + name
        let command = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=\(name)", "-addext", "subjectAltName=DNS:\(name)", "-keyout", place + ".key", "-out", place + ".pem",
        ]
        let result = try runCommand(command, timeout: 10)
        try expect(result.status.isSuccess, "openssl: \(result.errors.trimmedLines)")
    }

    /// Lets dnsmasq answer for the checked name, instead of the one before; nil: nobody answers.
    fileprivate func serveNames(_ node: String, _ answer: String?) throws {
        _ = try signal(node, role: "dnsmasq", SIGKILL)
        guard let answer else { return }
        let command = [
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root",
            "--pid-file=", "--bind-interfaces", "--address=/\(checkedName)/\(answer)",
        ]
        // The port is free again when the kernel has taken the one before apart.
        pause(milliseconds: 100)
        try start(node, role: "dnsmasq", command)
    }

    /// Where the flows of some ports of the client go, each opened by a datagram: `route` alone turns no counter.
    fileprivate func nameServers(of ports: Range<Int>) throws -> Set<String> {
        var owners: Set<String> = []
        for port in ports {
            let client = "\(LabPlan.clientAddress):\(port)"
            let ask = "use Socket; socket(S, PF_INET, SOCK_DGRAM, 17); bind(S, sockaddr_in(\(port), INADDR_ANY)); "
                + "send(S, 'x', 0, sockaddr_in(53, inet_aton('\(LabPlan.virtualAddress)')));"
            let sent = try run(in: "client", command: ["perl", "-e", ask])
            try expect(sent.status.isSuccess, "no datagram could be sent: \(sent.errors)")
            let answer = try batonctl(["route", "--udp", client, "\(LabPlan.virtualAddress):53", "--json"])
            guard let owner = (try? JSONValue(text: answer.output))?["owner"]?.string else {
                throw LabError.failed("no route: \(answer.output) \(answer.errors)")
            }
            owners.insert(owner)
        }
        return owners
    }

    /// Lets nginx serve the same at port 443, with one of the certificates; nil: without TLS.
    fileprivate func serveTLS(_ node: String, certificate: String?) throws {
        let place = plan.directory + "/" + (certificate ?? "")
        let pair = certificate == nil ? "" : " ssl_certificate \(place).pem; ssl_certificate_key \(place).key;"
        let block = "    server { listen 443\(certificate == nil ? "" : " ssl");\(pair) root \(try server(node).root); }\n"
        try setServerBlock(node, block)
    }
}
