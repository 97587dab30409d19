import Glibc
import Model
import Testing

@testable import Configuration

@Suite("The running configuration as a file")
struct WritingTests {
    static let files = [
        directorText(),
        """
        interface: "lan.0"
        services:
          - name: web
            address: "[2001:db8::80]:8080"
            policy: {name: sh, port: true, size: 251}
            persistence: {timeout: 1h, netmask: 24, netmask_ipv6: 64}
            timeouts: {tcp: 15m, tcpfin: 90s, udp: 2s, handshake: 3s}
            reset_on_timeout: true
            replay: http
            methods: idempotent
            range_from: 1500kB
            forwarding: multicast
          - name: plain
            address: 10.0.0.100:25
            replay: http
            range_from: off
          - name: stream-1.a_b
            address: 10.0.0.100:26
            policy: {name: sh, port: false}
            replay: stream
          - name: calls
            address: 10.0.0.100
            protocol: udp
            ports: [5060, 8000-8099]
          - name: names
            address: 10.0.0.100:25
            protocol: udp
          - {name: rest, address: 10.0.0.100, ports: all}
          - {name: some, address: "2001:db8::80", ports: 8000-8099}
        backends:
          - name: b.1
            address: 2001:db8::11
            weight: 65535
          - name: "0"
            address: 10.0.0.12
            weight: 0
        heartbeat: {interval: 2ms, window: 1s, threshold: 3}
        fence: {command: [/sbin/off, "a b", "x: \\"y\\"", "#", "- z", "~", "null", "ü"], timeout: 250ms}
        backups: 3
        control: {address: 127.0.0.1, port: 7500}
        flows: {size: 16777216}
        state: /sys/fs/bpf/x
        socket: "/run/a b.sock"
        key: /etc/x.key
        xdp: generic
        log: {level: trace}
        """,
    ]

    private func read(_ text: String) throws(ConfigurationError) -> DirectorConfiguration {
        try director(text).get()
    }

    @Test("what is written reads as the same", arguments: files)
    func roundTrip(_ file: String) throws {
        let value = try director(file).get()
        let text = try value.text(reading: { text throws(ConfigurationError) in try director(text).get() })
        #expect(try director(text).get() == value)
        // And once more: it is a fixed point.
        #expect(try director(text).get().tree.yaml == text)
    }

    @Test("the full sample, too")
    func sample() throws {
        let value = try director(text(of: "etc/director.yaml")).get()
        #expect(try director(value.tree.yaml).get() == value)
    }

    @Test("a configuration that cannot be written without a loss is not written")
    func loss() throws {
        var value = try director(directorText()).get()
        // No file says this: the service's replay policy is `none`.
        value.services[0].http.rangeFrom = nil
        let error = #expect(throws: ConfigurationError.self) {
            _ = try value.text(reading: { text throws(ConfigurationError) in try director(text).get() })
        }
        #expect(error?.description.contains("cannot be written without a loss") == true)
    }

    @Test("words that YAML would take for something else stand in quotes", arguments: [
        ("eth0", "eth0"), ("10.0.0.1:80", "10.0.0.1:80"), ("", "\"\""), ("~", "\"~\""), ("null", "\"null\""),
        ("a b", "\"a b\""), ("a:", "\"a:\""), ("-x", "\"-x\""), ("[::1]:80", "\"[::1]:80\""), ("#", "\"#\""),
        ("a\"b\\c", "\"a\\\"b\\\\c\""), ("\u{1}", "\"\\x01\""), ("ü", "\"ü\""),
    ])
    func words(text: String, written: String) throws {
        #expect(ConfigurationTree.scalar(text).shown == written)
        #expect(ConfigurationTree(yaml: written) == .scalar(text))
    }

    @Test("names of properties as keys", arguments: [
        ("name", "name"), ("netmaskIPv6", "netmask_ipv6"), ("rangeFrom", "range_from"), ("resetOnTimeout", "reset_on_timeout"),
    ])
    func keys(property: String, key: String) { #expect(ConfigurationTree.key(property) == key) }

    @Test("a file is replaced as a whole, and what it said is kept")
    func saving() throws {
        let folder = try temporaryFolder()
        defer { removeFolder(folder) }
        let path = folder + "/director.yaml"
        #expect(try ConfigurationSaving.write("first\n", to: path) == nil)
        chmod(path, 0o640)
        // Through a link, which stays one.
        symlink(path, folder + "/link")
        let backup = try ConfigurationSaving.write("second\n", to: folder + "/link")
        #expect(backup == path + ".bak")
        #expect(try content(path) == "second\n" && content(path + ".bak") == "first\n")
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o640)
        #expect(lstat(folder + "/link", &status) == 0 && status.st_mode & S_IFMT == S_IFLNK)
        #expect(access(path + ".new", F_OK) != 0)
        #expect(throws: ConfigurationError.self) { _ = try ConfigurationSaving.write("x", to: folder + "/no/file") }
    }

    private func content(_ path: String) throws -> String {
        String(decoding: try FileText.read(path, remedy: ""), as: UTF8.self)
    }

    private func temporaryFolder() throws -> String {
        var template = Array("/tmp/baton-saving-XXXXXX".utf8CString)
        return try #require(mkdtemp(&template).map { String(cString: $0) })
    }

    private func removeFolder(_ folder: String) {
        for name in ["director.yaml", "director.yaml.bak", "director.yaml.new", "link"] { unlink(folder + "/" + name) }
        rmdir(folder)
    }
}
