import CLinux
import Glibc
import LinuxBase
import LinuxNetwork
import Model

/// Asks the LAN: who has an address (ARP), and who answers an echo that is sent to a given Ethernet address.
///
/// In the calling thread's network namespace; nothing of the machine's own tables is touched.
struct Probes {
    let interface: NetworkInterface
    let own: IPAddress
    private let identifier = UInt16(truncatingIfNeeded: getpid())

    init(interface: NetworkInterface) throws {
        guard let own = interface.ipv4 else { throw Failed("interface \(interface.name) has no IPv4 address") }
        self.interface = interface
        self.own = own
    }

    // MARK: ARP

    /// Who says that it has each address.
    ///
    /// - Parameter anonymous: asks from 0.0.0.0 (RFC 5227 2.1.1), so that nobody learns anything from it.
    func owners(of addresses: [IPAddress], anonymous: Bool = false, milliseconds: Int = 250) throws -> [IPAddress: Set<MACAddress>] {
        let listener = try listen(0x0806)
        let sender = anonymous ? [0, 0, 0, 0] : Array(own.bytes.suffix(4))
        for address in addresses {
            let question =
                [0, 1, 8, 0, 6, 4, 0, 1] + interface.address.bytes + sender + [0, 0, 0, 0, 0, 0] + address.bytes.suffix(4)
            try send(question, 0x0806, to: [UInt8](repeating: 0xff, count: 6), listener)
        }
        var found: [IPAddress: Set<MACAddress>] = [:]
        try collect(listener, milliseconds) { packet, _ in
            guard packet.count >= 28, packet[6] == 0, packet[7] == 2,
                let address = IPAddress(bytes: [UInt8](repeating: 0, count: 10) + [0xff, 0xff] + packet[14..<18]),
                let mac = MACAddress(bytes: packet[8..<14])
            else { return false }
            if addresses.contains(address) { found[address, default: []].insert(mac) }
            return false
        }
        return found
    }

    // MARK: Echo

    /// An echo request (RFC 792) in a frame of our own making.
    struct Echo: Hashable {
        var address: IPAddress
        /// The Ethernet destination: the machine's own, or a group.
        var mac: MACAddress
        /// Bytes of the whole IP packet, 28 at least; it must not be fragmented.
        var size = 84
    }

    /// Which of these were answered, by their places.
    func answered(_ echoes: [Echo], milliseconds: Int = 300) throws -> Set<Int> {
        let listener = try listen(0x0800)
        for (number, echo) in echoes.enumerated() {
            // EMSGSIZE: longer than this interface's own MTU, which is an answer too.
            try? send(packet(echo, UInt16(number)), 0x0800, to: echo.mac.bytes, listener)
        }
        var found: Set<Int> = []
        try collect(listener, milliseconds) { packet, _ in
            let header = Int(packet.first ?? 0) % 16 * 4
            guard packet.count >= header + 8, header >= 20, packet[9] == 1, packet[header] == 0,
                UInt16(packet[header + 4]) << 8 | UInt16(packet[header + 5]) == identifier
            else { return false }
            let number = Int(packet[header + 6]) << 8 | Int(packet[header + 7])
            if echoes.indices.contains(number) { found.insert(number) }
            return found.count == echoes.count
        }
        return found
    }

    private func packet(_ echo: Echo, _ number: UInt16) -> [UInt8] {
        let size = max(echo.size, 28)
        var ip: [UInt8] = [0x45, 0] + word(UInt16(size)) + [0, 0, 0x40, 0, 64, 1, 0, 0]
        ip += own.bytes.suffix(4) + echo.address.bytes.suffix(4)
        ip.replaceSubrange(10..<12, with: word(Self.checksum(ip)))
        var icmp: [UInt8] = [8, 0, 0, 0] + word(identifier) + word(number)
        icmp += [UInt8](repeating: 0, count: size - 28)
        icmp.replaceSubrange(2..<4, with: word(Self.checksum(icmp)))
        return ip + icmp
    }

    /// RFC 1071.
    static func checksum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count, by: 2) {
            sum += UInt32(bytes[index]) << 8 | (index + 1 < bytes.count ? UInt32(bytes[index + 1]) : 0)
        }
        while sum >> 16 != 0 { sum = sum & 0xffff + sum >> 16 }
        return ~UInt16(truncatingIfNeeded: sum)
    }

    // MARK: Frames

    private func listen(_ type: UInt16) throws -> FileDescriptor {
        FileDescriptor(
            owning: try systemCall("listen to", "the LAN at \(interface.name)") {
                clinux_packet_listen(interface.index, type)
            })
    }

    private func send(_ payload: [UInt8], _ type: UInt16, to mac: [UInt8], _ socket: FileDescriptor) throws {
        _ = try systemCall("ask", "the LAN at \(interface.name)") {
            clinux_packet_send(socket.rawValue, interface.index, type, mac, payload, payload.count)
        }
    }

    /// Gives what comes to `body` until it says that it has seen enough, or the time is over.
    private func collect(
        _ listener: FileDescriptor, _ milliseconds: Int, _ body: ([UInt8], MACAddress) -> Bool
    ) throws {
        let end = MonotonicClock.now() + .milliseconds(Int64(milliseconds))
        var buffer = [UInt8](repeating: 0, count: 65536)
        var source = [UInt8](repeating: 0, count: 6)
        while MonotonicClock.now() < end {
            _ = try listener.waitReadable(timeout: end - MonotonicClock.now())
            while true {
                let count = clinux_packet_receive(listener.rawValue, &buffer, buffer.count, &source)
                guard count >= 0 else { break }
                let mac = MACAddress(bytes: source) ?? MACAddress(rawValue: 0)
                if body(Array(buffer.prefix(count)), mac) { return }
            }
        }
    }

    private func word(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }
}
