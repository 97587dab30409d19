/// A configuration as it was read, with the places of its keys.
///
/// The places let a program report a fault that only the machine can tell, such as an interface that went away
/// between the check and the start, as `file:line:column`.
public struct ConfigurationFile<Value: Sendable>: Sendable {
    /// The path of the file, as it was given.
    public let path: String
    public let value: Value
    /// Where each value of the file stands, by its path (`backends[1].address`); defaults have no place.
    public let places: [String: Position]
    /// Every key that the file may have, places in lists left out (`backends[].address`), in the order of reading.
    ///
    /// Keys of list entries are there only when the file has such a list.
    let knownKeys: [String]

    /// An error about a key of this file.
    public func error(
        at key: String,
        _ problem: String,
        expected: String? = nil,
        remedy: String? = nil
    ) -> ConfigurationError {
        ConfigurationError([
            Diagnostic(
                file: path,
                position: places[key] ?? Position(line: 1, column: 1),
                key: key,
                problem: problem,
                expected: expected,
                remedy: remedy
            )
        ])
    }

    /// Composes a text, runs the reader of its root, and gives the value or all the faults.
    static func read(
        _ bytes: [UInt8],
        path: String,
        _ body: (Section) -> Value
    ) throws(ConfigurationError) -> ConfigurationFile {
        let document = try Document.compose(bytes, file: path)
        guard let node = document.root else {
            throw ConfigurationError([
                Diagnostic(
                    file: path,
                    position: Position(line: 1, column: 1),
                    problem: "the file is empty",
                    expected: "keys and values, one pair a line"
                )
            ])
        }
        let reader = Reader(file: path, renamedKeys: document.renamedKeys)
        let root = Section(node, path: "", reader: reader)
        let value = body(root)
        root.reportUnknownKeys()
        return ConfigurationFile(
            path: path,
            value: try reader.finish(value),
            places: reader.places,
            knownKeys: reader.knownKeys
        )
    }
}

/// The names of the modules that a configuration may choose from; the registry of the programs gives them.
public struct ModuleNames: Hashable, Sendable {
    /// Dispatch policies, such as `rr`.
    public var policies: [String]
    /// Forwarding modules, such as `selective`.
    public var forwarding: [String]
    /// Failure detection modules, such as `window`.
    public var detectors: [String]

    /// The keys of dispatch policies that have any, by the policy's name.
    public var policyKeys: [String: [PolicyKey]]
    /// Places of a policy's table where no key `size` says so.
    public var usualSizes: [String: Int] = ["mh": 65_537]

    /// The order is that of messages.
    public init(
        policies: [String], forwarding: [String], detectors: [String], policyKeys: [String: [PolicyKey]] = [:]
    ) {
        self.policies = policies
        self.policyKeys = policyKeys
        self.forwarding = forwarding
        self.detectors = detectors
    }
}

/// How much a daemon logs; the names are those of swift-log.
public enum LogLevel: String, CaseIterable, Sendable {
    case trace, debug, info, notice, warning, error, critical
}

/// What both daemons' configurations have in common.
enum CommonDefaults {
    static let key = "/etc/baton/cluster.key"
    static let controlPort: UInt16 = 7400
    static let logLevel = LogLevel.info
}

extension Section {
    /// The cluster key's path.
    func keyPath() -> String {
        value("key", .path(example: CommonDefaults.key), default: CommonDefaults.key)
    }

    /// The `log` section.
    func logLevel() -> LogLevel {
        section("log", keys: "level") { log in
            log.value("level", .choice(of: "a log level"), default: CommonDefaults.logLevel)
        }
    }

    /// A TCP or UDP port.
    func port(_ key: String, default: UInt16) -> UInt16 {
        UInt16(clamping: value(key, .integer(in: 1...65535), default: Int(`default`)))
    }
}
