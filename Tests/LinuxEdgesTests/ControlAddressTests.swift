import Model
import Testing

@testable import LinuxNetwork

@Suite struct ControlAddressTests {
    @Test(arguments: [
        ([], nil),
        ([("10.0.0.2", 24)], "10.0.0.2"),
        ([("2001:db8::2", 64), ("10.0.0.2", 24), ("10.0.0.3", 24)], "10.0.0.2"),
        ([("fe80::1", 64), ("2001:db8::100", 128), ("2001:db8::2", 64)], "2001:db8::2"),
        ([("fe80::1", 64), ("febf::1", 64)], nil),
        ([("fec0::1", 64)], "fec0::1"),
    ] as [([(String, UInt8)], String?)])
    func theFirstThatOthersCanUse(addresses: [(String, UInt8)], expected: String?) throws {
        let interface = NetworkInterface(
            name: "eth0", index: 2, address: MACAddress(rawValue: 1), mtu: 1500, isUp: true,
            addresses: try addresses.map {
                InterfaceAddress(address: try #require(IPAddress($0.0)), prefixLength: $0.1)
            }
        )
        #expect(interface.controlAddress == expected.flatMap { IPAddress($0) })
    }
}
