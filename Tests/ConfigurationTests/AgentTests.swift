import Model
import Testing

@testable import Configuration

private func sizeExpected(_ most: String) -> String {
    "expected a size with its unit (KiB, MiB, GiB, ...) from 64KiB to \(most), e.g. 16MiB"
}
private let directorExpected = "expected an address, with or without a port, e.g. 10.0.0.1 or 10.0.0.1:7400"
private let pathExpected = "expected a path of at most 1024 visible ASCII characters, e.g. /health"
private let statusExpected = "expected a status from 100 to 599 or a range, e.g. 200 or 200-399"
private let requestExpected = "expected the kind http or https beside it; remove it, or say another \"kind\""
private func checkExpected(_ least: String) -> String {
    "expected a duration with its unit (ms, s, m, ...) from \(least) to 1m, e.g. 10ms or 2s"
}

private let faults = [
    Fault(
        "nothing that is required",
        "tun: baton0",
        "a:1:1: interface: the key is missing; "
            + "expected the name of a network interface, 1 to 15 bytes, e.g. eth0\n"
            + "a:1:1: name: the key is missing; "
            + "expected a name of 1 to 32 letters, digits, '.', '_' and '-', e.g. web1\n"
            + "a:1:1: director: the key is missing; \(directorExpected)"
    ),
    Fault(
        "an unknown key",
        agentText(more: "directors: 10.0.0.2"),
        "a:4:1: directors: unknown key; expected one of interface, name, director, services, heartbeat, state, socket, "
            + "key, tun, table, journal, log; did you mean \"director\"?"
    ),
    Fault(
        "an unknown key in a section of one key",
        agentText(more: "heartbeat: {ports: 7401}"),
        "a:4:13: heartbeat.ports: unknown key; expected port; did you mean \"port\"?"
    ),
    Fault(
        "a port out of range",
        agentText(director: "director: 10.0.0.1:99999"),
        "a:3:11: director: \"99999\" is not a port from 1 to 65535; \(directorExpected)"
    ),
    Fault(
        "a host name",
        agentText(director: "director: director.lan"),
        "a:3:11: director: \"director.lan\" is not an IP address; \(directorExpected); names are not looked up here"
    ),
    Fault(
        "no host's address",
        agentText(director: "director: 0.0.0.0"),
        "a:3:11: director: 0.0.0.0 is no host's address; \(directorExpected)"
    ),
    Fault(
        "checks",
        agentText(
            more: """
                services:
                  - {name: web, check: {kind: icmp, interval: 5ms, timeout: 2m, rise: 0, fall: 101}}
                  - {name: web, check: {interval: 100ms, timeout: 101ms}}
                  - {check: tcp}
                """
        ),
        """
        a:5:31: services[0].check.kind: "icmp" is not a kind of check; expected tcp, tls, http, https, dns, command, process or none
        a:5:47: services[0].check.interval: 5ms is out of range; \(checkExpected("10ms"))
        a:5:61: services[0].check.timeout: 2m is out of range; \(checkExpected("1ms"))
        a:5:71: services[0].check.rise: 0 is out of range; expected a whole number from 1 to 100
        a:5:80: services[0].check.fall: 101 is out of range; expected a whole number from 1 to 100
        a:6:12: services[1].name: "web" is already services[0].name (line 5); expected a name that no other entry has
        a:6:51: services[1].check.timeout: 101ms is longer than the interval, 100ms; \
        expected 100ms or less, so that checks do not overlap
        a:7:5: services[2].name: the key is missing; \
        expected a name of 1 to 32 letters, digits, '.', '_' and '-', e.g. web1
        a:7:13: services[2].check: "tcp" is not a mapping; \
        expected a mapping with the keys kind, port, interval, timeout, rise, fall, jitter, dampening and those of the kind
        """
    ),
    Fault(
        "requests of checks",
        agentText(
            more: """
                services:
                  - {name: a, check: {kind: http, path: health, host: "a b", status: 99}}
                  - {name: b, check: {kind: http, path: "/a b", status: 400-200}}
                  - {name: c, check: {kind: http, path: "/a#b", status: 200-399-499}}
                  - {name: d, check: {path: /x, host: h, status: 200}}
                  - {name: e, check: {kind: process, path: /x}}
                """
        ),
        """
        a:5:41: services[0].check.path: "health" does not begin with '/'; \(pathExpected); write "/health"
        a:5:55: services[0].check.host: "a b" is not a host's name; \
        expected a host's name, with or without a port, e.g. www.example.com
        a:5:70: services[0].check.status: 99 is not a status; \(statusExpected)
        a:6:41: services[1].check.path: "/a b" has a character that a request cannot have; \(pathExpected); \
        write it as % and two hexadecimal digits
        a:6:57: services[1].check.status: 400-200 ends before it begins; \(statusExpected)
        a:7:41: services[2].check.path: "/a#b" has a fragment; \(pathExpected)
        a:7:57: services[2].check.status: 200-399-499 is not a status; \(statusExpected)
        a:8:29: services[3].check.path: "path" is not for the kind tcp; \(requestExpected)
        a:8:39: services[3].check.host: "host" is not for the kind tcp; expected the kind tls, http or https beside it; \
        remove it, or say another "kind"
        a:8:50: services[3].check.status: "status" is not for the kind tcp; \(requestExpected)
        a:9:44: services[4].check.path: "path" is not for the kind process; \(requestExpected)
        """
    ),
    Fault(
        "what the director's checks have, and the agent's have not",
        agentText(
            more: """
                services:
                  - {name: a, check: {kind: ping}}
                  - {name: b, check: {kind: none, port: 80}}
                  - {name: c, check: {interval: 2m, jitter: 51}}
                  - {name: d, check: {kind: dns, interval: 1s}}
                  - {name: e, check: {kind: https, regex: "a(b"}}
                """
        ),
        """
        a:5:29: services[0].check.kind: a "ping" of its own machine is answered by the kernel, whatever the application \
        does; expected tcp, tls, http, https, dns, command, process or none; say "process" to ask for a listener, or let \
        the director ping
        a:6:41: services[1].check.port: "port" is not for the kind none; \
        expected the kind tcp, tls, http, https, dns, command or process beside it; remove it, or say another "kind"
        a:7:33: services[2].check.interval: 2m is out of range; \(checkExpected("10ms"))
        a:7:45: services[2].check.jitter: 51 is out of range; expected a whole number from 0 to 50
        a:8:22: services[3].check.query: the key is missing; expected a domain name, e.g. www.example.com, or "."
        a:9:43: services[4].check.regex: "a(b": Unmatched ( or \\(; expected an extended regular expression, as of egrep(1)
        """
    ),
    Fault(
        "sizes",
        agentText(more: "journal: {connection: 16777216, total: 65GiB}"),
        "a:4:23: journal.connection: 16777216 has no unit; \(sizeExpected("1GiB")); write for example 16777216B\n"
            + "a:4:40: journal.total: 65GiB is out of range; \(sizeExpected("64GiB"))"
    ),
    Fault(
        "a size with a unit that says neither 1000 nor 1024",
        agentText(more: "journal: {connection: 16M}"),
        "a:4:23: journal.connection: 16M has the unknown unit \"M\"; \(sizeExpected("1GiB"))"
    ),
    Fault(
        "a total below one connection's journal",
        agentText(more: "journal: {total: 1MiB}"),
        "a:4:18: journal.total: 1MiB is less than one connection may take, 16MiB; "
            + "expected a total of no less than one connection's journal"
    ),
    Fault(
        "one connection's journal above the total",
        agentText(more: "journal: {connection: 512MiB}"),
        "a:4:23: journal.connection: 512MiB is more than all connections may take, 256MiB; "
            + "expected a total of no less than one connection's journal"
    ),
    Fault(
        "names of the machine's things",
        agentText(more: "tun: eth0\ntable: 1a\n"),
        "a:4:6: tun: \"eth0\" is already interface (line 1); expected two different interfaces\n"
            + "a:5:8: table: \"1a\" is not a name of an nftables table; "
            + "expected 1 to 32 letters, digits and '_', a letter first, e.g. baton"
    ),
    Fault(
        "a TUN name that the kernel takes for a pattern",
        agentText(more: "tun: baton%d\n"),
        "a:4:6: tun: \"baton%d\" cannot be the name of an interface; "
            + "expected the name of a network interface, 1 to 15 bytes, e.g. baton0"
    ),
]

