import Model

/// One frame to be built: Ethernet, VLAN tags, IPv4 or IPv6, TCP. Every length can be made to lie.
struct Packet {
    var destination = MACAddress(rawValue: 0x02_00_00_00_00_01)
    var source = MACAddress(rawValue: 0x02_00_00_00_00_99)
    var vlanTags: [UInt16] = []
    var client = IPAddress(ipv4: 0x0a00_0064)
    var service = IPAddress(ipv4: 0x0a00_0001)
    var clientPort: UInt16 = 40000
    var servicePort: UInt16 = 80
    var flags: TCPFlags = .ack
    var sequence: UInt32 = 1000
    var acknowledgment: UInt32 = 2000
    var tcpOptions: [UInt8] = []
    var payload: [UInt8] = []
    /// IPv4: options, a multiple of four bytes. IPv6: extension headers, as (type, length in units of eight bytes).
    var ipOptions: [UInt8] = []
    var extensionHeaders: [(type: UInt8, units: UInt8)] = []
    var transport: UInt8 = 6
    /// IPv4's flags and offset field.
    var fragment: UInt16 = 0x4000
    /// Added to what the length fields should say.
    var ipLengthError = 0
    var tcpHeaderError = 0
    /// Ethernet pads frames below 60 bytes.
    var isPadded = true

    func bytes() -> [UInt8] {
        var frame = destination.bytes + source.bytes
        for tag in vlanTags { frame += [0x81, 0x00] + word(tag) }
        let tcp = segment()
        frame += client.isIPv4 ? [0x08, 0x00] + ipv4(tcp.count) : [0x86, 0xdd] + ipv6(tcp.count)
        frame += tcp
        if isPadded, frame.count < 60 { frame += Array(repeating: 0xee, count: 60 - frame.count) }
        return frame
    }

    private func segment() -> [UInt8] {
        let words = 5 + tcpOptions.count / 4 + tcpHeaderError
        return word(clientPort) + word(servicePort) + double(sequence) + double(acknowledgment)
            + [UInt8(truncatingIfNeeded: words << 4), flags.rawValue] + word(65535) + [0, 0, 0, 0]
            + tcpOptions + payload
    }

    private func ipv4(_ tcpBytes: Int) -> [UInt8] {
        let header = 20 + ipOptions.count
        let length = UInt16(truncatingIfNeeded: header + tcpBytes + ipLengthError)
        return [0x40 | UInt8(header / 4), 0] + word(length) + [0x12, 0x34] + word(fragment) + [64, transport, 0, 0]
            + client.bytes[12...] + service.bytes[12...] + ipOptions
    }

    private func ipv6(_ tcpBytes: Int) -> [UInt8] {
        var chain: [UInt8] = []
        for (index, header) in extensionHeaders.enumerated() {
            let next = index + 1 < extensionHeaders.count ? extensionHeaders[index + 1].type : transport
            chain += [next, header.units] + Array(repeating: 0, count: Int(header.units) * 8 + 6)
        }
        let length = UInt16(truncatingIfNeeded: chain.count + tcpBytes + ipLengthError)
        return [0x60, 0, 0, 0] + word(length) + [extensionHeaders.first?.type ?? transport, 64]
            + client.bytes + service.bytes + chain
    }

    private func word(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }
    private func double(_ value: UInt32) -> [UInt8] { word(UInt16(value >> 16)) + word(UInt16(value & 0xffff)) }
}

struct TCPFlags: OptionSet {
    var rawValue: UInt8
    static let fin = TCPFlags(rawValue: 1)
    static let syn = TCPFlags(rawValue: 2)
    static let rst = TCPFlags(rawValue: 4)
    static let psh = TCPFlags(rawValue: 8)
    static let ack = TCPFlags(rawValue: 16)
}

/// SplitMix64: a seed gives the same run everywhere.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func chance(_ numerator: Int, in denominator: Int) -> Bool {
        Int.random(in: 0..<denominator, using: &self) < numerator
    }
}
