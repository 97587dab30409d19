import Testing

@testable import Configuration

private let keys =
    "interface, backend_interface, policies, services, backends, heartbeat, detector, fence, backups, control, flows, state, socket, key, "
    + "xdp, log"
private let interfaceExpected = "expected the name of a network interface, 1 to 15 bytes, e.g. eth0"
private let servicesExpected =
    "expected a list of 1 to 256 entries with the keys name, address, protocol, ports, policy, persistence, replay, "
    + "forwarding, checks, sorry, rate and burst"
private let backendsExpected = "expected a list of 1 to 256 entries with the keys name, address, weight, upper_threshold and lower_threshold"
private let nameExpected = "expected a name of 1 to 32 letters, digits, '.', '_' and '-', e.g. web1"
private let endpointExpected = "expected an address and a port, e.g. 10.0.0.100:80"
private let addressExpected = "expected an IPv4 or IPv6 address, e.g. 10.0.0.11"
private let intervalExpected = "expected a duration with its unit (ms, s, m, ...) from 1ms to 1s, e.g. 10ms or 2s"
private let windowExpected = "expected a duration with its unit (ms, s, m, ...) from 3ms to 1m, e.g. 10ms or 2s"
private let pathExpected = "expected an absolute path of at most 4095 bytes, e.g."

private let rootFaults = [
    Fault("a list as the root", "- a\n", "d:1:1: a list is not a mapping; expected keys and values, one pair a line"),
    Fault("a text as the root", "x", "d:1:1: \"x\" is not a mapping; expected keys and values, one pair a line"),
    Fault(
        "nothing that is required",
        "xdp: auto",
        "d:1:1: interface: the key is missing; \(interfaceExpected)\n"
            + "d:1:1: services: the key is missing; \(servicesExpected)\n"
            + "d:1:1: backends: the key is missing; \(backendsExpected)"
    ),
    Fault(
        "a misspelt key",
        directorText(interface: "interfaec: eth0"),
        "d:1:1: interface: the key is missing; \(interfaceExpected)\n"
            + "d:1:1: interfaec: unknown key; expected one of \(keys); did you mean \"interface\"?"
    ),
    Fault(
        "an unknown key that resembles none",
        directorText(more: "colour: red\n"),
        "d:7:1: colour: unknown key; expected one of \(keys)"
    ),
    Fault(
        "an unknown key that is no word",
        directorText(more: "\"a b\": red\n"),
        "d:7:1: \"a b\": unknown key; expected one of \(keys)"
    ),
    Fault(
        "a merge key",
        directorText(more: "<<: {xdp: auto}\n"),
        "d:7:1: <<: unknown key; expected one of \(keys)"
    ),
    Fault(
        "a key that is a list",
        directorText(more: "? [a, b]\n: 1\n"),
        "d:7:3: a list stands where a key should be; expected a name"
    ),
    Fault(
        "a key that stands three times",
        directorText(interface: "\"interface\": eth0\ninterface: eth1\ninterface: eth2"),
        "d:2:1: interface: the key stands here again (first on line 1); expected each key once\n"
            + "d:3:1: interface: the key stands here again (first on line 1); expected each key once"
    ),
    Fault(
        "duplicate keys in two mappings, and another fault",
        directorText(
            backends: "  - {name: web1, address: 10.0.0.11, name: web2}",
            more: "xdp: x\nxdp: auto\n"
        ),
        "d:5:38: backends[0].name: the key stands here again (first on line 5); expected each key once\n"
            + "d:6:6: xdp: \"x\" is not a way to attach XDP; expected native, generic or auto\n"
            + "d:7:1: xdp: the key stands here again (first on line 6); expected each key once"
    ),
]

