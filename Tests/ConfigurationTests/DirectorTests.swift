import Model
import Testing

@testable import Configuration

@Suite("The director's configuration")
struct DirectorTests {
    @Test("a minimal file gives every default")
    func defaults() throws {
        let value = try director(directorText()).get()
        let expected = DirectorConfiguration(
            interface: "eth0",
            services: [.init(name: "web", address: try #require(Endpoint("10.0.0.100:80")))],
            backends: [
                .init(name: "web1", address: IPAddress(ipv4: 0x0a00_000b)),
                .init(name: "web2", address: IPAddress(ipv4: 0x0a00_000c)),
            ]
        )
        #expect(value == expected)
        #expect(value.heartbeat.interval == .milliseconds(10))
        #expect(value.heartbeat.window == .milliseconds(50))
        #expect(value.services[0].replay == .none)
        #expect(value.flows.size == 1_000_000)
        #expect(value.control == .init(address: nil, port: 7400))
        #expect(value.backups == 1)
    }

    @Test("every key is read into its property")
    func everyKey() throws {
        let text = """
            interface: lan0
            services:
              - name: web
                address: "[2001:db8::80]:8080"
                policy: wrr
                replay: stream
                forwarding: multicast
            backends:
              - name: b.1
                address: 2001:db8::11
                weight: 65_535
            heartbeat: {interval: 2ms, window: 1s}
            detector: window
            backups: 3
            control: {address: 127.0.0.1, port: 7500}
            flows: {size: 16777216}
            state: /sys/fs/bpf/x
            socket: /run/x.sock
            key: /etc/x.key
            xdp: generic
            log: {level: trace}
            """
        let expected = DirectorConfiguration(
            interface: "lan0",
            services: [
                .init(
                    name: "web",
                    address: try #require(Endpoint("[2001:db8::80]:8080")),
                    policy: "wrr",
                    replay: .stream,
                    forwarding: "multicast"
                )
            ],
            backends: [.init(name: "b.1", address: try #require(IPAddress("2001:db8::11")), weight: 65535)],
            heartbeat: .init(interval: .milliseconds(2), window: .seconds(1)),
            detector: "window",
            backups: 3,
            control: .init(address: IPAddress(ipv4: 0x7f00_0001), port: 7500),
            flows: .init(size: 16 << 20),
            state: "/sys/fs/bpf/x",
            socket: "/run/x.sock",
            key: "/etc/x.key",
            xdp: .generic,
            logLevel: .trace
        )
        #expect(director(text) == .success(expected))
    }

    @Test("CRLF, a byte order mark, quotes and a few aliases are taken")
    func spellings() throws {
        let plain = try director(directorText()).get()
        #expect(try director("\u{feff}" + directorText()).get() == plain)
        let crlf = directorText().split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\r\n")
        #expect(try director(crlf).get() == plain)
        #expect(try director(directorText(interface: "'interface': \"eth0\"")).get() == plain)
        let aliased = directorText(
            backends: "  - {name: &n web1, address: 10.0.0.11}\n  - {name: web2, address: 10.0.0.12}"
        )
        #expect(try director(aliased + "control: {}\n").get() == plain)
    }

    @Test("services may share a VIP, not an address and port")
    func sharedVIP() throws {
        let text = directorText(
            service: "  - {name: web, address: 10.0.0.100:80}\n  - {name: tls, address: 10.0.0.100:443}"
        )
        #expect(try director(text).get().services.count == 2)
    }

    @Test("places are kept for the faults that only the machine can tell")
    func places() throws {
        let file = try DirectorConfiguration.parse(Array(directorText().utf8), path: "/etc/d.yaml", modules: modules)
        let error = file.error(at: "backends[1].address", "\"10.0.0.12\" is not on the LAN", remedy: "see ip route")
        #expect(
            error.description
                == "/etc/d.yaml:6:27: backends[1].address: \"10.0.0.12\" is not on the LAN; see ip route"
        )
        #expect(file.error(at: "xdp", "not possible").description == "/etc/d.yaml:1:1: xdp: not possible")
    }

    @Test("the interface must be one of the machine's, when those are given")
    func interface() throws {
        #expect(director(directorText(), interfaces: ["eth0", "lo"]).messages == "")
        #expect(
            director(directorText(interface: "interface: eht0"), interfaces: ["eth0", "lo"]).messages
                == "d:1:12: interface: there is no interface \"eht0\"; expected a network interface of this machine "
                + "(eth0, lo); did you mean \"eth0\"?"
        )
        #expect(try #require(MachineInterfaces.names()).contains("lo"))
    }

    @Test("256 back-ends are taken, 257 are not")
    func bounds() throws {
        let list = { (count: Int) in
            (0..<count).map { "  - {name: w\($0), address: 10.1.\($0 / 250).\($0 % 250 + 1)}" }.joined(separator: "\n")
        }
        #expect(try director(directorText(backends: list(256))).get().backends.count == 256)
        #expect(
            director(directorText(backends: list(257))).messages
                == "d:5:3: backends: the list has 257 entries; "
                + "expected a list of 1 to 256 entries with the keys name, address, weight, upper_threshold and lower_threshold"
        )
    }

    @Test("a file that cannot be read: its path and the errno")
    func unreadable() {
        let load = { (path: String) in
            Result { () throws(ConfigurationError) in try DirectorConfiguration.load(path, modules: modules).value }
                .messages
        }
        #expect(
            load("/nowhere/director.yaml")
                == "/nowhere/director.yaml: cannot be opened: No such file or directory (errno 2); write one like "
                + "director.minimal.yaml of Baton's samples, or name another with --configuration"
        )
        #expect(load("/proc") == "/proc: cannot be read: Is a directory (errno 21)")
        #expect(load("/dev/zero") == "/dev/zero: is larger than 1 MiB, the most that is read")
        #expect(load("/dev/null") == "/dev/null:1:1: the file is empty; expected keys and values, one pair a line")
    }
}
