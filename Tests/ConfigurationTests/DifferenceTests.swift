import Model
import Testing

@testable import Configuration

@Suite("What a reload would change")
struct DifferenceTests {
    private static let file = """
        interface: eth0
        services:
          - name: web
            address: 10.0.0.100:80
          - name: mail
            address: 10.0.0.101:25
            policy: {name: sh, port: true}
            persistence: {timeout: 5m}
        backends:
          - name: web1
            address: 10.0.0.11
          - name: web2
            address: 10.0.0.12
        heartbeat: {interval: 10ms, window: 50ms}
        backups: 1
        """

    /// A file in which one text stands in another's place, and what is said of it.
    struct Case: CustomTestStringConvertible, Sendable {
        var replaced: String
        var by: String
        var lines: [String]
        /// The beginnings of what stands in the way.
        var obstacles: [String] = []
        var testDescription: String { lines.first ?? "nothing" }
    }

    static let cases: [Case] = [
        Case(replaced: "backups: 1", by: "backups: 1 # as before", lines: []),
        Case(
            replaced: "    address: 10.0.0.100:80", by: "    address: 10.0.0.100:80\n    policy: wrr",
            lines: ["~ service web: policy rr -> wrr"]),
        Case(
            replaced: "10.0.0.100:80", by: "10.0.0.100:81",
            lines: ["~ service web: address 10.0.0.100:80 -> 10.0.0.100:81"]),
        Case(
            replaced: "{name: sh, port: true}", by: "{name: sh}",
            lines: ["~ service mail: policy {name: sh, port: true} -> sh"]),
        Case(
            replaced: "{name: sh, port: true}", by: "{name: sh, port: false}",
            lines: ["~ service mail: policy.port true -> false"]),
        Case(
            replaced: "{timeout: 5m}", by: "{timeout: 90s, netmask: 24}",
            lines: ["~ service mail: persistence.timeout 5m -> 90s, persistence.netmask 32 -> 24"]),
        Case(
            replaced: "    persistence: {timeout: 5m}\n", by: "",
            lines: ["~ service mail: persistence gone (was {timeout: 5m, netmask: 32, netmask_ipv6: 128})"]),
        Case(
            replaced: "  - name: web\n", by: "  - name: www\n",
            lines: [
                "- service web: 10.0.0.100:80",
                "+ service www: address 10.0.0.100:80",
            ]),
        Case(
            replaced: "  - name: web2\n    address: 10.0.0.12", by: "  - name: web2\n    address: 10.0.0.12\n    weight: 0",
            lines: ["~ server web2: weight 1 -> 0"]),
        Case(
            replaced: "  - name: web2\n    address: 10.0.0.12\n", by: "  - name: web3\n    address: 10.0.0.13\n",
            lines: ["- server web2: 10.0.0.12", "+ server web3: address 10.0.0.13"]),
        Case(
            replaced: "  - name: web1\n    address: 10.0.0.11\n  - name: web2\n    address: 10.0.0.12\n",
            by: "  - name: web2\n    address: 10.0.0.12\n  - name: web1\n    address: 10.0.0.11\n",
            lines: ["~ order of the ring: web1, web2 -> web2, web1"]),
        Case(replaced: "backups: 1", by: "backups: 2", lines: ["~ backups 1 -> 2"]),
        Case(
            replaced: "backups: 1", by: "fence: {command: [/bin/true]}",
            lines: ["~ fence {command: [/bin/true], timeout: 10s} (new)"]),
        Case(
            replaced: "window: 50ms", by: "window: 80ms", lines: ["~ heartbeat.window 50ms -> 80ms"],
            obstacles: ["heartbeat.window cannot change without a restart"]),
        Case(
            replaced: "interface: eth0", by: "interface: eth1\nlog: {level: debug}",
            lines: ["~ interface eth0 -> eth1", "~ log.level info -> debug"],
            obstacles: ["interface cannot change", "log.level cannot change"]),
        Case(
            replaced: "interface: eth0", by: "interface: eth0\nflows: {size: 2048}\ncontrol: {address: 10.0.0.1}",
            lines: ["~ control.address 10.0.0.1 (new)", "~ flows.size 1000000 -> 2048"],
            obstacles: ["control.address cannot", "flows.size cannot"]),
    ]

    @Test("each change is said in one line", arguments: cases)
    func change(_ item: Case) throws {
        #expect(Self.file.contains(item.replaced))
        let old = try director(Self.file).get()
        let new = try director(Self.file.replacing(item.replaced, with: item.by, maxReplacements: 1)).get()
        let difference = ConfigurationDifference(from: old, to: new)
        #expect(difference.lines == item.lines)
        #expect(difference.isEmpty == (old == new))
        #expect(difference.obstacles.count == item.obstacles.count)
        for (said, expected) in zip(difference.obstacles, item.obstacles) { #expect(said.hasPrefix(expected)) }
        // The way back names the same things.
        let back = ConfigurationDifference(from: new, to: old)
        #expect(back.changes.count == difference.changes.count)
    }

    @Test("a property that no key shows is a change all the same")
    func hidden() throws {
        let old = try director(Self.file).get()
        var new = old
        // Without `replay: http` nothing of it is written.
        new.services[0].http.rangeFrom = 5000
        #expect(old.tree == new.tree)
        #expect(ConfigurationDifference(from: old, to: new).lines == ["~ service web: changed"])
    }

    @Test("every setting but those that are known to be taken up needs a restart")
    func restart() throws {
        let old = try director(Self.file).get()
        var new = old
        new.xdp = .generic
        new.state = "/sys/fs/bpf/other"
        new.socket = "/run/other.sock"
        new.key = "/etc/other.key"
        new.policyFiles = ["/usr/lib/p.so"]
        new.detector = "phi"
        new.backups = 3
        let difference = ConfigurationDifference(from: old, to: new)
        #expect(difference.changes.count == 7)
        #expect(difference.obstacles.count == 6)
        let unknown = ConfigurationChange.setting(KeyChange(key: "sorry.address", old: nil, new: "10.0.0.9:80"))
        #expect(unknown.obstacle?.contains("does not take it up") == true)
    }
}
