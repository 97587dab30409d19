import Model

/// A value that is one word, or another thing of its own, in the file.
protocol TreeConvertible {
    /// Nil: nothing is written.
    var tree: ConfigurationTree? { get }
}

/// A structure of which some properties are not simply a key each.
protocol TreeStructure {
    /// What is written for the property of this name instead; nil: its own name as the key.
    func entries(of property: String) -> [ConfigurationTree.Entry]?
}

extension DirectorConfiguration {
    /// The configuration as a file has it, with every key that has a value.
    ///
    /// Every property is written under its own name (`netmaskIPv6` as `netmask_ipv6`) unless its type says otherwise.
    /// Whoever writes the text reads it again and compares: see `text(reading:)`.
    public var tree: ConfigurationTree { ConfigurationTree(properties: self) }
}

extension ConfigurationTree {
    /// The properties of a structure, in their order.
    init(properties value: Any) {
        let own = value as? any TreeStructure
        var entries: [Entry] = []
        for child in Mirror(reflecting: value).children {
            guard let name = child.label else { continue }
            if let special = own?.entries(of: name) {
                entries += special
            } else if let tree = ConfigurationTree(any: child.value) {
                entries.append(Entry(Self.key(name), tree))
            }
        }
        self = .mapping(entries)
    }

    /// Any value; nil where nothing is written: no value, or an empty list.
    init?(any value: Any) {
        if let convertible = value as? any TreeConvertible {
            guard let tree = convertible.tree else { return nil }
            self = tree
            return
        }
        if let raw = value as? any RawRepresentable {
            self.init(any: Self.rawValue(raw))
            return
        }
        let mirror = Mirror(reflecting: value)
        switch mirror.displayStyle {
        case .optional:
            guard let wrapped = mirror.children.first?.value else { return nil }
            self.init(any: wrapped)
        case .collection, .set:
            let elements = mirror.children.compactMap { ConfigurationTree(any: $0.value) }
            guard !elements.isEmpty else { return nil }
            self = .list(elements)
        case .struct: self.init(properties: value)
        default: self = .scalar(String(describing: value))
        }
    }

    private static func rawValue(_ value: some RawRepresentable) -> Any { value.rawValue }

    /// `netmaskIPv6` as `netmask_ipv6`.
    static func key(_ property: String) -> String {
        var key = ""
        var wasUpper = true
        for character in property {
            if character.isUppercase, !wasUpper { key += "_" }
            wasUpper = character.isUppercase
            key += character.lowercased()
        }
        return key
    }
}

// MARK: Words

extension String: TreeConvertible {
    var tree: ConfigurationTree? { .scalar(self) }
}

extension Interval: TreeConvertible {
    var tree: ConfigurationTree? { .scalar(durationText(self)) }
}

extension IPAddress: TreeConvertible {
    var tree: ConfigurationTree? { .scalar(description) }
}

extension Endpoint: TreeConvertible {
    var tree: ConfigurationTree? { .scalar(description) }
}

extension ReplayPolicy: TreeConvertible {
    var tree: ConfigurationTree? { .scalar(name) }
}

// MARK: Structures

extension DirectorConfiguration: TreeStructure {
    func entries(of property: String) -> [ConfigurationTree.Entry]? {
        switch property {
        case "policyFiles": policyFiles.isEmpty ? [] : [.init("policies", .list(policyFiles.map { .scalar($0) }))]
        case "logLevel": [.init("log", .mapping([.init("level", .scalar(logLevel.rawValue))]))]
        default: nil
        }
    }
}

extension DirectorConfiguration.Service: TreeStructure {
    func entries(of property: String) -> [ConfigurationTree.Entry]? {
        switch property {
        case "policy": [.init("policy", policyTree)]
        case "policyOptions": []
        case "address": ports == nil ? nil : [.init("address", .scalar("\(address.address)"))]
        case "transport": [.init("protocol", .scalar(transport.rawValue))]
        case "ports": ports.map { [.init("ports", $0.tree)] } ?? []
        case "http": replay == .http ? httpEntries : []
        case "rate": rate?.entries ?? []
        default: nil
        }
    }

    private var policyTree: ConfigurationTree {
        guard !policyOptions.isEmpty else { return .scalar(policy) }
        let options = policyOptions.sorted { $0.key < $1.key }.map { key, value in
            // No policy has a table of one place: 0 and 1 are flags.
            let text = value == 0 ? "false" : value == 1 ? "true" : "\(value)"
            return ConfigurationTree.Entry(key, .scalar(text))
        }
        return .mapping([.init("name", .scalar(policy))] + options)
    }

    private var httpEntries: [ConfigurationTree.Entry] {
        [
            .init("methods", .scalar(http.methods.name)),
            .init("range_from", .scalar(http.rangeFrom.map(Self.decimalSize) ?? "off")),
        ]
    }

    /// With the largest unit of the powers of 1000 that says it in a whole number.
    private static func decimalSize(_ bytes: UInt64) -> String {
        for (name, factor) in [("GB", UInt64(1_000_000_000)), ("MB", 1_000_000), ("kB", 1000)] where bytes % factor == 0 {
            return "\(bytes / factor)\(name)"
        }
        return "\(bytes)B"
    }
}

extension ServicePorts {
    fileprivate var tree: ConfigurationTree {
        let words = ranges.map { ConfigurationTree.scalar(ServicePorts([$0]).description) }
        return words.count == 1 ? words[0] : .list(words)
    }
}

extension DirectorConfiguration.Rate {
    /// Two keys of the mapping that it stands in.
    var entries: [ConfigurationTree.Entry] {
        [.init("rate", .scalar("\(rate)")), .init("burst", .scalar("\(burst)"))]
    }
}

extension DirectorConfiguration.Flows: TreeStructure {
    func entries(of property: String) -> [ConfigurationTree.Entry]? {
        guard property == "rate" else { return nil }
        return rate?.entries ?? [.init("rate", .scalar("off"))]
    }
}

extension ServiceCheck: TreeStructure {
    /// Only the keys that the kind knows.
    func entries(of property: String) -> [ConfigurationTree.Entry]? {
        let key = ["statuses": "status", "recordType": "type"][property] ?? property
        guard CheckReading.knows(kind, key) else { return [] }
        switch property {
        case "statuses": return [.init("status", .list(statuses.map { .scalar(Self.text($0)) }))]
        case "recordType": return [.init("type", .scalar(recordType))]
        default: return nil
        }
    }

    private static func text(_ range: ClosedRange<Int>) -> String {
        range.count == 1 ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)"
    }
}

// MARK: Text

extension DirectorConfiguration {
    /// Reads and checks a text that is in no file.
    public typealias TextReader = @Sendable (_ yaml: String) throws(ConfigurationError) -> DirectorConfiguration

    /// The text of a file that reads as exactly this configuration.
    ///
    /// - Parameter read: the reader of such files.
    /// - Throws: where this version can read a key that it cannot write: a file must never lose one.
    public func text(reading read: TextReader) throws(ConfigurationError) -> String {
        let text = tree.yaml
        let again = try read(text)
        guard again == self else {
            let changes = ConfigurationDifference(from: self, to: again).lines.joined(separator: "; ")
            throw ConfigurationError([
                Diagnostic(
                    file: "the running configuration",
                    problem: "cannot be written without a loss: \(changes)",
                    remedy: "change the file by hand, and reload it"
                )
            ])
        }
        return text
    }
}