@Suite("An agent's configuration")
struct AgentTests {
    @Test("a minimal file gives every default")
    func defaults() throws {
        let endpoint = try #require(Endpoint("10.0.0.1:7400"))
        #expect(agent(agentText()) == .success(AgentConfiguration(interface: "eth0", name: "web1", director: endpoint)))
        let check = try agent(agentText()).get().check(of: "web")
        #expect(check == AgentConfiguration.Check())
        #expect(check.kind == .tcp && check.interval == .milliseconds(500) && check.timeout == .milliseconds(200))
        #expect(check.rise == 2 && check.fall == 3 && check.jitter == 0 && check.dampening == nil && check.port == nil)
        #expect(try agent(agentText()).get().journal.connection == 16 << 20)
    }

    @Test("every key is read into its property")
    func everyKey() throws {
        let text = """
            interface: lan0
            name: b.1
            director: "[2001:db8::1]:7500"
            services:
              - name: web
                check: {kind: none, interval: 1s, timeout: 1s, rise: 1, fall: 100}
              - name: tls
                check: {interval: 100ms}
                restart_grace: 2s
              - name: ssh
                check: {kind: process}
              - name: api
                check: {kind: http, path: "/health?full=1", host: "api.example:8080", status: 204}
              - name: shop
                check:
                  kind: https
                  port: 8443
                  jitter: 20
                  dampening: {changes: 3, within: 2m, hold: 30s}
                  host: shop.example
                  verify: true
                  authorities: /etc/ca.pem
                  path: /up
                  status: [200, 301-302]
                  body: fine
                  regex: "load [0-9]+$"
              - name: names
                check: {kind: dns, query: www.example.com., type: AAAA, answer: "2001:db8::7"}
              - name: own
                check: {kind: command, command: [/bin/check, -v]}
              - name: secret
                check: {kind: tls, host: secret.example}
            heartbeat: {port: 7600}
            state: /sys/fs/bpf/x
            socket: /run/x.sock
            key: /etc/x.key
            tun: tun7
            table: baton_b1
            journal: {connection: 1MB, total: 2GiB}
            log: {level: error}
            """
        let expected = AgentConfiguration(
            interface: "lan0",
            name: "b.1",
            director: try #require(Endpoint("[2001:db8::1]:7500")),
            services: [
                .init(
                    name: "web",
                    check: .init(kind: .none, interval: .seconds(1), timeout: .seconds(1), rise: 1, fall: 100)
                ),
                .init(name: "tls", check: .init(interval: .milliseconds(100), timeout: .milliseconds(100)), restartGrace: .seconds(2)),
                .init(name: "ssh", check: .init(kind: .process)),
                .init(
                    name: "api",
                    check: .init(kind: .http, host: "api.example:8080", path: "/health?full=1", statuses: [204...204])),
                .init(
                    name: "shop",
                    check: .init(
                        kind: .https, port: 8443, jitter: 20,
                        dampening: .init(changes: 3, within: .seconds(120), hold: .seconds(30)), host: "shop.example",
                        verify: true, authorities: "/etc/ca.pem", path: "/up", statuses: [200...200, 301...302],
                        body: "fine", regex: "load [0-9]+$")),
                .init(
                    name: "names",
                    check: .init(
                        kind: .dns, query: "www.example.com", recordType: "AAAA",
                        answer: try #require(IPAddress("2001:db8::7")))),
                .init(name: "own", check: .init(kind: .command, command: ["/bin/check", "-v"])),
                .init(name: "secret", check: .init(kind: .tls, host: "secret.example")),
            ],
            heartbeatPort: 7600,
            state: "/sys/fs/bpf/x",
            socket: "/run/x.sock",
            key: "/etc/x.key",
            tun: "tun7",
            table: "baton_b1",
            journal: .init(connection: 1_000_000, total: 2 << 30),
            logLevel: .error
        )
        #expect(agent(text) == .success(expected))
        #expect(expected.check(of: "web").kind == .none)
        #expect(expected.check(of: "other").kind == .tcp)
    }

    @Test("the exact messages of its faults", arguments: faults)
    func exactly(fault: Fault) {
        #expect(agent(fault.text).messages == fault.messages)
    }

    @Test("the interface must be one of the machine's, when those are given")
    func interface() {
        #expect(
            agent(agentText(), interfaces: ["lo"]).messages
                == "a:1:12: interface: there is no interface \"eth0\"; "
                + "expected a network interface of this machine (lo)"
        )
    }
}
