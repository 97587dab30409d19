import LinuxBase
import Model

/// Sees what clients send to this machine alone: the pure ACKs that the director sends to no group, by which probes of
/// the machine's own connections are answered.
///
/// One thread at a time; not Sendable.
public final class AnswerTap {
    private let capture: Capture

    /// - Parameters:
    ///   - address: the interface's own.
    ///   - services: at least one; frames with IPv6 extension headers before TCP are not seen.
    public init(
        interface: String,
        address: MACAddress,
        services: [Endpoint],
        ringBytes: Int = 8 << 20
    ) throws(LinuxError) {
        capture = try Capture(
            interface: interface,
            filter: AnswerTap.filter(address: address, services: services),
            direction: .incoming,
            ringBytes: ringBytes,
            // As for SynAckTap; what has a payload is cut, and seen by the tap of the groups.
            snapLength: 18 + 60 + 60,
            delivery: .immediate
        )
    }

    /// The filter in libpcap's language; `tcp` and `dst port` mean both families.
    public static func filter(address: MACAddress, services: [Endpoint]) -> String {
        guard !services.isEmpty else { return "less 0" }
        let each = services.map { "(dst host \($0.address) and tcp dst port \($0.port))" }
        return "ether dst \(address) and (\(each.joined(separator: " or ")))"
    }

    /// Becomes readable when frames are there; for `Poller`.
    public var descriptor: Int32 { capture.descriptor }

    /// As `GroupTap.dispatch(max:body:)`.
    @discardableResult
    public func dispatch(
        max: Int,
        body: (_ captured: UnsafeRawBufferPointer, _ originalLength: Int, _ timestamp: Instant) -> Void
    ) throws(LinuxError) -> Int {
        try capture.dispatch(max: max, body: body)
    }
}
