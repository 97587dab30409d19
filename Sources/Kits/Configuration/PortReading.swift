import Model

/// Reads where a service is: address, protocol, ports.
enum PortReading {
    struct Place {
        var address = Endpoint(address: IPAddress(ipv4: 0), port: 0)
        var transport = TransportProtocol.tcp
        var ports: ServicePorts?

        var isForwardedOnly: Bool { transport == .udp || ports != nil }
    }

    /// How many ports and ranges a list may have.
    static let listLimit = 16
    /// How many ranges an address may have in one protocol (BATON_MAX_PORT_RANGES of the data plane).
    static let rangeLimit = 32

    static func read(_ entry: Section) -> Place {
        var place = Place()
        let hasPorts = entry.stands("ports")
        if hasPorts {
            let address = entry.required("address", .address(.lan, example: "10.0.0.100, since the ports stand in `ports`"))
            place.address.address = address ?? place.address.address
        } else {
            place.address = entry.required("address", .endpoint(.lan, example: "10.0.0.100:80")) ?? place.address
        }
        place.transport = entry.value("protocol", .choice(of: "a protocol"), default: .tcp)
        place.ports = ports(entry)
        return place
    }

    /// Without a port, rather than nil, where they could not be read.
    private static func ports(_ entry: Section) -> ServicePorts? {
        guard entry.isList("ports") else {
            return entry.optional("ports", .ports) ?? (entry.stands("ports") ? ServicePorts([]) : nil)
        }
        let ranges = entry.words("ports", limit: listLimit, first: .portRange, others: .portRange)
        for (index, range) in ranges.enumerated() {
            guard let other = ranges[..<index].first(where: { $0.overlaps(range) }) else { continue }
            entry.reader.report(
                "\(entry.child("ports"))[\(index)]",
                "\(ServicePorts([range])) overlaps \(ServicePorts([other])), which stands before it",
                expected: "each port once")
        }
        return ServicePorts(ranges)
    }

    /// Nothing is tracked that backups could go on with.
    static func checkForwardedOnly(_ entry: Section, _ place: Place, replay: ReplayPolicy, forwarding: String) {
        guard place.isForwardedOnly else { return }
        let what = place.transport == .udp ? "a service of UDP" : "a service with `ports`"
        if replay != .none {
            entry.reader.report(
                entry.child("replay"), "\(what) is forwarded only", expected: "none",
                remedy: "give each port that is to be taken over a service of its own")
        }
        if forwarding != "owner" {
            entry.reader.report(entry.child("forwarding"), "\(what) is forwarded only", expected: "owner")
        }
    }

    /// Of several ports a check tries the first; of all of them none is the first.
    static func checkPorts(_ entry: Section, _ place: Place, _ checks: [DirectorConfiguration.Check]) {
        guard place.ports?.isAll ?? false else { return }
        for (index, check) in checks.enumerated()
        where check.port == nil && CheckReading.knows(check.kind, "port") {
            entry.reader.report(
                "\(entry.child("checks"))[\(index)].kind", "of all ports, which one shall it try?",
                expected: "a port from 1 to 65535 as `port`")
        }
    }

    // MARK: Overlaps

    /// A single port in one protocol at one address.
    private struct PortName: Hashable, CustomStringConvertible {
        var endpoint: Endpoint
        var transport: TransportProtocol
        var description: String { transport == .tcp ? "\(endpoint)" : "\(endpoint)/\(transport.rawValue)" }
    }

    /// A port before a range, a range before all: so a port may lie in a range, but two of a kind may not overlap.
    static func checkOverlaps(_ reader: Reader, services: [DirectorConfiguration.Service]) {
        var singles: [(key: String, value: PortName)] = []
        for (index, service) in services.enumerated() {
            for port in service.singlePorts {
                let endpoint = Endpoint(address: service.address.address, port: port)
                let key = service.ports == nil ? "address" : "ports"
                singles.append(("services[\(index)].\(key)", PortName(endpoint: endpoint, transport: service.transport)))
            }
        }
        reader.requireDistinct(singles, expected: "an address and port that no other service has")
        for index in services.indices { checkRanges(reader, services, index) }
    }

    private static func checkRanges(_ reader: Reader, _ services: [DirectorConfiguration.Service], _ index: Int) {
        let service = services[index]
        let key = "services[\(index)].ports"
        guard reader.places[key] != nil else { return }
        var count = service.portRanges.count
        for (other, earlier) in services[..<index].enumerated()
        where earlier.address.address == service.address.address && earlier.transport == service.transport {
            count += earlier.portRanges.count
            guard let (range, taken) = overlap(service, earlier) else { continue }
            let line = reader.places["services[\(other)].ports"].map { " (line \($0.line))" } ?? ""
            reader.report(
                key, "\(ServicePorts([range])) overlaps \(ServicePorts([taken])) of services[\(other)].ports\(line)",
                expected: "ranges of which no two overlap",
                remedy: "a single port may lie in another's range, and goes before it; so does any range before `all`")
        }
        if count > rangeLimit {
            reader.report(
                key, "the services of \(service.address.address) have \(count) ranges",
                expected: "at most \(rangeLimit) of one address and protocol")
        }
    }

    private static func overlap(
        _ service: DirectorConfiguration.Service, _ other: DirectorConfiguration.Service
    ) -> (ClosedRange<UInt16>, ClosedRange<UInt16>)? {
        guard (service.ports?.isAll ?? false) == (other.ports?.isAll ?? false) else { return nil }
        for range in service.portRanges {
            if let taken = other.portRanges.first(where: { $0.overlaps(range) }) { return (range, taken) }
        }
        return nil
    }
}

/// Reads `backend_interface`.
enum BackendInterface {
    static func read(_ root: Section, besides interface: String, existing: [String]?) -> String? {
        guard let name = root.optional("backend_interface", .interface(existing: existing)) else { return nil }
        if name == interface {
            root.reader.report(
                root.child("backend_interface"), "\(quoted(name)) is `interface` already",
                expected: "another interface", remedy: "leave the key out: frames leave by the one that they came in on")
        }
        return name
    }
}

extension ValueKind where Value == ClosedRange<UInt16> {
    /// A port, or two with a hyphen between them.
    static var portRange: ValueKind<ClosedRange<UInt16>> {
        ValueKind(expected: "a port from 1 to 65535, or a range of them, e.g. 8000-8099") { scalar in
            let parts = scalar.text.split(separator: "-", omittingEmptySubsequences: false)
            let ports = parts.compactMap { port($0) }
            guard (1...2).contains(parts.count), ports.count == parts.count, let first = ports.first,
                let last = ports.last
            else { return .fault("\(quoted(scalar.text)) is neither a port nor a range of ports") }
            guard first <= last else { return .fault("\(quoted(scalar.text)) ends before it begins") }
            return .value(first...last)
        }
    }

    private static func port(_ text: Substring) -> UInt16? {
        guard text.utf8.first != UInt8(ascii: "0"), text.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
        return UInt16(text)
    }
}

extension ValueKind where Value == ServicePorts {
    /// A range or `all`, as a scalar.
    static var ports: ValueKind<ServicePorts> {
        ValueKind(expected: "a range of ports such as 8000-8099, a list of ports and ranges, or all") { scalar in
            if scalar.text == "all" { return .value(.all) }
            switch ValueKind<ClosedRange<UInt16>>.portRange.read(scalar) {
            case .value(let range): return .value(ServicePorts([range]))
            case .fault(let problem, let remedy): return .fault(problem, remedy: remedy)
            }
        }
    }
}
