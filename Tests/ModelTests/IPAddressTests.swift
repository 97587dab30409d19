import Model
import Testing

@Suite("IP addresses")
struct IPAddressTests {
    @Test(
        "text to address and back",
        arguments: [
            ("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("2001:DB8::1", "2001:db8::1"),
            ("0:0:0:0:0:0:0:0", "::"), ("1:0:0:2:0:0:0:3", "1:0:0:2::3"), ("fe80::", "fe80::"),
        ]
    )
    func roundTrip(text: String, canonical: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == canonical)
        #expect(IPAddress(bytes: address.bytes) == address)
    }

    @Test(
        "text that is no address is refused",
        arguments: ["", "1.2.3", "1.2.3.4.5", "256.0.0.1", "01.2.3.4", "+1.2.3.4", "1:2", ":::", "1::2::3", "12345::", "::1%eth0", "1.2.3.4/24"]
    )
    func refused(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test("endpoints want a port between 1 and 65535")
    func endpoints() {
        #expect(Endpoint("10.0.0.1:80")?.description == "10.0.0.1:80")
        #expect(Endpoint("[2001:db8::1]:443")?.description == "[2001:db8::1]:443")
        for text in ["10.0.0.1", "10.0.0.1:0", "10.0.0.1:65536", "2001:db8::1:80", "[10.0.0.1]:80", "10.0.0.1:+80"] {
            #expect(Endpoint(text) == nil, "\(text)")
        }
    }
}

@Suite("Sequence numbers and MAC addresses")
struct NumberTests {
    @Test("comparison follows the circle")
    func wrap() {
        let high = SequenceNumber(0xffff_fff0)
        #expect(high.isBefore(high.advanced(by: 32)))
        #expect(high.advanced(by: 32).distance(from: high) == 32)
        #expect(high.advanced(by: 32).rawValue == 16)
        #expect(high.isAfter(high.advanced(by: -1)))
    }

    @Test("a slot's group address is a local multicast address and names the slot")
    func group() throws {
        let slot = SlotID(rawValue: 0x1234)
        #expect(slot.group.description == "03:ba:70:6e:12:34")
        #expect(slot.group.isGroup)
        #expect(SlotID(group: slot.group) == slot)
        #expect(try SlotID(group: #require(MACAddress("01:00:5e:00:00:01"))) == nil)
    }
}
