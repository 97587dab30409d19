import Model

/// What a reload would change: from one configuration to another, pure.
///
/// Services and servers are the same when their names are. Everything is compared as the file has it, key by key, and
/// besides as a whole: a property that no key shows is a change all the same.
public struct ConfigurationDifference: Hashable, Sendable {
    /// In the order of the file: services, servers, then everything else.
    public var changes: [ConfigurationChange]

    public var isEmpty: Bool { changes.isEmpty }

    /// One line a change, for people: `+ service ...`, `- server ...`, `~ service web: policy rr -> wlc`.
    public var lines: [String] { changes.map(\.description) }

    /// What a running director cannot do, a sentence each; empty when the new configuration can be applied.
    public var obstacles: [String] { changes.compactMap(\.obstacle) }

    public init(from old: DirectorConfiguration, to new: DirectorConfiguration) {
        changes = Self.services(old, new) + Self.servers(old, new) + Self.settings(old, new)
        if changes.isEmpty, old != new { changes = [.setting(KeyChange(key: "configuration"))] }
    }

    private static func services(_ old: DirectorConfiguration, _ new: DirectorConfiguration) -> [ConfigurationChange] {
        compare(
            old.services, new.services, name: \.name,
            added: ConfigurationChange.serviceAdded,
            removed: ConfigurationChange.serviceRemoved,
            edited: ConfigurationChange.serviceEdited
        )
    }

    private static func servers(_ old: DirectorConfiguration, _ new: DirectorConfiguration) -> [ConfigurationChange] {
        var changes = compare(
            old.backends, new.backends, name: \.name,
            added: ConfigurationChange.serverAdded,
            removed: ConfigurationChange.serverRemoved,
            edited: ConfigurationChange.serverEdited
        )
        // Who stays may have changed places; that alone is another ring.
        let kept = old.backends.map(\.name).filter { name in new.backends.contains { $0.name == name } }
        let order = new.backends.map(\.name).filter(kept.contains)
        if kept != order { changes.append(.ringOrder(old: kept, new: order)) }
        return changes
    }

    /// All keys but the two lists.
    private static func settings(_ old: DirectorConfiguration, _ new: DirectorConfiguration) -> [ConfigurationChange] {
        var (oldTree, newTree) = (old.tree, new.tree)
        for key in ["services", "backends"] {
            oldTree[key] = nil
            newTree[key] = nil
        }
        return KeyChange.between(oldTree, newTree).map(ConfigurationChange.setting)
    }

    private static func compare<Element: Hashable>(
        _ old: [Element],
        _ new: [Element],
        name: (Element) -> String,
        added: (Element) -> ConfigurationChange,
        removed: (Element) -> ConfigurationChange,
        edited: (String, [KeyChange]) -> ConfigurationChange
    ) -> [ConfigurationChange] {
        var changes: [ConfigurationChange] = []
        for former in old {
            guard let present = new.first(where: { name($0) == name(former) }) else {
                changes.append(removed(former))
                continue
            }
            guard present != former else { continue }
            let keys = KeyChange.between(
                ConfigurationTree(properties: former), ConfigurationTree(properties: present))
            changes.append(edited(name(former), keys.isEmpty ? [KeyChange(key: "")] : keys))
        }
        for present in new where !old.contains(where: { name($0) == name(present) }) { changes.append(added(present)) }
        return changes
    }
}

/// A key whose value differs.
public struct KeyChange: Hashable, Sendable, CustomStringConvertible {
    /// With the keys above it: `persistence.timeout`. Empty: something that no key shows.
    public var key: String
    /// As the file has it; nil: the key is not there.
    public var old: String?
    public var new: String?

    public init(key: String, old: String? = nil, new: String? = nil) {
        self.key = key
        self.old = old
        self.new = new
    }

    public var description: String {
        switch (old, new) {
        case (let old?, let new?): "\(key) \(old) -> \(new)"
        case (nil, let new?): "\(key) \(new) (new)"
        case (let old?, nil): "\(key) gone (was \(old))"
        case (nil, nil): key.isEmpty ? "changed" : "\(key) changed"
        }
    }