private let interfaceFaults = [
    Fault(
        "a name as long as the kernel allows: no fault",
        directorText(interface: "interface: eth123456789012"),
        ""
    ),
    Fault(
        "a name one byte longer",
        directorText(interface: "interface: eth1234567890123"),
        "d:1:12: interface: \"eth1234567890123\" cannot be the name of an interface; \(interfaceExpected)"
    ),
    Fault(
        "a slash",
        directorText(interface: "interface: eth/0"),
        "d:1:12: interface: \"eth/0\" cannot be the name of an interface; \(interfaceExpected)"
    ),
    Fault(
        "a control character",
        directorText(interface: "interface: \"eth\\n0\""),
        "d:1:12: interface: \"eth\\n0\" cannot be the name of an interface; \(interfaceExpected)"
    ),
    Fault(
        "no value",
        directorText(interface: "interface:"),
        "d:1:11: interface: the key has no value; \(interfaceExpected)"
    ),
    Fault(
        "null",
        directorText(interface: "interface: null"),
        "d:1:12: interface: null is no value; \(interfaceExpected)"
    ),
    Fault(
        "a list",
        directorText(interface: "interface: [eth0]"),
        "d:1:12: interface: found a list; \(interfaceExpected)"
    ),
    Fault(
        "a mapping",
        directorText(interface: "interface: {name: eth0}"),
        "d:1:12: interface: found a mapping; \(interfaceExpected)"
    ),
    Fault(
        "a tag",
        directorText(interface: "interface: !!str eth0"),
        "d:1:12: interface: found a YAML tag; \(interfaceExpected); remove the tag"
    ),
]

private let serviceFaults = [
    Fault(
        "the same service twice",
        directorText(service: "  - {name: web, address: 10.0.0.100:80}\n  - {name: web, address: 10.0.0.100:80}"),
        "d:4:12: services[1].name: \"web\" is already services[0].name (line 3); "
            + "expected a name that no other service has\n"
            + "d:4:26: services[1].address: \"10.0.0.100:80\" is already services[0].address (line 3); "
            + "expected an address and port that no other service has"
    ),
    Fault(
        "no address",
        directorText(service: "  - name: web"),
        "d:3:5: services[0].address: the key is missing; \(endpointExpected)"
    ),
    Fault(
        "a bad address",
        directorText(service: "  - {name: web, address: 10.0.0.300:80}"),
        "d:3:26: services[0].address: \"10.0.0.300\" is not an IP address; \(endpointExpected)"
    ),
    Fault(
        "no port",
        directorText(service: "  - {name: web, address: 10.0.0.100}"),
        "d:3:26: services[0].address: \"10.0.0.100\" has no port; \(endpointExpected)"
    ),
    Fault(
        "port 0",
        directorText(service: "  - {name: web, address: 10.0.0.100:0}"),
        "d:3:26: services[0].address: \"0\" is not a port from 1 to 65535; \(endpointExpected)"
    ),
    Fault(
        "a loopback address",
        directorText(service: "  - {name: web, address: 127.0.0.1:80}"),
        "d:3:26: services[0].address: 127.0.0.1 is a loopback address; \(endpointExpected)"
    ),
    Fault(
        "a multicast address",
        directorText(service: "  - {name: web, address: \"[ff02::1]:80\"}"),
        "d:3:26: services[0].address: ff02::1 is a multicast address; \(endpointExpected)"
    ),
    Fault(
        "the broadcast address",
        directorText(service: "  - {name: web, address: 255.255.255.255:80}"),
        "d:3:26: services[0].address: 255.255.255.255 is no host's address; \(endpointExpected)"
    ),
    Fault(
        "IPv6 in brackets without quotes",
        directorText(service: "  - name: web\n    address: [2001:db8::1]"),
        "d:4:14: services[0].address: found a list; \(endpointExpected); put it in quotes"
    ),
    Fault(
        "IPv6 without brackets",
        directorText(service: "  - {name: web, address: 2001:db8::1:80}"),
        "d:3:26: services[0].address: \"2001:db8::1:80\" has no port; \(endpointExpected); "
            + "put an IPv6 address in brackets and the whole in quotes: \"[2001:db8::1]:80\""
    ),
    Fault(
        "full IPv6 without brackets",
        directorText(service: "  - {name: web, address: 1:2:3:4:5:6:7:8:80}"),
        "d:3:26: services[0].address: \"1:2:3:4:5:6:7:8:80\" is ambiguous; \(endpointExpected); "
            + "put an IPv6 address in brackets and the whole in quotes: \"[2001:db8::1]:80\""
    ),
    Fault(
        "unknown modules and replay policy; a VIP that is a back-end's address",
        directorText(
            service: "  - {name: web, address: 10.0.0.11:80, policy: rrr, replay: no, forwarding: sel}"
        ),
        "d:3:48: services[0].policy: \"rrr\" is not a dispatch policy; expected rr, wrr or sh; did you mean \"rr\"?\n"
            + "d:3:61: services[0].replay: \"no\" is not a replay policy; expected none, stream or http\n"
            + "d:3:77: services[0].forwarding: \"sel\" is not a forwarding module; expected multicast, selective or owner; "
            + "did you mean \"selective\"?\n"
            + "d:5:27: backends[0].address: \"10.0.0.11\" is already the VIP of services[0].address (line 3); "
            + "expected an address of the machine's own, which is no VIP"
    ),
    Fault(
        "an entry that is a text",
        directorText(service: "  - web"),
        "d:3:5: services[0]: \"web\" is not a mapping; "
            + "expected a mapping with the keys name, address, protocol, ports, policy, persistence, replay, forwarding, "
            + "checks, sorry, rate and burst"
    ),
    Fault(
        "one mapping in place of the list",
        directorText(service: "  name: web"),
        "d:3:3: services: a mapping is not a list; \(servicesExpected); begin each entry with '- '"
    ),
    Fault(
        "an empty list",
        directorText(service: "  []"),
        "d:3:3: services: the list is empty; \(servicesExpected)"
    ),
]

