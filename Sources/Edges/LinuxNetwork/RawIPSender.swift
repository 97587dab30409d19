import CLinux
import Glibc
import LinuxBase
import Model

/// Sends IP packets whose header the caller has written, through the kernel's routing, nftables and tc egress.
///
/// IPv4: the kernel fills in the header checksum and, where zero, the identification (raw(7)). IPv6: nothing. TCP
/// checksums are the caller's. Any thread.
public final class RawIPSender: Sendable {
    private let ipv4: FileDescriptor
    private let ipv6: FileDescriptor

    /// - Parameter mark: the firewall mark (`skb->mark`) of what is sent; 0 for none.
    public init(mark: UInt32 = 0) throws(LinuxError) {
        ipv4 = FileDescriptor(owning: try systemCall("open raw IPv4 socket") { clinux_raw_ip(AF_INET, mark) })
        ipv6 = FileDescriptor(owning: try systemCall("open raw IPv6 socket") { clinux_raw_ip(AF_INET6, mark) })
    }

    /// Sends one packet to the destination in its header.
    ///
    /// - Throws: EINVAL for what has no IP header, EMSGSIZE for what is above the MTU, ENETUNREACH without a route,
    ///   EAGAIN when the send buffer is full.
    public func send(_ packet: UnsafeRawBufferPointer) throws(LinuxError) {
        let version = packet.first.map { $0 >> 4 } ?? 0
        if version == 4, packet.count >= 20 {
            // IPv4 destination (RFC 791 3.1).
            let destination = packet.loadUnaligned(fromByteOffset: 16, as: UInt32.self)
            _ = try systemCall("send raw packet", RawIPSender.describe(packet)) {
                packet.baseAddress.map { clinux_raw_send4(ipv4.rawValue, $0, packet.count, destination) } ?? 0
            }
        } else if version == 6, packet.count >= 40 {
            // IPv6 destination (RFC 8200 3).
            _ = try systemCall("send raw packet", RawIPSender.describe(packet)) {
                packet.baseAddress.map { clinux_raw_send6(ipv6.rawValue, $0, packet.count, $0 + 24) } ?? 0
            }
        } else {
            throw LinuxError("send raw packet", "of \(packet.count) bytes", errno: EINVAL, detail: "no IP header")
        }
    }

    public func send(_ packet: [UInt8]) throws(LinuxError) {
        let result = packet.withUnsafeBytes { (bytes) -> Result<Void, LinuxError> in
            do throws(LinuxError) {
                return .success(try send(bytes))
            } catch {
                return .failure(error)
            }
        }
        try result.get()
    }

    private static func describe(_ packet: UnsafeRawBufferPointer) -> String {
        let address = packet[0] >> 4 == 4 ? packet[16..<20] : packet[24..<40]
        return "of \(packet.count) bytes to \(IPAddress(networkBytes: address).map { "\($0)" } ?? "?")"
    }
}
