import LinuxBase
import Model

/// Sees what clients send to this machine alone: the pure ACKs that the director sends to no group, by which probes of
/// the machine's own connections are answered.
///
/// One thread at a time; not Sendable.
public final class AnswerTap: Tap {
    /// - Parameters:
    ///   - address: the interface's own.
    ///   - services: at least one; frames with IPv6 extension headers before TCP are not seen.
    public init(
        interface: String,
        address: MACAddress,
        services: [Endpoint],
        ringBytes: Int = 8 << 20
    ) throws(LinuxError) {
        super.init(
            try Capture(
                interface: interface,
                filter: AnswerTap.filter(address: address, services: services),
                direction: .incoming,
                ringBytes: ringBytes,
                // As for SynAckTap; what has a payload is cut, and seen by the tap of the groups.
                snapLength: 18 + 60 + 60,
                delivery: .immediate
            ))
    }

    /// The filter in libpcap's language; `tcp` and `dst port` mean both families.
    public static func filter(address: MACAddress, services: [Endpoint]) -> String {
        guard !services.isEmpty else { return "less 0" }
        let each = services.map { "(dst host \($0.address) and tcp dst port \($0.port))" }
        return "ether dst \(address) and (\(each.joined(separator: " or ")))"
    }
}