private let backendFaults = [
    Fault(
        "many faults at once",
        directorText(
            backends: """
                  - {name: web1, address: 10.0.0.11, weigth: 3}
                  - {name: web1, address: 10.0.0.11, weight: 65536}
                  - name: a b
                    address: web3
                    weight: "5"
                  - {weight: -1}
                """
        ),
        """
        d:5:38: backends[0].weigth: unknown key; expected one of name, address, weight, upper_threshold, lower_threshold; did you mean "weight"?
        d:6:12: backends[1].name: "web1" is already backends[0].name (line 5); \
        expected a name that no other back-end has
        d:6:27: backends[1].address: "10.0.0.11" is already backends[0].address (line 5); \
        expected an address that no other back-end has
        d:6:46: backends[1].weight: 65536 is out of range; expected a whole number from 0 to 65535
        d:7:11: backends[2].name: "a b" has the character " "; \(nameExpected)
        d:8:14: backends[2].address: "web3" is not an IP address; \(addressExpected); names are not looked up here
        d:9:13: backends[2].weight: "5" is a text; expected a whole number from 0 to 65535; \
        write the number without quotes
        d:10:5: backends[3].name: the key is missing; \(nameExpected)
        d:10:5: backends[3].address: the key is missing; \(addressExpected)
        d:10:14: backends[3].weight: -1 is out of range; expected a whole number from 0 to 65535
        """
    ),
    Fault(
        "a bad address, in block style",
        directorText(backends: "- name: web1\n  address: 10.0.0.300"),
        "d:6:12: backends[0].address: \"10.0.0.300\" is not an IP address; \(addressExpected)"
    ),
    Fault(
        "a mask, a zone",
        directorText(
            backends: "  - {name: a, address: 10.0.0.11/24}\n  - {name: b, address: \"fe80::1%eth0\"}"
        ),
        "d:5:24: backends[0].address: \"10.0.0.11/24\" is not an IP address; \(addressExpected); leave out the mask\n"
            + "d:6:24: backends[1].address: \"fe80::1%eth0\" is not an IP address; "
            + "\(addressExpected); leave out the zone"
    ),
    Fault(
        "names at their bounds",
        directorText(
            backends: "  - {name: \(String(repeating: "x", count: 33)), address: 10.0.0.11}\n"
                + "  - {name: \(String(repeating: "y", count: 32)), address: 10.0.0.12}\n"
                + "  - {name: \"\", address: 10.0.0.13}"
        ),
        "d:5:12: backends[0].name: \"\(String(repeating: "x", count: 33))\" is 33 bytes long; \(nameExpected)\n"
            + "d:7:12: backends[2].name: the name is empty; \(nameExpected)"
    ),
    Fault(
        "the same address in two spellings",
        directorText(backends: "  - {name: a, address: 10.0.0.11}\n  - {name: b, address: \"::ffff:10.0.0.11\"}"),
        "d:6:24: backends[1].address: \"10.0.0.11\" is already backends[0].address (line 5); "
            + "expected an address that no other back-end has"
    ),
    Fault(
        "back-ends first: the VIP is the second",
        "interface: eth0\nbackends: [{name: a, address: 10.0.0.11}]\nservices: [{name: w, address: 10.0.0.11:80}]",
        "d:3:31: services[0].address: \"10.0.0.11\" is already backends[0].address (line 2); "
            + "expected a virtual address that no machine has as its own"
    ),
    Fault(
        "weights that are no numbers",
        directorText(
            backends:
                "  - {name: a, address: 10.0.0.11, weight: 0x10}\n  - {name: b, address: 10.0.0.12, weight: 1.0}\n"
                + "  - {name: c, address: 10.0.0.13, weight: 007}\n  - {name: d, address: 10.0.0.14, weight: 1_}\n"
                + "  - {name: e, address: 10.0.0.15, weight: 99999999999999999999}"
        ),
        """
        d:5:43: backends[0].weight: 0x10 is not a whole number; expected a whole number from 0 to 65535
        d:6:43: backends[1].weight: 1.0 is not a whole number; expected a whole number from 0 to 65535
        d:7:43: backends[2].weight: 007 begins with 0; expected a whole number from 0 to 65535; \
        remove the zero: YAML readers take it for octal
        d:8:43: backends[3].weight: 1_ is not a whole number; expected a whole number from 0 to 65535
        d:9:43: backends[4].weight: 99999999999999999999 is out of range; expected a whole number from 0 to 65535
        """
    ),
]

