import Model

extension DirectorConfiguration {
    /// Reads and checks a director's configuration file.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - modules: the modules that `policy`, `forwarding` and `detector` may name.
    ///   - interfaces: the interfaces of this machine; nil leaves the existence of `interface` unchecked.
    ///   - loader: loads the files of `policies`, whose names the services may then use.
    /// - Throws: all faults of the file together.
    public static func load(
        _ path: String = defaultPath,
        modules: ModuleNames,
        interfaces: [String]? = nil,
        loader: PolicyLoader = noPolicies
    ) throws(ConfigurationError) -> ConfigurationFile<DirectorConfiguration> {
        let remedy = "write one like director.minimal.yaml of Baton's samples, or name another with --configuration"
        return try parse(
            FileText.read(path, remedy: remedy), path: path, modules: modules, interfaces: interfaces, loader: loader)
    }

    /// Checks the bytes of a director's configuration file; `path` is what messages call it.
    public static func parse(
        _ bytes: [UInt8],
        path: String,
        modules: ModuleNames,
        interfaces: [String]? = nil,
        loader: PolicyLoader = noPolicies
    ) throws(ConfigurationError) -> ConfigurationFile<DirectorConfiguration> {
        try ConfigurationFile.read(bytes, path: path) { root in
            read(root, modules: modules, interfaces: interfaces, loader: loader)
        }
    }

    private static func read(
        _ root: Section,
        modules: ModuleNames,
        interfaces: [String]?,
        loader: PolicyLoader
    ) -> DirectorConfiguration {
        let interface = root.required("interface", .interface(existing: interfaces)) ?? ""
        let backendInterface = BackendInterface.read(root, besides: interface, existing: interfaces)
        var modules = modules
        let policyFiles = PolicyReading.files(root, into: &modules, loader: loader)
        let services = root.list(
            "services",
            isRequired: true,
            limit: Limits.services,
            keys: "name, address, protocol, ports, policy, persistence, replay, forwarding, checks, sorry, rate and burst"
        ) { Service(entry: $0, modules: modules) }
        let backends = root.list(
            "backends",
            isRequired: true,
            limit: Limits.backends,
            keys: "name, address, weight, upper_threshold and lower_threshold"
        ) { Backend(entry: $0) }
        let configuration = DirectorConfiguration(
            interface: interface,
            backendInterface: backendInterface,
            services: services,
            policyFiles: policyFiles,
            backends: backends,
            heartbeat: root.section("heartbeat", keys: "interval, window and threshold") { Heartbeat(section: $0) },
            detector: root.value(
                "detector",
                .oneOf(modules.detectors, what: "a failure detection module"),
                default: "window"
            ),
            fence: root.optionalSection("fence", keys: "command and timeout") { Fence(section: $0) },
            backups: root.value("backups", .integer(in: 1...Limits.backups), default: 1),
            control: root.section("control", keys: "address and port") { Control(section: $0) },
            flows: root.section("flows", keys: "size, half_open, udp, rate and burst") { Flows(section: $0) },
            state: root.value("state", .path(example: "/sys/fs/bpf/baton"), default: "/sys/fs/bpf/baton"),
            socket: root.value(
                "socket",
                .socketPath(example: "/run/baton/director.sock"),
                default: "/run/baton/director.sock"
            ),
            key: root.keyPath(),
            xdp: root.value("xdp", .choice(of: "a way to attach XDP"), default: .auto),
            logLevel: root.logLevel()
        )
        PolicyReading.checkRoom(root.reader, services: services, modules: modules)
        root.reader.checkSorry(services, backends)
        checkTogether(root.reader, services: services, backends: backends, control: configuration.control)
        return configuration
    }

    /// What no value shows alone: names and addresses that stand twice.
    private static func checkTogether(
        _ reader: Reader,
        services: [Service],
        backends: [Backend],
        control: Control
    ) {
        reader.requireDistinct(
            services.enumerated().map { ("services[\($0)].name", $1.name) },
            expected: "a name that no other service has"
        )
        PortReading.checkOverlaps(reader, services: services)
        reader.requireDistinct(
            backends.enumerated().map { ("backends[\($0)].name", $1.name) },
            expected: "a name that no other back-end has"
        )
        reader.requireDistinct(
            backends.enumerated().map { ("backends[\($0)].address", $1.address) },
            expected: "an address that no other back-end has"
        )
        // A VIP stands on the loopback interface of every back-end, so a machine that had it as its own address, or
        // sought the director there, would talk to itself.
        let machines =
            backends.enumerated().map { ("backends[\($0)].address", $1.address) }
            + (control.address.map { [("control.address", $0)] } ?? [])
        for (index, service) in services.enumerated() {
            let key = "services[\(index)].address"
            for (machineKey, address) in machines where address == service.address.address {
                reader.reportClash(key, machineKey, address)
            }
        }
    }
}

extension Reader {
    /// A VIP that is some machine's own address: reported at the later of the two places, naming the earlier.
    fileprivate func reportClash(_ serviceKey: String, _ machineKey: String, _ address: IPAddress) {
        guard let service = places[serviceKey], let machine = places[machineKey] else { return }
        if machine < service {
            report(
                serviceKey,
                at: service,
                "\(quoted(address.description)) is already \(machineKey) (line \(machine.line))",
                expected: "a virtual address that no machine has as its own"
            )
        } else {
            report(
                machineKey,
                at: machine,
                "\(quoted(address.description)) is already the VIP of \(serviceKey) (line \(service.line))",
                expected: "an address of the machine's own, which is no VIP"
            )
        }
    }
}

