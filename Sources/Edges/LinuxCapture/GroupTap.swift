import LinuxBase
import Model

/// Sees the frames that arrive for Baton's groups, be it as multicast or as unicast copies that bear a slot's mark,
/// before tc and nftables decide about them.
///
/// The kernel's filter knows the groups by their common first four bytes, so the ring may change without it. One
/// thread at a time; not Sendable: make it where it is used, or hand it to its thread for good.
public final class GroupTap: Tap {
    /// How the kernel hands frames over.
    public enum Delivery: Hashable, Sendable {
        /// Each frame at once (TPACKET_V2): some 40 us late. Every frame takes a slot of the snap length, so that a ring
        /// of 32 MiB holds 512 frames, however short, and takes 64 MiB.
        case immediate
        /// Whole blocks of 256 KiB, when full or after this many milliseconds (TPACKET_V3): with 1, some 450 us late.
        /// Frames take the room that they need: a burst of 10,000 requests fits into 32 MiB with ease. A reader may be
        /// away for as many periods as there are blocks: 128 ms with 32 MiB.
        case blocks(milliseconds: Int32)
    }

    /// - Parameters:
    ///   - interface: an Ethernet interface of this thread's network namespace.
    ///   - ringBytes: the kernel's buffer.
    ///   - snapLength: bytes kept of a frame. GRO joins segments to frames of up to 64 KiB and their headers.
    ///   - delivery: half a millisecond is a small price for not losing a frame, which would be a hole in a journal.
    public init(
        interface: String,
        ringBytes: Int = 32 << 20,
        snapLength: Int = GroupTap.wholeFrame,
        delivery: Delivery = .blocks(milliseconds: 1)
    ) throws(LinuxError) {
        super.init(
            try Capture(
                interface: interface,
                filter: GroupTap.filter,
                direction: .incoming,
                ringBytes: ringBytes,
                snapLength: snapLength,
                delivery: delivery
            ))
    }

    /// The filter in libpcap's language: to `SlotID.group` or from `SlotID.mark`, without the slot's number.
    public static let filter = "ether[0:4] = 0x03ba706e or ether[6:4] = 0x02ba706e"

    /// A GRO super-frame: 65,536 bytes of IP (net/core/gro.c: gro_max_size), Ethernet header, one VLAN tag.
    public static let wholeFrame = 65_536 + 18
}

/// Sees the SYN-ACKs that leave from VIPs: they alone say which window scale and options this server announced.
///
/// One thread at a time; not Sendable.
public final class SynAckTap: Tap {
    /// - Parameter vips: at least one address; frames with IPv6 extension headers before TCP are not seen.
    public init(interface: String, vips: [IPAddress], ringBytes: Int = 1 << 20) throws(LinuxError) {
        super.init(
            try Capture(
                interface: interface,
                filter: SynAckTap.filter(vips: vips),
                direction: .outgoing,
                ringBytes: ringBytes,
                // Ethernet with a VLAN tag, the longest IPv4 header or IPv6's, the longest TCP header.
                snapLength: 18 + 60 + 60,
                delivery: .immediate
            ))
    }

    /// The filter in libpcap's language. libpcap's `tcp[...]` means IPv4 only; IPv6's TCP flags are at 40 + 13.
    public static func filter(vips: [IPAddress]) -> String {
        guard !vips.isEmpty else { return "less 0" }
        return vips.map { vip in
            vip.isIPv4
                ? "(ip src host \(vip) and tcp[tcpflags] & (tcp-syn|tcp-ack) == (tcp-syn|tcp-ack))"
                : "(ip6 src host \(vip) and ip6[6] == 6 and ip6[53] & 0x12 == 0x12)"
        }.joined(separator: " or ")
    }
}
