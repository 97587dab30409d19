import Model

/// The transport protocol of a service.
public enum TransportProtocol: String, CaseIterable, Sendable {
    case tcp, udp

    /// As in IP's header (IANA, Assigned Internet Protocol Numbers).
    public var number: UInt8 { self == .tcp ? 6 : 17 }
}

/// Several ports as one service.
public struct ServicePorts: Hashable, Sendable, CustomStringConvertible {
    /// As they were written, none of them overlapping another; a single port is a range of one.
    public var ranges: [ClosedRange<UInt16>]

    public init(_ ranges: [ClosedRange<UInt16>]) { self.ranges = ranges }

    public static let all = ServicePorts([1...65535])
    public var isAll: Bool { self == .all }

    public var description: String {
        isAll ? "all" : ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
            .joined(separator: ",")
    }
}

/// Where clients find a service: what makes it another one.
public struct ServicePlace: Hashable, Sendable {
    public var address: Endpoint
    public var transport: TransportProtocol
    public var ports: ServicePorts?
}

extension DirectorConfiguration.Service {
    public var place: ServicePlace { ServicePlace(address: address, transport: transport, ports: ports) }

    /// Whether one of its ports is a port of the other one too.
    public func sharesPort(with other: Self) -> Bool {
        guard address.address == other.address.address, transport == other.transport else { return false }
        let own = singlePorts.map { $0...$0 } + portRanges
        let others = other.singlePorts.map { $0...$0 } + other.portRanges
        return own.contains { range in others.contains { $0.overlaps(range) } }
    }

    /// Whether its flows are dispatched and forwarded, and no more: no backup hears of them, none is taken over.
    public var isForwardedOnly: Bool { transport == .udp || ports != nil }

    /// The ports that stand alone. One of them goes before every range that has it too.
    public var singlePorts: [UInt16] {
        ports.map { $0.ranges.filter { $0.count == 1 }.map(\.lowerBound) } ?? [address.port]
    }

    /// Where checks that name no port try.
    public var firstPort: UInt16 { ports?.ranges.first?.lowerBound ?? address.port }

    /// The ranges of more than one port.
    public var portRanges: [ClosedRange<UInt16>] { ports?.ranges.filter { $0.count > 1 } ?? [] }

    /// What clients connect to, such as `10.0.0.100:80`, `10.0.0.100:5060/udp`, `10.0.0.100:8000-8099`.
    public var addressText: String {
        let host = address.address.isIPv4 ? "\(address.address)" : "[\(address.address)]"
        let text = ports.map { "\(host):\($0)" } ?? "\(address)"
        return transport == .tcp ? text : "\(text)/\(transport.rawValue)"
    }
}
