import CLinux
import Glibc
import LinuxBase
import Model

/// Tells the IPv6 neighbours which MAC address a VIP has now.
public enum NeighbourAnnouncer {
    /// Sends an unsolicited neighbour advertisement (RFC 4861 7.2.6) to all nodes of the link, with the override flag, so
    /// that whoever knows the VIP at another machine learns better.
    ///
    /// - Throws: EAFNOSUPPORT for an IPv4 address.
    public static func announce(_ address: IPAddress, on name: String) throws(LinuxError) {
        guard !address.isIPv4 else {
            throw LinuxError(
                "announce", "\(address) on \(name)", errno: EAFNOSUPPORT, remedy: "IPv4 addresses are announced by ARP")
        }
        let interface = try AddressManager().interface(named: name)
        let socket = FileDescriptor(owning: try systemCall("open packet socket") { clinux_packet_socket() })
        let packet = packet(address, interface.address)
        _ = try systemCall("announce", "\(address) on \(name)") {
            clinux_packet_send(socket.rawValue, interface.index, 0x86dd, allNodesLink, packet, packet.count)
        }
    }

    /// ff02::1, and its group address on Ethernet (RFC 2464 7).
    private static var allNodes: IPAddress { IPAddress(high: 0xff02_0000_0000_0000, low: 1) }
    private static var allNodesLink: [UInt8] { [0x33, 0x33, 0, 0, 0, 1] }

    /// The whole IPv6 packet.
    static func packet(_ address: IPAddress, _ owner: MACAddress) -> [UInt8] {
        // Type 136, code 0, checksum; override; target; option 2: the target's link-layer address (RFC 4861 4.4, 4.6.1).
        var body: [UInt8] = [136, 0, 0, 0, 0x20, 0, 0, 0] + address.bytes + [2, 1] + owner.bytes
        let length = UInt8(body.count)
        let pseudoHeader = address.bytes + allNodes.bytes + [0, 0, 0, length, 0, 0, 0, 58]
        let checksum = internetChecksum(pseudoHeader + body)
        body[2] = UInt8(checksum >> 8)
        body[3] = UInt8(checksum & 0xff)
        // Neighbours refuse what a router might have forwarded: the hop limit is 255 (RFC 4861 7.1.2).
        return [0x60, 0, 0, 0, 0, length, 58, 255] + address.bytes + allNodes.bytes + body
    }

    /// RFC 1071; of an even number of bytes.
    private static func internetChecksum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for place in stride(from: 0, to: bytes.count - 1, by: 2) {
            sum += UInt32(bytes[place]) << 8 | UInt32(bytes[place + 1])
        }
        while sum > 0xffff { sum = sum & 0xffff + sum >> 16 }
        return ~UInt16(sum)
    }
}
