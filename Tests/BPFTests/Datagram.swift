import Model

/// One IP packet of any protocol to be built into a frame, whole or in fragments.
struct Datagram {
    var destination = DirectorFixture.own
    var vlanTags: [UInt16] = []
    var client = IPAddress(ipv4: 0x0a00_0064)
    var service = DirectorFixture.vip
    var transport: UInt8 = 17
    var payload: [UInt8] = []
    var identification: UInt16 = 0x1234
    /// In units of eight bytes; nil: not a fragment.
    var fragment: (offset: UInt16, more: Bool)?

    /// UDP with so many bytes; `lengthError` is added to its length field.
    static func udp(
        from clientPort: UInt16 = 40000, to port: UInt16 = 53, bytes: Int = 4, lengthError: Int = 0
    ) -> [UInt8] {
        word(clientPort) + word(port) + word(UInt16(8 + bytes + lengthError)) + [0, 0] + [UInt8](repeating: 7, count: bytes)
    }

    /// An ICMP error whose quotation is the beginning of an answer of the service to the client.
    func error(type: UInt8, code: UInt8, transport: UInt8, from port: UInt16, to clientPort: UInt16) -> Datagram {
        var quoted = Datagram(client: service, service: client, transport: transport)
        quoted.payload = Datagram.word(port) + Datagram.word(clientPort) + [0, 0, 0, 1]
        var error = self
        error.client = client.isIPv4 ? IPAddress(ipv4: 0x0a00_00fe) : IPAddress(high: 0x2001_0db8_0000_0002, low: 0xfe)
        error.transport = client.isIPv4 ? 1 : 58
        error.payload = [type, code, 0, 0, 0, 0, 5, 0] + quoted.packet()
        return error
    }

    func bytes() -> [UInt8] {
        var frame = destination.bytes + [2, 0, 0, 0, 0, 0x99]
        for tag in vlanTags { frame += [0x81, 0x00] + Datagram.word(tag) }
        frame += client.isIPv4 ? [0x08, 0x00] : [0x86, 0xdd]
        return frame + packet()
    }

    private func packet() -> [UInt8] {
        if client.isIPv4 {
            let flags = fragment.map { $0.offset | ($0.more ? 0x2000 : 0) } ?? 0
            return [0x45, 0] + Datagram.word(UInt16(20 + payload.count)) + Datagram.word(identification)
                + Datagram.word(flags) + [64, transport, 0, 0] + client.bytes[12...] + service.bytes[12...] + payload
        }
        let header: [UInt8] =
            fragment.map {
                [transport, 0] + Datagram.word($0.offset << 3 | ($0.more ? 1 : 0)) + [0, 0]
                    + Datagram.word(identification)
            } ?? []
        return [0x60, 0, 0, 0] + Datagram.word(UInt16(header.count + payload.count))
            + [header.isEmpty ? transport : 44, 64] + client.bytes + service.bytes + header + payload
    }

    static func word(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }
}
