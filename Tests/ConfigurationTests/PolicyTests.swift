import Model
import Testing

@testable import Configuration

@Suite("Policies with keys, and persistence")
struct PolicyTests {
    private func service(_ keys: String) -> Result<DirectorConfiguration, ConfigurationError> {
        director(directorText(service: "  - {name: web, address: 10.0.0.100:80, \(keys)}"))
    }

    @Test("A name, and a mapping of the name and the policy's keys")
    func policies() throws {
        let cases: [(String, String, [String: Int])] = [
            ("policy: sh", "sh", [:]), ("policy: {name: wrr}", "wrr", [:]), ("policy: {name: sh}", "sh", [:]),
            ("policy: {name: sh, port: true, size: 509}", "sh", ["port": 1, "size": 509]),
            ("policy: {name: sh, port: false}", "sh", ["port": 0]),
        ]
        for (text, name, options) in cases {
            let read = try service(text).get().services[0]
            #expect(read.policy == name && read.policyOptions == options, "\(text)")
            #expect(read.persistence == nil)
        }
    }

    @Test("Persistence, with its defaults and without")
    func persistence() throws {
        #expect(try service("persistence: {}").get().services[0].persistence == .init())
        #expect(
            try service("persistence: {timeout: 2m, netmask: 24, netmask_ipv6: 64}").get().services[0].persistence
                == .init(timeout: .seconds(120), netmask: 24, netmaskIPv6: 64))
    }

    static let faults: [(String, String)] = [
        (
            "policy: {name: ssh}",
            "d:3:56: services[0].policy.name: \"ssh\" is not a dispatch policy; expected rr, wrr or sh; did you mean \"sh\"?"
        ),
        ("policy: {port: true}", "d:3:49: services[0].policy.name: the key is missing; expected rr, wrr or sh"),
        ("policy: {name: rr, port: true}", "d:3:60: services[0].policy.port: unknown key; expected name"),
        (
            "policy: {name: sh, prot: true}",
            "d:3:60: services[0].policy.prot: unknown key; expected one of name, port, size; did you mean \"port\"?"
        ),
        (
            "policy: {name: sh, port: 1}",
            "d:3:66: services[0].policy.port: 1 is neither true nor false; expected true or false"
        ),
        (
            "policy: {name: sh, size: 500}",
            "d:3:66: services[0].policy.size: 500 is none of the sizes; expected 251 or 509"
        ),
        (
            "persistence: {timeout: 1500ms}",
            "d:3:64: services[0].persistence.timeout: 1500ms is not a number of seconds; expected whole seconds"
        ),
        (
            "persistence: {netmask: 0}",
            "d:3:64: services[0].persistence.netmask: 0 is out of range; expected a whole number from 1 to 32"
        ),
        (
            "persistence: {mask: 24}",
            "d:3:55: services[0].persistence.mask: unknown key; expected one of timeout, netmask, netmask_ipv6"
        ),
    ]

    @Test("Faults", arguments: faults)
    func fault(_ keys: String, _ message: String) {
        #expect(service(keys).messages == message)
    }

    @Test("Policies of others: loaded before the services name them, refused with the loader's words")
    func files() throws {
        let loader: PolicyLoader = { path in
            switch path {
            case "/p/mine.so": .loaded("mine")
            case "/p/rr.so": .loaded("rr")
            default: .refused("\(path) belongs to user 7", remedy: "chown root it")
            }
        }
        let parse = { (files: String, policy: String) in
            Result { () throws(ConfigurationError) in
                let text = directorText(
                    service: "  - {name: web, address: 10.0.0.100:80, policy: \(policy)}", more: "policies: [\(files)]")
                return try DirectorConfiguration.parse(Array(text.utf8), path: "d", modules: modules, loader: loader).value
            }
        }
        let read = try parse("/p/mine.so", "mine").get()
        #expect(read.services[0].policy == "mine" && read.policyFiles == ["/p/mine.so"])
        #expect(parse("/p/rr.so", "rr").messages.contains("there is one already"))
        #expect(
            parse("/p/other.so", "rr").messages
                == "d:7:12: policies[0]: /p/other.so belongs to user 7; chown root it")
        #expect(parse("mine.so", "rr").messages.contains("is not an absolute path"))
    }

    @Test("Tables of all services have a bound together")
    func room() {
        var sized = modules
        sized.usualSizes["sh"] = 65_537
        let services = { (count: Int) in
            (0..<count).map { "  - {name: s\($0), address: \"10.0.1.\($0 + 1):80\", policy: sh}" }.joined(separator: "\n")
        }
        let parse = { (count: Int) in
            Result { () throws(ConfigurationError) in
                try DirectorConfiguration.parse(
                    Array(directorText(service: services(count)).utf8), path: "d", modules: sized
                ).value
            }
        }
        #expect(parse(15).messages == "")
        #expect(parse(20).messages.contains("services[15].policy: the tables of the services up to here have 1048592"))
    }
}