private let otherFaults = [
    Fault(
        "durations without a unit, with a space, a fraction, an unknown unit",
        directorText(more: "heartbeat: {interval: 10, window: 50 ms}\n"),
        "d:7:23: heartbeat.interval: 10 has no unit; \(intervalExpected); write for example 10ms\n"
            + "d:7:35: heartbeat.window: \"50 ms\" has a space in it; \(windowExpected); write 50ms"
    ),
    Fault(
        "a fraction and an overflow",
        directorText(more: "heartbeat: {interval: 1.5s, window: 99999999999999999999999h}\n"),
        "d:7:23: heartbeat.interval: 1.5s has a fraction; \(intervalExpected); write a whole number of a smaller unit\n"
            + "d:7:37: heartbeat.window: 99999999999999999999999h is out of range; \(windowExpected)"
    ),
    Fault(
        "an unknown unit and no number",
        directorText(more: "heartbeat: {interval: 5sec, window: soon}\n"),
        "d:7:23: heartbeat.interval: 5sec has the unknown unit \"sec\"; \(intervalExpected)\n"
            + "d:7:37: heartbeat.window: soon is not a duration; \(windowExpected)"
    ),
    Fault(
        "out of range",
        directorText(more: "heartbeat: {interval: 999us, window: 61s}\n"),
        "d:7:23: heartbeat.interval: 999us is out of range; \(intervalExpected)\n"
            + "d:7:38: heartbeat.window: 61s is out of range; \(windowExpected)"
    ),
    Fault(
        "a window below three intervals",
        directorText(more: "heartbeat: {interval: 20ms, window: 59ms}\n"),
        "d:7:37: heartbeat.window: 59ms is less than three intervals of 20ms; "
            + "expected 60ms or more: three intervals at least, so that two lost heartbeats are no failure"
    ),
    Fault(
        "an interval above a third of the default window",
        directorText(more: "heartbeat: {interval: 20ms}\n"),
        "d:7:23: heartbeat.interval: three intervals of 20ms are more than the window, 50ms; "
            + "expected a window of three intervals at least, so that two lost heartbeats are no failure; "
            + "add \"window: 100ms\""
    ),
    Fault("a window of just three intervals", directorText(more: "heartbeat: {window: 30ms}\n"), ""),
    Fault(
        "a section that is a text",
        directorText(more: "heartbeat: 10ms\n"),
        "d:7:12: heartbeat: \"10ms\" is not a mapping; expected a mapping with the keys interval, window and threshold"
    ),
    Fault(
        "backups, flows and port out of range",
        directorText(more: "backups: 4\nflows: {size: 1023}\ncontrol: {port: 0}\n"),
        "d:7:10: backups: 4 is out of range; expected a whole number from 1 to 3\n"
            + "d:8:15: flows.size: 1023 is out of range; expected a whole number from 1024 to 16777216\n"
            + "d:9:17: control.port: 0 is out of range; expected a whole number from 1 to 65535"
    ),
    Fault(
        "the director's own address is a VIP",
        directorText(more: "control: {address: 10.0.0.100}\n"),
        "d:7:20: control.address: \"10.0.0.100\" is already the VIP of services[0].address (line 3); "
            + "expected an address of the machine's own, which is no VIP"
    ),
    Fault(
        "an unknown detector, attachment and log level",
        directorText(more: "detector: psi\nxdp: navite\nlog: {level: warn}\n"),
        "d:7:11: detector: \"psi\" is not a failure detection module; expected window\n"
            + "d:8:6: xdp: \"navite\" is not a way to attach XDP; expected native, generic or auto; "
            + "did you mean \"native\"?\n"
            + "d:9:14: log.level: \"warn\" is not a log level; "
            + "expected trace, debug, info, notice, warning, error or critical; did you mean \"warning\"?"
    ),
    Fault(
        "paths",
        directorText(
            more: "state: sys/fs\nsocket: /\(String(repeating: "x", count: 107))\nkey: /a/../b\n"
        ),
        "d:7:8: state: \"sys/fs\" is not an absolute path; \(pathExpected) /sys/fs/bpf/baton\n"
            + "d:8:9: socket: the path is 108 bytes long; "
            + "expected an absolute path of at most 107 bytes, e.g. /run/baton/director.sock\n"
            + "d:9:6: key: \"/a/../b\" has a '..' in it; \(pathExpected) /etc/baton/cluster.key"
    ),
    Fault(
        "a path with a control character",
        directorText(more: "key: \"/etc/\\x07\"\n"),
        "d:7:6: key: \"/etc/\\u{7}\" has a control character; \(pathExpected) /etc/baton/cluster.key"
    ),
]

@Suite("Faults of the director's configuration: the exact messages")
struct DirectorFaultTests {
    @Test(arguments: rootFaults + interfaceFaults + serviceFaults + backendFaults + otherFaults)
    func exactly(fault: Fault) {
        #expect(director(fault.text).messages == fault.messages)
    }

    @Test("the message as the manual shows it")
    func manual() {
        let error = Diagnostic(
            file: "/etc/baton/director.yaml",
            position: Position(line: 7, column: 3),
            key: "backends[1].address",
            problem: "\"10.0.0.300\" is not an IP address",
            expected: "an IPv4 or IPv6 address, e.g. 10.0.0.11"
        )
        #expect(
            error.description
                == "/etc/baton/director.yaml:7:3: backends[1].address: \"10.0.0.300\" is not an IP address; "
                + "expected an IPv4 or IPv6 address, e.g. 10.0.0.11"
        )
        #expect(ConfigurationError.exitStatus == 78)
    }
}