// MARK: Parts

extension DirectorConfiguration.Service {
    fileprivate init(entry: Section, modules: ModuleNames) {
        let name = entry.required("name", .name)
        let place = PortReading.read(entry)
        let (policy, options) = PolicyReading.read(entry, modules: modules)
        let replay = entry.value("replay", .replay, default: .none)
        let http = HTTPReplay(entry: entry, replay: replay)
        let forwarding = entry.value(
            "forwarding",
            .oneOf(modules.forwarding, what: "a forwarding module"),
            default: place.isForwardedOnly ? "owner" : "selective"
        )
        PortReading.checkForwardedOnly(entry, place, replay: replay, forwarding: forwarding)
        let checks = DirectorCheckReading.read(entry)
        PortReading.checkPorts(entry, place, checks)
        self.init(
            name: name ?? "",
            address: place.address,
            transport: place.transport,
            ports: place.ports,
            policy: policy,
            policyOptions: options,
            persistence: entry.optionalSection("persistence", keys: "timeout, netmask and netmask_ipv6") {
                DirectorConfiguration.Persistence(section: $0)
            },
            replay: replay,
            http: http,
            forwarding: forwarding,
            timeouts: entry.section("timeouts", keys: DirectorConfiguration.Timeouts.keys) {
                DirectorConfiguration.Timeouts(section: $0)
            },
            resetOnTimeout: entry.value("reset_on_timeout", .flag, default: false),
            checks: checks,
            sorry: entry.optional("sorry", .name),
            rate: DirectorConfiguration.Rate.read(entry, default: nil)
        )
    }
}

extension ValueKind where Value == ReplayPolicy {
    /// The name of a replay policy.
    fileprivate static var replay: ValueKind<ReplayPolicy> {
        let names = ReplayPolicy.allCases.map(\.name)
        return ValueKind(expected: alternatives(names)) { scalar in
            if let policy = ReplayPolicy.allCases.first(where: { $0.name == scalar.text }) { return .value(policy) }
            return .fault(
                "\(quoted(scalar.text)) is not a replay policy",
                remedy: suggestion(for: scalar.text, among: names)
            )
        }
    }
}

extension DirectorConfiguration.Backend {
    fileprivate init(entry: Section) {
        let name = entry.required("name", .name)
        let address = entry.required("address", .address(.lan, example: "10.0.0.11"))
        let weight = entry.value("weight", .integer(in: 0...65535), default: 1)
        self.init(name: name ?? "", address: address ?? IPAddress(ipv4: 0), weight: weight)
        readThresholds(entry)
    }
}

extension DirectorConfiguration.Heartbeat {
    fileprivate init(section: Section) {
        self.init()
        let faults = section.reader.diagnostics.count
        interval = section.value("interval", .duration(in: .milliseconds(1) ... .seconds(1)), default: interval)
        window = section.value("window", .duration(in: .milliseconds(3) ... .seconds(60)), default: window)
        threshold = section.value("threshold", .integer(in: 1...16), default: threshold)
        guard section.reader.diagnostics.count == faults, window < interval * 3 else { return }
        // Whichever of the two the file has; with both, the window.
        let hasWindow = section.reader.places[section.child("window")] != nil
        let least = "three intervals at least, so that two lost heartbeats are no failure"
        if hasWindow {
            section.reader.report(
                section.child("window"),
                "\(durationText(window)) is less than three intervals of \(durationText(interval))",
                expected: "\(durationText(interval * 3)) or more: \(least)"
            )
        } else {
            section.reader.report(
                section.child("interval"),
                "three intervals of \(durationText(interval)) are more than the window, \(durationText(window))",
                expected: "a window of \(least)",
                remedy: "add \"window: \(durationText(interval * 5))\""
            )
        }
    }
}

extension DirectorConfiguration.Fence {
    fileprivate init(section: Section) {
        self.init(
            command: section.words(
                "command", limit: 32, first: .path(example: "/usr/local/sbin/power-off"), others: .argument),
            timeout: section.value(
                "timeout", .duration(in: .milliseconds(100) ... .seconds(300)), default: .seconds(10))
        )
    }
}

extension DirectorConfiguration.Control {
    fileprivate init(section: Section) {
        self.init(
            address: section.optional("address", .address(.local, example: "10.0.0.1")),
            port: section.port("port", default: CommonDefaults.controlPort)
        )
    }
}

extension DirectorConfiguration.Flows {
    fileprivate init(section: Section) {
        self.init(
            size: section.value("size", .integer(in: 1024...(16 << 20)), default: 1_000_000),
            halfOpen: section.value("half_open", .integer(in: 1024...(16 << 20)), default: 131_072),
            udp: section.value("udp", .integer(in: 1024...(16 << 20)), default: 131_072),
            rate: DirectorConfiguration.Rate.read(section, default: DirectorConfiguration.Flows().rate)
        )
    }
}
