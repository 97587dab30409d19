import Model
import Testing

@testable import Configuration

private let vip = IPAddress(ipv4: 0x0a00_0064)

private func service(_ text: String) -> Result<DirectorConfiguration, ConfigurationError> {
    director(directorText(service: text))
}

@Suite("Protocols and ports of services")
struct ServicePortTests {
    @Test func datagrams() throws {
        let read = try service("  - {name: dns, address: 10.0.0.100:53, protocol: udp, timeouts: {udp: 30s}}").get().services[0]
        #expect(read.transport == .udp && read.timeouts.udp == .seconds(30) && read.address.port == 53)
        #expect(read.forwarding == "owner" && read.replay == .none && read.isForwardedOnly)
        #expect(read.singlePorts == [53] && read.portRanges.isEmpty && read.addressText == "10.0.0.100:53/udp")
    }

    @Test(arguments: [
        ("8000-8099", [8000...8099], [], [8000...8099], "10.0.0.100:8000-8099"),
        ("all", [1...65535], [], [1...65535], "10.0.0.100:all"),
        ("8000", [8000...8000], [8000], [], "10.0.0.100:8000"),
        ("[80, 443, 8000-8001]", [80...80, 443...443, 8000...8001], [80, 443], [8000...8001], "10.0.0.100:80,443,8000-8001"),
    ] as [(String, [ClosedRange<UInt16>], [UInt16], [ClosedRange<UInt16>], String)])
    func ports(
        text: String, ranges: [ClosedRange<UInt16>], singles: [UInt16], wide: [ClosedRange<UInt16>], shown: String
    ) throws {
        let read = try service("  - {name: web, address: 10.0.0.100, ports: \(text)}").get().services[0]
        #expect(read.address == Endpoint(address: vip, port: 0) && read.forwarding == "owner")
        #expect(read.ports?.ranges == ranges && read.singlePorts == singles && read.portRanges == wide)
        #expect(read.addressText == shown)
    }

    @Test func whatMayStandTogether() throws {
        let text = """
              - {name: one, address: 10.0.0.100:8005}
              - {name: some, address: 10.0.0.100, ports: 8000-8099}
              - {name: all, address: 10.0.0.100, ports: all}
              - {name: names, address: 10.0.0.100:8005, protocol: udp}
              - {name: datagrams, address: 10.0.0.100, protocol: udp, ports: 8000-8099}
              - {name: other, address: 10.0.0.101, ports: 8000-8099}
            """
        #expect(try service(text).get().services.count == 6)
    }

    @Test(arguments: [
        (
            "  - {name: a, address: 10.0.0.100, ports: 8000-8099}\n  - {name: b, address: 10.0.0.100, ports: [80, 8099-8100]}",
            "d:4:43: services[1].ports: 8099-8100 overlaps 8000-8099 of services[0].ports (line 3); expected ranges of which "
                + "no two overlap; a single port may lie in another's range, and goes before it; so does any range before `all`"
        ),
        (
            "  - {name: a, address: 10.0.0.100, ports: all}\n  - {name: b, address: 10.0.0.100, ports: all}",
            "d:4:43: services[1].ports: all overlaps all of services[0].ports (line 3); expected ranges of which "
                + "no two overlap; a single port may lie in another's range, and goes before it; so does any range before `all`"
        ),
        (
            "  - {name: a, address: 10.0.0.100:80}\n  - {name: b, address: 10.0.0.100, ports: [80, 443]}",
            "d:4:43: services[1].ports: \"10.0.0.100:80\" is already services[0].address (line 3); "
                + "expected an address and port that no other service has"
        ),
        (
            "  - {name: a, address: 10.0.0.100:53, protocol: udp}\n  - {name: b, address: 10.0.0.100:53, protocol: udp}",
            "d:4:24: services[1].address: \"10.0.0.100:53/udp\" is already services[0].address (line 3); "
                + "expected an address and port that no other service has"
        ),
        (
            "  - {name: a, address: 10.0.0.100, ports: [80, 79-81]}",
            "d:3:48: services[0].ports[1]: 79-81 overlaps 80, which stands before it; expected each port once"
        ),
        (
            "  - {name: a, address: 10.0.0.100, ports: 90-80}",
            "d:3:43: services[0].ports: \"90-80\" ends before it begins; "
                + "expected a range of ports such as 8000-8099, a list of ports and ranges, or all"
        ),
        (
            "  - {name: a, address: 10.0.0.100:80, protocol: udp, replay: stream, forwarding: selective}",
            "d:3:62: services[0].replay: a service of UDP is forwarded only; expected none; "
                + "give each port that is to be taken over a service of its own\n"
                + "d:3:82: services[0].forwarding: a service of UDP is forwarded only; expected owner"
        ),
        (
            "  - {name: a, address: 10.0.0.100, ports: all, checks: [{kind: ping}, {kind: tcp}]}",
            "d:3:78: services[0].checks[1].kind: of all ports, which one shall it try?; expected a port from 1 to 65535 as `port`"
        ),
        (
            "  - {name: a, address: 10.0.0.100:80, protocol: sctp}",
            "d:3:49: services[0].protocol: \"sctp\" is not a protocol; expected tcp or udp"
        ),
    ])
    func faults(text: String, messages: String) { #expect(service(text).messages == messages) }

    @Test func theBackendInterfaceIsAnother() throws {
        #expect(try director("backend_interface: eth1\n" + directorText()).get().backendInterface == "eth1")
        #expect(
            director("backend_interface: eth0\n" + directorText()).messages
                == "d:1:20: backend_interface: \"eth0\" is `interface` already; expected another interface; "
                + "leave the key out: frames leave by the one that they came in on")
    }
}
