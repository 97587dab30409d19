import Model

/// The configuration files that the lab writes for the daemons; real ones, as an operator would write them.
struct DaemonConfiguration {
    let plan: LabPlan
    let options: LabOptions

    var director: String {
        let vip = LabPlan.virtualAddress
        var services: [(name: String, address: String, replay: String)] = []
        if !options.ipv6Only { services.append(("web", "\(vip):\(LabPlan.port)", options.replay)) }
        if options.ipv6 {
            services.append(("web6", "\"[\(LabPlan.virtualAddress6)]:\(LabPlan.port)\"", options.replay))
        }
        services += options.extraServices.map { ($0.name, "\(vip):\($0.port)", $0.replay) }
        var lines = ["interface: eth0"] + (options.twoArmed ? ["backend_interface: eth1"] : []) + ["services:"]
        for service in services {
            lines += [
                "  - name: \(service.name)",
                "    address: \(service.address)",
                "    policy: \(options.policy)",
                "    replay: \(service.replay)",
                "    forwarding: \(options.forwarding)",
            ]
            if ["web", "web6"].contains(service.name) { lines += options.serviceSettings.map { "    " + $0 } }
        }
        lines += options.serviceLines
        lines.append("backends:")
        for (index, node) in plan.webNodes.enumerated() {
            lines += ["  - name: \(node)", "    address: \(address(of: node))"]
            if index < options.backendSettings.count { lines += options.backendSettings[index].map { "    " + $0 } }
            if index < options.weights.count { lines.append("    weight: \(options.weights[index])") }
        }
        lines += [
            "backups: \(options.backups)",
            "heartbeat:",
            "  interval: \(options.heartbeatIntervalMilliseconds)ms",
            "  window: \(options.heartbeatWindowMilliseconds)ms",
            "state: \(plan.pins)/director",
            "socket: \(plan.socket)",
            "key: \(plan.key)",
            "log:",
            "  level: \(options.logLevel)",
        ]
        lines += options.directorLines
        return lines.joined(separator: "\n") + "\n"
    }

    private func address(of node: String) -> String {
        (options.ipv6Only ? plan.address6(of: node) : plan.address(of: node))?.description ?? ""
    }

    func agent(_ node: String) -> String {
        """
        interface: eth0
        name: \(node)
        director: \(address(of: "director"))
        state: \(plan.pins)/\(node)
        socket: \(plan.agentSocket(node))
        key: \(plan.key)
        log:
          level: \(options.logLevel)

        """ + options.agentLines.map { $0 + "\n" }.joined()
    }

    func write() throws {
        try writeFile(plan.directorConfiguration, director)
        for node in plan.webNodes { try writeFile(plan.agentConfiguration(node), agent(node)) }
        var generator = SystemRandomNumberGenerator()
        let words = (0..<4).map { _ in String(generator.next() as UInt64, radix: 16) }
        let key = words.map { String(repeating: "0", count: 16 - $0.count) + $0 }.joined()
        try writeFile(plan.key, key + "\n", mode: 0o600)
    }
}
