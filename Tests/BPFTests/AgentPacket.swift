import Model

/// One TCP segment between the client and the service, with right checksums, as the agent's programs see it.
struct AgentPacket {
    enum Direction {
        case fromClient
        case fromService
    }

    struct Timestamps: Equatable {
        var value: UInt32
        var echo: UInt32
    }

    var direction = Direction.fromClient
    var client = AgentFixture.client
    var service = AgentFixture.vip
    var clientPort: UInt16 = 40000
    var servicePort: UInt16 = 80
    var sequence: UInt32 = 0
    var acknowledgment: UInt32 = 0
    var flags: TCPFlags = .ack
    var window: UInt16 = 1000
    var timestamps: Timestamps?
    var payload: [UInt8] = []
    /// IPv6: whole extension headers and the type of the first; the last must name TCP.
    var extensions: [UInt8] = []
    var firstHeader: UInt8 = 6
    /// IPv4's flags and offset field.
    var fragment: UInt16 = 0x4000
    /// What the IP header says instead of the right length.
    var lengthField: UInt16?
    var destination = MACAddress(rawValue: 0x02_00_00_00_00_01)
    var sourceMAC = MACAddress(rawValue: 0x02_00_00_00_00_99)
    var hasEthernet = true

    func bytes() -> [UInt8] {
        let tcp = segment()
        let ip = client.isIPv4 ? ipv4(tcp.count) : ipv6(tcp.count)
        let type: [UInt8] = client.isIPv4 ? [0x08, 0x00] : [0x86, 0xdd]
        return (hasEthernet ? destination.bytes + sourceMAC.bytes + type : []) + ip + tcp
    }

    private var addresses: [UInt8] {
        let pair = direction == .fromClient ? [client, service] : [service, client]
        return pair.flatMap { $0.isIPv4 ? Array($0.bytes[12...]) : $0.bytes }
    }

    private func segment() -> [UInt8] {
        let ports = direction == .fromClient ? [clientPort, servicePort] : [servicePort, clientPort]
        let options = timestamps.map { [1, 1, 8, 10] + double($0.value) + double($0.echo) } ?? []
        var tcp = ports.flatMap(word) + double(sequence) + double(acknowledgment)
        tcp += [UInt8(((20 + options.count) / 4) << 4), flags.rawValue] + word(window) + [0, 0, 0, 0]
        tcp += options + payload
        let sum = InternetChecksum.of(addresses + [0, 6] + word(UInt16(tcp.count)) + tcp)
        tcp.replaceSubrange(16..<18, with: word(sum))
        return tcp
    }

    private func ipv4(_ tcpBytes: Int) -> [UInt8] {
        var header: [UInt8] = [0x45, 0] + word(lengthField ?? UInt16(20 + tcpBytes)) + [0x12, 0x34] + word(fragment)
        header += [64, 6, 0, 0] + addresses
        header.replaceSubrange(10..<12, with: word(InternetChecksum.of(header)))
        return header
    }

    private func ipv6(_ tcpBytes: Int) -> [UInt8] {
        [0x60, 0, 0, 0] + word(lengthField ?? UInt16(extensions.count + tcpBytes))
            + [extensions.isEmpty ? 6 : firstHeader, 64] + addresses + extensions
    }

    private func word(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }
    private func double(_ value: UInt32) -> [UInt8] { word(UInt16(value >> 16)) + word(UInt16(value & 0xffff)) }
}

/// RFC 1071.
enum InternetChecksum {
    static func of(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count, by: 2) {
            sum += UInt32(bytes[index]) << 8 | (index + 1 < bytes.count ? UInt32(bytes[index + 1]) : 0)
        }
        while sum >> 16 != 0 { sum = sum & 0xffff + sum >> 16 }
        return ~UInt16(sum)
    }
}

/// A frame as it came out of a program, taken apart; its lengths agree and its checksums are right, or it is nil.
struct AgentFrame: Equatable {
    var destination: MACAddress
    var sourceMAC: MACAddress
    var source: IPAddress
    var target: IPAddress
    var sourcePort: UInt16
    var targetPort: UInt16
    var sequence: UInt32
    var acknowledgment: UInt32
    var flags: TCPFlags
    var window: UInt16
    var timestamps: AgentPacket.Timestamps?
    var payloadBytes: Int

    init?(_ frame: [UInt8]) {
        guard frame.count >= 54, let destination = MACAddress(bytes: frame[0..<6]),
            let sourceMAC = MACAddress(bytes: frame[6..<12])
        else { return nil }
        self.destination = destination
        self.sourceMAC = sourceMAC
        let isIPv4 = frame[12] == 8 && frame[13] == 0
        let header = isIPv4 ? 20 : 40
        let tcp = Array(frame[(14 + header)...])
        let word = { (at: Int) in UInt16(frame[at]) << 8 | UInt16(frame[at + 1]) }
        let addresses: [UInt8]
        if isIPv4 {
            guard frame[14] == 0x45, frame[23] == 6, Int(word(16)) == frame.count - 14,
                InternetChecksum.of(Array(frame[14..<34])) == 0
            else { return nil }
            addresses = Array(frame[26..<34])
            source = AgentFrame.ipv4(addresses[0..<4])
            target = AgentFrame.ipv4(addresses[4..<8])
        } else {
            guard frame[12] == 0x86, frame[13] == 0xdd, frame[20] == 6, frame.count >= 74,
                Int(word(18)) == frame.count - 54
            else { return nil }
            addresses = Array(frame[22..<54])
            guard let from = IPAddress(bytes: addresses[0..<16]), let to = IPAddress(bytes: addresses[16..<32]) else {
                return nil
            }
            source = from
            target = to
        }
        let length: [UInt8] = [0, 6, UInt8(tcp.count >> 8), UInt8(tcp.count & 0xff)]
        guard InternetChecksum.of(addresses + length + tcp) == 0 else { return nil }
        let part = { (at: Int) in UInt16(tcp[at]) << 8 | UInt16(tcp[at + 1]) }
        let number = { (at: Int) in UInt32(part(at)) << 16 | UInt32(part(at + 2)) }
        sourcePort = part(0)
        targetPort = part(2)
        sequence = number(4)
        acknowledgment = number(8)
        flags = TCPFlags(rawValue: tcp[13])
        window = part(14)
        let headerBytes = Int(tcp[12] >> 4) * 4
        guard headerBytes >= 20, headerBytes <= tcp.count else { return nil }
        payloadBytes = tcp.count - headerBytes
        if headerBytes >= 32, number(20) == 0x0101_080a {
            timestamps = AgentPacket.Timestamps(value: number(24), echo: number(28))
        }
    }

    private static func ipv4(_ bytes: ArraySlice<UInt8>) -> IPAddress {
        IPAddress(ipv4: bytes.reduce(0) { $0 << 8 | UInt32($1) })
    }
}
