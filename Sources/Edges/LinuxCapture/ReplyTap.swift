import LinuxBase
import Model

/// Sees the segments that leave a service and begin with `HTTP/1.`: the starts of replies.
///
/// One thread at a time; not Sendable.
public final class ReplyTap: Tap {
    /// - Parameter services: at least one; frames with IPv6 extension headers before TCP are not seen.
    public init(interface: String, services: [Endpoint], ringBytes: Int = 16 << 20) throws(LinuxError) {
        super.init(
            try Capture(
                interface: interface,
                filter: ReplyTap.filter(services: services),
                direction: .outgoing,
                ringBytes: ringBytes,
                // Headers as for SynAckTap, and a head of a reply: what is longer is not understood.
                snapLength: 18 + 60 + 60 + 4096,
                delivery: .immediate
            ))
    }

    /// The filter in libpcap's language. The payload starts behind the data offset of TCP's header (RFC 9293 3.1), in
    /// units of four bytes; libpcap's `tcp[...]` means IPv4 only.
    public static func filter(services: [Endpoint]) -> String {
        guard !services.isEmpty else { return "less 0" }
        return services.map { service in
            let (offset, start) =
                service.address.isIPv4
                ? ("((tcp[12] & 0xf0) >> 2)", "tcp[") : ("(40 + ((ip6[52] & 0xf0) >> 2))", "ip6[")
            let head = "\(start)\(offset):4] = 0x48545450 and \(start)\(offset) + 4:2] = 0x2f31"
            return service.address.isIPv4
                ? "(ip src host \(service.address) and tcp src port \(service.port) and \(head))"
                : "(ip6 src host \(service.address) and ip6[6] == 6 and ip6[40:2] == \(service.port) and \(head))"
        }.joined(separator: " or ")
    }
}
