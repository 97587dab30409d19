import CLinux
import Glibc
import LinuxBase
import Model

/// Tells the neighbours which MAC address a VIP has now.
public enum ARPAnnouncer {
    /// Broadcasts an ARP announcement (RFC 5227 2.3: a request whose sender and target are the address itself) and the
    /// same as a reply, since some stacks update their caches on one form only.
    ///
    /// - Throws: EAFNOSUPPORT for an IPv6 address.
    public static func announce(_ address: IPAddress, on name: String) throws(LinuxError) {
        guard address.isIPv4 else {
            throw LinuxError(
                "announce",
                "\(address) on \(name)",
                errno: EAFNOSUPPORT,
                remedy: "only IPv4 addresses are announced; IPv6 neighbours learn by neighbour discovery"
            )
        }
        let interface = try AddressManager().interface(named: name)
        let socket = FileDescriptor(owning: try systemCall("open packet socket") { clinux_packet_socket() })
        let broadcast = [UInt8](repeating: 0xff, count: 6)
        for operation in [request, reply] {
            let packet = packet(operation, address, interface.address)
            _ = try systemCall("announce", "\(address) on \(name)") {
                clinux_packet_send(socket.rawValue, interface.index, 0x0806, broadcast, packet, packet.count)
            }
        }
    }

    // RFC 826.
    private static var request: UInt8 { 1 }
    private static var reply: UInt8 { 2 }

    private static func packet(_ operation: UInt8, _ address: IPAddress, _ owner: MACAddress) -> [UInt8] {
        let ipv4 = address.bytes.suffix(4)
        // A reply names its receiver; a request does not know it.
        let target = operation == reply ? owner.bytes : [UInt8](repeating: 0, count: 6)
        return [0, 1, 8, 0, 6, 4, 0, operation] + owner.bytes + ipv4 + target + ipv4
    }
}
