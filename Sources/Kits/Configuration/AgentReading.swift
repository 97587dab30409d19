import Model

extension AgentConfiguration {
    /// Reads and checks an agent's configuration file.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - interfaces: the interfaces of this machine; nil leaves the existence of `interface` unchecked.
    /// - Throws: all faults of the file together.
    public static func load(
        _ path: String = defaultPath,
        interfaces: [String]? = nil
    ) throws(ConfigurationError) -> ConfigurationFile<AgentConfiguration> {
        let remedy = "write one like agent.minimal.yaml of Baton's samples, or name another with --configuration"
        return try parse(FileText.read(path, remedy: remedy), path: path, interfaces: interfaces)
    }

    /// Checks the bytes of an agent's configuration file; `path` is what messages call it.
    public static func parse(
        _ bytes: [UInt8],
        path: String,
        interfaces: [String]? = nil
    ) throws(ConfigurationError) -> ConfigurationFile<AgentConfiguration> {
        try ConfigurationFile.read(bytes, path: path) { root in read(root, interfaces: interfaces) }
    }

    private static func read(_ root: Section, interfaces: [String]?) -> AgentConfiguration {
        let configuration = AgentConfiguration(
            interface: root.required("interface", .interface(existing: interfaces)) ?? "",
            name: root.required("name", .name) ?? "",
            director: root.required(
                "director",
                .endpoint(.peer, defaultPort: CommonDefaults.controlPort, example: "10.0.0.1 or 10.0.0.1:7400")
            ) ?? Endpoint(address: IPAddress(ipv4: 0), port: 0),
            services: root.list("services", isRequired: false, limit: Limits.services, keys: "name, check and restart_grace") {
                Service(entry: $0)
            },
            heartbeatPort: root.section("heartbeat", keys: "port") { $0.port("port", default: 7401) },
            state: root.value("state", .path(example: "/sys/fs/bpf/baton-agent"), default: "/sys/fs/bpf/baton-agent"),
            socket: root.value(
                "socket",
                .socketPath(example: "/run/baton/agent.sock"),
                default: "/run/baton/agent.sock"
            ),
            key: root.keyPath(),
            tun: root.value("tun", .device(example: "baton0"), default: "baton0"),
            table: root.value("table", .tableName, default: "baton"),
            journal: root.section("journal", keys: "connection and total") { Journal(section: $0) },
            logLevel: root.logLevel()
        )
        root.reader.requireDistinct(
            configuration.services.enumerated().map { ("services[\($0)].name", $1.name) },
            expected: "a name that no other entry has"
        )
        root.reader.requireDistinct(
            [("interface", configuration.interface), ("tun", configuration.tun)],
            expected: "two different interfaces"
        )
        return configuration
    }
}

// MARK: Parts

extension AgentConfiguration.Service {
    fileprivate init(entry: Section) {
        self.init(
            name: entry.required("name", .name) ?? "",
            check: entry.section("check", keys: CheckReading.keys) { AgentConfiguration.Check(section: $0) },
            restartGrace: entry.value("restart_grace", .duration(in: .zero...Interval.seconds(60)), default: .zero)
        )
    }
}

extension AgentConfiguration.Check {
    fileprivate init(section: Section) {
        self.init(entry: section, kind: section.has("kind") ? section.optional("kind", .localCheck) : .usual)
    }
}

extension AgentConfiguration.Journal {
    fileprivate init(section: Section) {
        self.init()
        let faults = section.reader.diagnostics.count
        let least = 64 << 10
        connection = section.value("connection", .size(in: least...(1 << 30)), default: connection)
        total = section.value("total", .size(in: least...(64 << 30)), default: total)
        guard total < connection, section.reader.diagnostics.count == faults else { return }
        let key = section.reader.places[section.child("total")] == nil ? "connection" : "total"
        let problem =
            key == "total"
            ? "\(sizeText(total)) is less than one connection may take, \(sizeText(connection))"
            : "\(sizeText(connection)) is more than all connections may take, \(sizeText(total))"
        section.reader.report(
            section.child(key),
            problem,
            expected: "a total of no less than one connection's journal"
        )
    }
}

extension ValueKind where Value == AgentConfiguration.CheckKind {
    /// One of the agent's kinds; of `ping` it is said why it is none.
    fileprivate static var localCheck: ValueKind<Value> {
        let choice = ValueKind.choice(of: "a kind of check")
        return ValueKind(expected: choice.expected) { scalar in
            guard scalar.text == "ping" else { return choice.read(scalar) }
            return .fault(
                "a \"ping\" of its own machine is answered by the kernel, whatever the application does",
                remedy: "say \"process\" to ask for a listener, or let the director ping")
        }
    }
}
