/// An address and a port.
public struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    public var address: IPAddress
    public var port: UInt16

    @inlinable
    public init(address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }

    public var description: String {
        address.isIPv4 ? "\(address):\(port)" : "[\(address)]:\(port)"
    }

    /// Reads `1.2.3.4:80` or `[2001:db8::1]:80`; nil for anything else, port 0 included.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        var host = text[..<colon]
        let portText = text[text.index(after: colon)...]
        guard portText.utf8.allSatisfy({ (48...57).contains($0) }), let port = UInt16(portText), port > 0 else {
            return nil
        }
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
            guard host.contains(":") else { return nil }
        } else if host.contains(":") {
            return nil
        }
        guard let address = IPAddress(String(host)) else { return nil }
        self.init(address: address, port: port)
    }
}

extension Endpoint: Comparable {
    @inlinable
    public static func < (left: Endpoint, right: Endpoint) -> Bool {
        left.address == right.address ? left.port < right.port : left.address < right.address
    }
}

/// The 5-tuple of one TCP connection as director and agents see it: the client and the VIP:port that it talks to.
public struct FlowKey: Hashable, Sendable, CustomStringConvertible {
    public var client: Endpoint
    public var service: Endpoint

    @inlinable
    public init(client: Endpoint, service: Endpoint) {
        self.client = client
        self.service = service
    }

    public var description: String { "\(client)>\(service)" }
}

extension FlowKey: Comparable {
    @inlinable
    public static func < (left: FlowKey, right: FlowKey) -> Bool {
        left.service == right.service ? left.client < right.client : left.service < right.service
    }
}