    /// What differs between two mappings, at the deepest keys that both have.
    static func between(_ old: ConfigurationTree, _ new: ConfigurationTree, below path: String = "") -> [KeyChange] {
        if old == new { return [] }
        guard case .mapping(let oldEntries) = old, case .mapping(let newEntries) = new else {
            return [KeyChange(key: path, old: old.shown, new: new.shown)]
        }
        let keys = oldEntries.map(\.key) + newEntries.map(\.key).filter { old[$0] == nil }
        return keys.flatMap { key -> [KeyChange] in
            let below = path.isEmpty ? key : "\(path).\(key)"
            switch (old[key], new[key]) {
            case (let old?, let new?): return between(old, new, below: below)
            case (let old, let new): return [KeyChange(key: below, old: old?.shown, new: new?.shown)]
            }
        }
    }
}

public enum ConfigurationChange: Hashable, Sendable {
    case serviceAdded(DirectorConfiguration.Service)
    case serviceRemoved(DirectorConfiguration.Service)
    case serviceEdited(String, [KeyChange])
    case serverAdded(DirectorConfiguration.Backend)
    case serverRemoved(DirectorConfiguration.Backend)
    case serverEdited(String, [KeyChange])
    /// Of those that stay, by their names: who backs whom up.
    case ringOrder(old: [String], new: [String])
    /// Of everything but the two lists.
    case setting(KeyChange)
}

extension ConfigurationChange: CustomStringConvertible {
    public var description: String {
        switch self {
        case .serviceAdded(let service): "+ service \(service.name): \(Self.keys(service, .init(name: "", address: service.address)))"
        case .serviceRemoved(let service): "- service \(service.name): \(service.addressText)"
        case .serviceEdited(let name, let keys): "~ service \(name): \(Self.text(keys))"
        case .serverAdded(let server): "+ server \(server.name): \(Self.keys(server, .init(name: "", address: server.address)))"
        case .serverRemoved(let server): "- server \(server.name): \(server.address)"
        case .serverEdited(let name, let keys): "~ server \(name): \(Self.text(keys))"
        case .ringOrder(let old, let new):
            "~ order of the ring: \(old.joined(separator: ", ")) -> \(new.joined(separator: ", "))"
        case .setting(let key): "~ \(key)"
        }
    }

    private static func text(_ keys: [KeyChange]) -> String { keys.map(\.description).joined(separator: ", ") }

    /// The address, and what is not the default, in one line.
    private static func keys<Entry>(_ entry: Entry, _ usual: Entry) -> String {
        guard case .mapping(let entries) = ConfigurationTree(properties: entry) else { return "" }
        let defaults = ConfigurationTree(properties: usual)
        let said = entries.filter { $0.key == "address" || $0.key != "name" && defaults[$0.key] != $0.value }
        return said.map { "\($0.key) \($0.value.shown)" }.joined(separator: ", ")
    }
}

extension ConfigurationChange {
    /// Keys that a running director takes up; all others need a restart, those that are yet to come as well.
    private static let live = ["backups", "fence", "flows.rate", "flows.burst"]

    private static let reasons = [
        "interface": "the data plane sits at that interface",
        "policies": "code is loaded at the start alone",
        "heartbeat": "leases that agents hold are reckoned by it",
        "detector": "silence is being judged by it",
        "control": "agents are connected there",
        "flows": "the kernel's table cannot change its size",
        "state": "the maps with the flows are pinned there",
        "socket": "it is open",
        "key": "agents are connected by it",
        "xdp": "the program is attached that way",
        "log": "it is set at the start",
    ]

    /// Why this cannot be done while the director runs; nil when it can.
    public var obstacle: String? {
        guard case .setting(let change) = self else { return nil }
        let key = String(change.key.prefix { $0 != "." })
        if Self.live.contains(key) || Self.live.contains(change.key) { return nil }
        let reason = Self.reasons[key] ?? "a running director does not take it up"
        return "\(change.key) cannot change without a restart: \(reason)"
    }
}
