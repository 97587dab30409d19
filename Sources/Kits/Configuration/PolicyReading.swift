import Model

/// A key of a dispatch policy, as its module documents it.
public struct PolicyKey: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        /// true or false.
        case flag
        /// One of these numbers, rising.
        case number([Int])
    }

    public var name: String
    public var kind: Kind

    public init(name: String, kind: Kind) {
        self.name = name
        self.kind = kind
    }
}

/// What became of a file of `policies`.
public enum PolicyLoading: Sendable {
    /// The policy's name.
    case loaded(String)
    /// What is wrong with the file, and what to do.
    case refused(String, remedy: String)
}

/// Loads one file; the code in it runs in this process from then on.
public typealias PolicyLoader = (String) -> PolicyLoading

/// Where files are not loaded.
public func noPolicies(_ path: String) -> PolicyLoading {
    .refused("this program loads no policies", remedy: "remove it")
}

/// Reads `policy`: a name, or a mapping of the name and the policy's own keys.
enum PolicyReading {
    /// Loads the files of `policies`, and adds the names of what is in them.
    static func files(_ root: Section, into modules: inout ModuleNames, loader: PolicyLoader) -> [String] {
        let kind = ValueKind<String>.path(example: "/usr/lib/baton/policies/mine.so")
        guard root.has("policies") else { return [] }
        let paths = root.words("policies", limit: 64, first: kind, others: kind)
        for (index, path) in paths.enumerated() {
            let key = "policies[\(index)]"
            switch loader(path) {
            case .loaded(let name) where modules.policies.contains(name):
                root.reader.report(
                    key, "\(quoted(path)) has the policy \(name), and there is one already",
                    expected: "a name that no other policy has")
            case .loaded(let name): modules.policies.append(name)
            case .refused(let cause, let remedy): root.reader.report(key, cause, remedy: remedy)
            }
        }
        return paths
    }

    static func read(_ entry: Section, modules: ModuleNames) -> (name: String, options: [String: Int]) {
        let names = ValueKind<String>.oneOf(modules.policies, what: "a dispatch policy")
        guard entry.isMapping("policy") else { return (entry.value("policy", names, default: "rr"), [:]) }
        return entry.section("policy", keys: "name and those of the policy") { section in
            guard let name = section.required("name", names) else {
                section.ignoreOthers()
                return ("rr", [:])
            }
            var options: [String: Int] = [:]
            for key in modules.policyKeys[name] ?? [] {
                switch key.kind {
                case .flag:
                    options[key.name] = section.optional(key.name, .flag).map { $0 ? 1 : 0 }
                case .number(let numbers):
                    options[key.name] = section.optional(key.name, .one(of: numbers))
                }
            }
            return (name, options)
        }
    }

    /// Places of all tables of chosen sizes together.
    private static let room = 1_000_000

    /// Three tables of each service may be in the kernel's map at the same time.
    static func checkRoom(_ reader: Reader, services: [DirectorConfiguration.Service], modules: ModuleNames) {
        var total = 0
        for (index, service) in services.enumerated() {
            let size = service.policyOptions["size"] ?? modules.usualSizes[service.policy] ?? 8192
            total += size
            guard total > room, total - size <= room else { continue }
            reader.report(
                "services[\(index)].policy",
                "the tables of the services up to here have \(total) places together",
                expected: "at most \(room)",
                remedy: "give policies a smaller \"size\""
            )
        }
    }
}

extension DirectorConfiguration.Persistence {
    init(section: Section) {
        self.init(
            timeout: section.value("timeout", .duration(in: .seconds(1) ... .seconds(86_400)), default: .seconds(300)),
            netmask: section.value("netmask", .integer(in: 1...32), default: 32),
            netmaskIPv6: section.value("netmask_ipv6", .integer(in: 1...128), default: 128)
        )
        if timeout.nanoseconds % 1_000_000_000 != 0 {
            section.reader.report(
                section.child("timeout"), "\(durationText(timeout)) is not a number of seconds",
                expected: "whole seconds")
        }
    }
}

extension ValueKind where Value == Bool {
    static var flag: ValueKind<Bool> {
        ValueKind(expected: "true or false") { scalar in
            switch scalar.text {
            case "true": .value(true)
            case "false": .value(false)
            default: .fault("\(scalar.shown) is neither true nor false")
            }
        }
    }
}

extension ValueKind where Value == Int {
    static func one(of numbers: [Int]) -> ValueKind<Int> {
        ValueKind(expected: alternatives(numbers.map(String.init))) { scalar in
            guard case .value(let number) = magnitude(scalar.text[...]), numbers.contains(number) else {
                return .fault("\(scalar.shown) is none of the sizes")
            }
            return .value(number)
        }
    }
}
