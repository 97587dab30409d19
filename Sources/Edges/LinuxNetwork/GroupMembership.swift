import CLinux
import LinuxBase
import Model
import Synchronization

/// Makes an interface let frames to multicast addresses in (packet(7), PACKET_ADD_MEMBERSHIP).
///
/// A real NIC filters multicast in hardware; the kernel programs the filter from these memberships. They end with the
/// last reference, and with the process. Any thread.
public final class GroupMembership: Sendable {
    private let descriptor: FileDescriptor
    private let interface: NetworkInterface
    private let joined = Mutex<[MACAddress]>([])

    public init(interface name: String) throws(LinuxError) {
        interface = try AddressManager().interface(named: name)
        descriptor = FileDescriptor(owning: try systemCall("open packet socket") { clinux_packet_socket() })
    }

    /// The groups joined now, sorted.
    public var groups: [MACAddress] { joined.withLock { $0 } }

    /// Joins and leaves so that exactly these groups are joined. Joins first: no frame is missed by a change.
    public func set(_ groups: [MACAddress]) throws(LinuxError) {
        try joined.withLock { (joined) throws(LinuxError) in
            for group in groups where !joined.contains(group) {
                try change(group, member: true)
                joined.append(group)
            }
            for group in joined where !groups.contains(group) {
                try change(group, member: false)
                joined.removeAll { $0 == group }
            }
            joined.sort { $0.rawValue < $1.rawValue }
        }
    }

    private func change(_ group: MACAddress, member: Bool) throws(LinuxError) {
        let bytes = group.bytes
        _ = try systemCall(member ? "join group" : "leave group", "\(group) on \(interface.name)") {
            clinux_packet_membership(descriptor.rawValue, interface.index, bytes, member)
        }
    }
}
