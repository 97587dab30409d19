/// One change of a list of the configuration, as an operator asks for it at run time.
///
/// What it makes is a tree: whether that is a configuration is for the reader to say, as for any file.
public struct ConfigurationEdit: Hashable, Sendable {
    public enum Verb: String, Hashable, Sendable, CaseIterable {
        case add, edit
        case delete = "del"
    }

    /// The two lists that can be edited.
    public enum Kind: String, Hashable, Sendable, CaseIterable {
        case service, server

        /// The key of the list.
        var list: String {
            switch self {
            case .service: "services"
            case .server: "backends"
            }
        }
    }

    public var kind: Kind
    public var verb: Verb
    /// The entry's name, or its address, with `/udp` behind that of such a service; to edit all of them, an asterisk.
    public var target: String
    /// In order.
    public var settings: [Setting]

    public struct Setting: Hashable, Sendable {
        /// With the keys above it: `persistence.timeout`.
        public var key: String
        /// A value of YAML; nil removes the key.
        public var value: String?

        public init(_ key: String, _ value: String?) {
            self.key = key
            self.value = value
        }
    }

    public init(_ verb: Verb, _ kind: Kind, _ target: String, _ settings: [Setting] = []) {
        self.verb = verb
        self.kind = kind
        self.target = target
        self.settings = settings
    }

    /// The tree with the change made.
    public func applied(to tree: ConfigurationTree) throws(ConfigurationEditError) -> ConfigurationTree {
        var tree = tree
        var entries = tree[kind.list]?.elements ?? []
        let place = entries.firstIndex { $0["name"]?.text == target || Self.address($0) == target }
        switch verb {
        case .add:
            guard place == nil else { throw ConfigurationEditError("there is a \(kind.rawValue) \(target) already") }
            var entry = ConfigurationTree.mapping([.init("name", .scalar(target))])
            try set(&entry)
            entries.append(entry)
        case .edit where target == "*":
            for place in entries.indices { try set(&entries[place]) }
        case .edit:
            guard let place else { throw unknown(entries) }
            try set(&entries[place])
        case .delete:
            guard let place else { throw unknown(entries) }
            entries.remove(at: place)
        }
        tree[kind.list] = .list(entries)
        return tree
    }

    /// TCP and UDP may have one address; all ports are port 0 to ipvsadm.
    private static func address(_ entry: ConfigurationTree) -> String? {
        guard var name = entry["address"]?.text else { return nil }
        if entry["ports"]?.text == "all" { name = name.contains(":") ? "[\(name)]:0" : name + ":0" }
        return entry["protocol"]?.text == "udp" ? name + "/udp" : name
    }

    private func unknown(_ entries: [ConfigurationTree]) -> ConfigurationEditError {
        let names = entries.compactMap { $0["name"]?.text }.joined(separator: ", ")
        return ConfigurationEditError("no \(kind.rawValue) \"\(target)\"; there are: \(names)")
    }

    private func set(_ entry: inout ConfigurationTree) throws(ConfigurationEditError) {
        for setting in settings {
            var value: ConfigurationTree?
            if let text = setting.value {
                guard let tree = ConfigurationTree(yaml: text) else {
                    throw ConfigurationEditError("\(setting.key): \"\(text)\" is no value of YAML")
                }
                value = tree
            }
            Self.set(&entry, setting.key.split(separator: ".").map(String.init)[...], value)
        }
    }

    /// A word with keys of its own is its `name` (`policy: sh` is `policy: {name: sh}`).
    private static func set(_ tree: inout ConfigurationTree, _ path: ArraySlice<String>, _ value: ConfigurationTree?) {
        guard let key = path.first else { return }
        if path.count == 1 {
            tree[key] = value
            return
        }
        var below = tree[key] ?? .mapping([])
        if let name = below.text { below = .mapping([.init("name", .scalar(name))]) }
        set(&below, path.dropFirst(), value)
        tree[key] = below
    }
}

/// Why an edit could not be made.
public struct ConfigurationEditError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

extension ConfigurationError {
    /// The faults without their places, for a text that is in no file.
    public var withoutPlaces: String {
        diagnostics.map { fault in
            var fault = fault
            fault.position = nil
            // Of another place that the fault is about.
            fault.problem = fault.problem.replacing(/\ \(line [0-9]+\)/, with: "")
            return String(fault.description.dropFirst(fault.file.utf8.isEmpty ? 0 : fault.file.count + 2))
        }.joined(separator: "\n")
    }
}
