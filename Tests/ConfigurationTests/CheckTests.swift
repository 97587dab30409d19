import Model
import Testing

@testable import Configuration

@Suite("The director's checks, thresholds and limits")
struct CheckTests {
    private func text(_ lines: String) -> String {
        directorText(service: "  - name: web\n    address: 10.0.0.100:80\n" + lines)
    }

    private func checks(_ lines: String) throws -> [DirectorConfiguration.Check] {
        try director(text("    checks:\n" + lines)).get().services[0].checks
    }

    @Test("a kind is enough")
    func defaults() throws {
        for kind in ["ping", "tcp", "tls", "http", "https"] {
            let expected = DirectorConfiguration.Check(kind: try #require(.init(rawValue: kind)))
            #expect(try checks("      - kind: \(kind)\n") == [expected])
        }
        #expect(try checks("      - {kind: tcp, interval: 500ms}\n")[0].timeout == .milliseconds(500))
        #expect(try checks("      - {kind: http, status: 204}\n")[0].statuses == [204...204])
    }

    @Test("every key is read")
    func everyKey() throws {
        let read = try checks(
            """
                  - kind: https
                    port: 8443
                    interval: 5s
                    timeout: 3s
                    rise: 1
                    fall: 7
                    jitter: 0
                    dampening: {changes: 3, within: 2m, hold: 30s}
                    host: api.example:8443
                    verify: true
                    authorities: /etc/ca.pem
                    path: /health?x=1
                    status: [200, 301-302]
                    body: fine
                    regex: "load [0-9]+$"
                  - {kind: dns, query: www.example.com., type: AAAA, answer: "2001:db8::7"}
                  - {kind: command, command: [/bin/check, -v]}

            """)
        #expect(
            read == [
                .init(
                    kind: .https, port: 8443, interval: .seconds(5), timeout: .seconds(3), rise: 1, fall: 7, jitter: 0,
                    dampening: .init(changes: 3, within: .seconds(120), hold: .seconds(30)), host: "api.example:8443",
                    verify: true, authorities: "/etc/ca.pem", path: "/health?x=1", statuses: [200...200, 301...302],
                    body: "fine", regex: "load [0-9]+$"),
                .init(
                    kind: .dns, query: "www.example.com", recordType: "AAAA", answer: try #require(IPAddress("2001:db8::7"))),
                .init(kind: .command, command: ["/bin/check", "-v"]),
            ])
    }

    /// A check that is wrong, and what the message has to have.
    private static let faults: [(String, [String])] = [
        ("{interval: 1s}", ["d:6:9: services[0].checks[0].kind: the key is missing"]),
        ("{kind: pong}", ["services[0].checks[0].kind", "did you mean \"ping\"?"]),
        ("{kind: tcp, path: /x}", ["checks[0].path: \"path\" is not for the kind tcp", "the kind http or https"]),
        ("{kind: ping, port: 7}", ["\"port\" is not for the kind ping"]),
        ("{kind: http, verify: true}", ["\"verify\" is not for the kind http", "tls or https"]),
        ("{kind: http, command: [/bin/x]}", ["\"command\" is not for the kind http"]),
        ("{kind: dns}", ["checks[0].query: the key is missing"]),
        ("{kind: dns, query: a..b}", ["\"a..b\" is no domain name"]),
        ("{kind: dns, query: a.b, type: TXT, answer: 1.2.3.4}", ["records of type TXT do not hold \"1.2.3.4\""]),
        ("{kind: dns, query: a.b, type: ANY}", ["\"ANY\" is not a type of record"]),
        ("{kind: command}", ["checks[0].command: the key is missing"]),
        ("{kind: command, command: [check]}", ["checks[0].command[0]"]),
        ("{kind: http, regex: \"a(b\"}", ["checks[0].regex: \"a(b\":"]),
        ("{kind: http, status: [200, 600]}", ["checks[0].status[1]: 600 is out of range"]),
        ("{kind: tcp, interval: 1s, timeout: 2s}", ["checks[0].timeout: 2s is longer than the interval, 1s"]),
        ("{kind: tcp, jitter: 51}", ["checks[0].jitter: 51 is out of range"]),
        ("{kind: tcp, dampening: {changes: 1}}", ["checks[0].dampening.changes: 1 is out of range"]),
        ("{kind: tcp, dampening: {changse: 3}}", ["did you mean \"changes\"?"]),
    ]

    @Test("what is wrong is said where it stands", arguments: 0..<18)
    func faults(number: Int) {
        let (check, parts) = Self.faults[number]
        let messages = director(text("    checks:\n      - \(check)\n")).messages
        #expect(messages.split(separator: "\n").count == 1, "\(messages)")
        for part in parts { #expect(messages.contains(part), "\(messages)") }
    }

    @Test("thresholds, the one that stands by, and rates")
    func others() throws {
        let value = try director(
            directorText(
                service: "  - {name: web, address: 10.0.0.100:80, sorry: web2, rate: 500, burst: 900}",
                backends: "  - {name: web1, address: 10.0.0.11, upper_threshold: 9, lower_threshold: 5}\n"
                    + "  - {name: web2, address: 10.0.0.12, upper_threshold: 4}",
                more: "flows: {half_open: 2048, rate: 7}\n")
        ).get()
        #expect(value.services[0].sorry == "web2")
        #expect(value.services[0].rate == .init(rate: 500, burst: 900))
        #expect(value.backends.map(\.upperThreshold) == [9, 4])
        #expect(value.backends.map(\.lowerThreshold) == [5, 0])
        #expect(value.flows == .init(halfOpen: 2048, rate: .init(rate: 7)))
        let usual = try director(directorText()).get()
        #expect(usual.services[0].rate == nil)
        #expect(usual.flows.rate == .init(rate: 100_000, burst: 100_000))
        #expect(try director(directorText(more: "flows: {rate: off}\n")).get().flows.rate == nil)
        #expect(try director(directorText(more: "flows: {burst: 5}\n")).get().flows.rate == .init(rate: 100_000, burst: 5))
    }

    @Test("thresholds, names and rates that cannot be")
    func otherFaults() {
        func message(service: String = "", backend: String = "", more: String = "") -> String {
            director(
                directorText(
                    service: "  - {name: web, address: 10.0.0.100:80\(service)}",
                    backends: "  - {name: web1, address: 10.0.0.11\(backend)}", more: more)
            ).messages
        }
        #expect(message(service: ", sorry: web3").contains("services[0].sorry: there is no back-end \"web3\""))
        #expect(message(service: ", burst: 5").contains("services[0].burst: there is no rate"))
        #expect(message(service: ", rate: 0").contains("services[0].rate: 0 is out of range"))
        #expect(message(backend: ", lower_threshold: 5").contains("lower_threshold: there is no upper threshold"))
        let both = message(backend: ", upper_threshold: 5, lower_threshold: 5")
        #expect(both.contains("lower_threshold: 5 is not below the upper one, 5"))
        #expect(message(more: "flows: {rate: off, burst: 3}\n").contains("flows.burst: there is no rate"))
    }
}
