import Glibc
import Model
import Testing

@testable import Configuration

@Suite("Samples and manuals")
struct SampleTests {
    private func names(in folder: String) throws -> [String] {
        let directory = try #require(opendir("\(packageRoot)/\(folder)"))
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names.sorted()
    }

    private func loadDirector(_ text: String) throws -> ConfigurationFile<DirectorConfiguration> {
        try DirectorConfiguration.parse(Array(text.utf8), path: "director.yaml", modules: modules)
    }

    private func loadAgent(_ text: String) throws -> ConfigurationFile<AgentConfiguration> {
        try AgentConfiguration.parse(Array(text.utf8), path: "agent.yaml")
    }

    @Test("every YAML file of etc/ is loaded without a fault")
    func load() throws {
        let files = try names(in: "etc").filter { $0.hasSuffix(".yaml") }
        #expect(files.count >= 4)
        for file in files {
            let content = try text(of: "etc/\(file)")
            switch file.prefix(while: { $0 != "." }) {
            case "director": _ = try loadDirector(content)
            case "agent": _ = try loadAgent(content)
            default: Issue.record("etc/\(file) is loaded by no test")
            }
        }
    }

    @Test("a minimal file has under fifteen lines", arguments: ["director", "agent"])
    func minimal(program: String) throws {
        #expect(try text(of: "etc/\(program).minimal.yaml").split(separator: "\n").count < 15)
    }

    @Test("what the director's full sample says are the defaults")
    func directorDefaults() throws {
        let sample = try loadDirector(text(of: "etc/director.yaml")).value
        let expected = DirectorConfiguration(
            interface: sample.interface,
            services: sample.services.map { .init(name: $0.name, address: $0.address) },
            backends: sample.backends.map { .init(name: $0.name, address: $0.address) }
        )
        #expect(sample == expected)
    }

    @Test("what the agent's full sample says are the defaults")
    func agentDefaults() throws {
        let sample = try loadAgent(text(of: "etc/agent.yaml")).value
        let expected = AgentConfiguration(
            interface: sample.interface,
            name: sample.name,
            director: sample.director,
            services: sample.services.map { .init(name: $0.name) }
        )
        #expect(sample == expected)
    }

    @Test("every key stands in the director's full sample and in its manual")
    func directorKeys() throws {
        // The one default that is no value stands in a comment.
        let commented = "  # address: 10.0.0.1\n"
        let sample = try text(of: "etc/director.yaml")
        let parts = sample.split(separator: commented, omittingEmptySubsequences: false)
        try #require(parts.count == 2)
        // Nor has the fence a default: its lines are comments.
        var whole = parts.joined(separator: "  address: 10.0.0.1\n")
        for line in [
            "fence:\n", "  command: [", "  timeout: 10s\n", "persistence:\n", "  timeout: 5m\n", "  netmask: 32\n",
            "  netmask_ipv6: 128\n", "policies: [", "sorry: web3\n", "rate: 20000\n", "burst: 40000\n",
            "upper_threshold: 1000\n", "lower_threshold: 750\n", "backend_interface: eth1\n", "- name: calls\n",
            "  address: 10.0.0.100\n", "  protocol: udp\n", "  ports: [5060, 8000-8099]\n",
        ] {
            let pieces = whole.split(separator: "# " + line, omittingEmptySubsequences: false)
            try #require(pieces.count == 2, "\(line)")
            whole = pieces.joined(separator: line)
        }
        whole = try uncommented(checks: whole)
        // And two keys are for `http` only.
        let changes = [
            ("    replay: none\n", "    replay: http\n"), ("    # methods: safe\n", "    methods: safe\n"),
            ("    # range_from: 1MB\n", "    range_from: 1MB\n"),
        ]
        for (from, to) in changes {
            let pieces = whole.split(separator: from, omittingEmptySubsequences: false)
            try #require(pieces.count == 2, "\(from)")
            whole = pieces.joined(separator: to)
        }
        let file = try DirectorConfiguration.parse(
            Array(whole.utf8), path: "director.yaml", modules: modules, loader: { _ in .loaded("mine") })
        #expect(file.knownKeys.count == 79)
        try expectDocumented(file.knownKeys, places: file.places, manual: "man/baton-director.yaml.5")
    }

    /// The checks are comments too: a line, and what is indented below it.
    private func uncommented(checks text: String) throws -> String {
        var inChecks = false
        var count = 0
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { line -> String in
            if line == "    # checks:" { inChecks = true } else if !line.hasPrefix("    #   ") { inChecks = false }
            guard inChecks else { return String(line) }
            count += 1
            return "    " + line.dropFirst(6)
        }
        try #require(count > 20)
        return lines.joined(separator: "\n")
    }

    @Test("every key stands in the agent's full sample and in its manual")
    func agentKeys() throws {
        // Many keys have no default, or are for one kind only: their lines are comments.
        var whole = try text(of: "etc/agent.yaml").replacing("kind: tcp\n", with: "kind: https\n")
        for line in [
            "port: 8080\n", "dampening: {changes: 4, within: 1m, hold: 1m}\n", "host: www.example.com\n", "verify: true\n",
            "authorities: /etc/ssl/certs/our-ca.pem\n", "path: /health\n", "status: [200, 301-302]\n", "body: all is well\n",
            "regex: load [0-9]\n", "- name: names\n", "  check: {kind: dns, ", "- name: shop\n", "  check: {kind: command, ",
        ] {
            let pieces = whole.split(separator: "# " + line, omittingEmptySubsequences: false)
            try #require(pieces.count == 2, "\(line)")
            whole = pieces.joined(separator: line)
        }
        let file = try loadAgent(whole)
        #expect(file.knownKeys.count == 41)
        try expectDocumented(file.knownKeys, places: file.places, manual: "man/baton-agent.yaml.5")
    }

    private func expectDocumented(_ keys: [String], places: [String: Position], manual: String) throws {
        let inSample = Set(places.keys.map(Reader.withoutIndices))
        let lines = try text(of: manual).split(separator: "\n")
        let inManual = Set(
            lines.filter { $0.hasPrefix(".It Ic ") }.compactMap { $0.split(separator: " ").dropFirst(2).first }
                .map(String.init)
        )
        for key in keys {
            #expect(inSample.contains(key), "\(key) is missing in the sample")
            #expect(inManual.contains(key), "\(key) is missing in \(manual)")
        }
        for key in inManual { #expect(keys.contains(key), "\(manual) has the unknown key \(key)") }
    }
}
