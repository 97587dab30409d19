import AdminProtocol
import ArgumentParser
import ControlPlane

/// What the commands that edit a service or a server have in common.
struct EditOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Set any key of the configuration to a value of YAML.", valueName: "key=value"))
    var set: [String] = []

    @Option(help: ArgumentHelp("Leave a key of the configuration out.", valueName: "key"))
    var unset: [String] = []

    @Flag(help: "Only show what would change.")
    var dryRun = false
}

/// A change of one entry, as words for the director.
struct EditRequest {
    private var arguments: [String: String]

    init(_ verb: String, _ kind: String, _ target: String) {
        arguments = ["verb": verb, "kind": kind, "target": target]
    }

    /// A text; it is put in quotes, so that YAML takes it for nothing else.
    mutating func set(_ key: String, text: String?) {
        guard let text else { return }
        let escaped = text.flatMap { character -> [Character] in
            "\\\"".contains(character) ? ["\\", character] : [character]
        }
        arguments["set." + key] = "\"" + String(escaped) + "\""
    }

    /// A word that YAML takes for itself: a number, a name.
    mutating func set(_ key: String, word: String?) {
        guard let word else { return }
        arguments["set." + key] = word
    }

    mutating func add(_ options: EditOptions) throws {
        for setting in options.set {
            let parts = setting.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty else {
                throw ValidationError("--set \(setting): write KEY=VALUE, for example persistence.timeout=5m")
            }
            arguments["set." + parts[0]] = String(parts[1])
        }
        for key in options.unset { unset(key) }
        add(dryRun: options.dryRun)
    }

    mutating func unset(_ key: String) { arguments["unset." + key] = "" }

    mutating func add(dryRun: Bool) {
        if dryRun { arguments["dry_run"] = "true" }
    }

    func send(_ connection: Connection, fallback: String) throws {
        try connection.change(AdminRequest(command: "edit", arguments: arguments), fallback: fallback)
    }
}

/// What ipvsadm calls things, in the words of the configuration.
enum Vocabulary {
    /// `sh-port,sh-fallback` as the keys of a policy.
    static func schedulerFlags(_ text: String) throws -> [String] {
        try text.split(separator: ",").map { flag in
            switch flag {
            case "sh-port", "mh-port": "port"
            case "sh-fallback", "mh-fallback": "fallback"
            default: throw ValidationError("--sched-flags \(flag): there are sh-port, sh-fallback, mh-port, mh-fallback")
            }
        }
    }

    /// The bits of a netmask, given as such or as 255.255.255.0.
    static func netmaskBits(_ text: String) throws -> Int {
        if let bits = Int(text) { return bits }
        let octets = text.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
        if octets.count == 4, octets.allSatisfy({ $0 != nil }) {
            let mask = octets.compactMap { $0 }.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            let bits = mask.nonzeroBitCount
            if mask.leadingZeroBitCount == 0 || mask == 0, mask == ~UInt32(0) << UInt32(32 - bits) || bits == 32 {
                return bits
            }
        }
        throw ValidationError("--netmask \(text): write 255.255.255.0, or the number of bits")
    }

    /// `10.0.0.11:80` and `[2001:db8::11]:80` as the address alone.
    static func withoutPort(_ text: String) -> String {
        if text.hasPrefix("[") { return String(text.dropFirst().prefix { $0 != "]" }) }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        return parts.count == 2 ? String(parts[0]) : text
    }

    /// The address of a service of all ports, which ipvsadm knows by port 0; nil for others.
    static func addressOfAllPorts(_ text: String) -> String? {
        text.hasSuffix(":0") && (text.hasPrefix("[") || text.count(where: { $0 == ":" }) == 1) ? withoutPort(text) : nil
    }

    /// A name for a service that was given none.
    static func name(of address: String, protocol name: String) -> String {
        let harmless = address.map { ":[]".contains($0) ? "-" : $0 }
        return String((name + "-" + String(harmless)).prefix(32))
    }
}
