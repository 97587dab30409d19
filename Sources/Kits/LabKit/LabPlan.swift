import Model

/// The names and addresses of a lab. Every lab has the same addresses: namespaces keep them apart.
public struct LabPlan: Sendable {
    public let name: String
    public let backends: Int

    public init(name: String, backends: Int) throws {
        // No hyphen: `baton-<lab>-` must never be the start of another lab's names.
        guard (1...24).contains(name.utf8.count),
            name.utf8.allSatisfy({ (48...57).contains($0) || (97...122).contains($0) || $0 == 95 })
        else {
            throw LabError.invalid("\"\(name)\" is no name for a lab: use 1 to 24 of a-z, 0-9 and _")
        }
        self.name = name
        self.backends = backends
    }

    // Addresses for documentation (RFC 5737): never those of a real network behind this machine.
    public static let virtualAddress = IPAddress(ipv4: 0xc000_0264)
    public static let routerAddress = IPAddress(ipv4: 0xc000_0201)
    public static let directorAddress = IPAddress(ipv4: 0xc000_0202)
    public static let clientAddress = IPAddress(ipv4: 0xc633_6402)
    public static let clientGateway = IPAddress(ipv4: 0xc633_6401)
    public static let port: UInt16 = 80

    // The same in IPv6 (RFC 3849), for labs with `LabOptions.ipv6`.
    public static let virtualAddress6 = lan6(0x64)
    public static let routerAddress6 = lan6(1)
    public static let clientAddress6 = IPAddress(high: 0x2001_0db8_0064_0000, low: 2)
    public static let clientGateway6 = IPAddress(high: 0x2001_0db8_0064_0000, low: 1)

    private static func lan6(_ host: UInt64) -> IPAddress { IPAddress(high: 0x2001_0db8_0002_0000, low: host) }

    public var webNodes: [String] { backends > 0 ? (1...backends).map { "web\($0)" } : [] }
    /// All nodes, the router among them.
    public var nodes: [String] { ["router", "client", "director"] + webNodes }

    /// The address of a node's eth0 (of the router: of its bridge).
    public func address(of node: String) -> IPAddress? {
        switch node {
        case "router": LabPlan.routerAddress
        case "client": LabPlan.clientAddress
        case "director": LabPlan.directorAddress
        default: webNodes.firstIndex(of: node).map { IPAddress(ipv4: 0xc000_020b + UInt32($0)) }
        }
    }

    /// The IPv6 address of a node's eth0 (of the router: of its bridge), in labs that have IPv6.
    public func address6(of node: String) -> IPAddress? {
        switch node {
        case "router": LabPlan.routerAddress6
        case "client": LabPlan.clientAddress6
        case "director": LabPlan.lan6(2)
        default: webNodes.firstIndex(of: node).map { LabPlan.lan6(0x0b + UInt64($0)) }
        }
    }

    public func namespace(_ node: String) -> String { "baton-\(name)-\(node)" }
    public func namespacePath(_ node: String) -> String { LabPlan.namespaceDirectory + "/" + namespace(node) }

    static let namespaceDirectory = "/run/netns"
    static let root = "/run/baton-lab"

    public var directory: String { LabPlan.root + "/" + name }
    /// Where the lab's own bpffs is mounted.
    public var pins: String { directory + "/bpf" }
    public var socket: String { directory + "/director.sock" }
    public var key: String { directory + "/cluster.key" }
    public var directorConfiguration: String { directory + "/director.yaml" }
    public func agentConfiguration(_ node: String) -> String { "\(directory)/\(node)/agent.yaml" }
    public func agentSocket(_ node: String) -> String { "\(directory)/\(node)/agent.sock" }
    /// Standard output and error of a node's process: `director`, `agent`, `nginx`, or what the caller named.
    public func log(_ node: String, _ role: String) -> String { "\(directory)/\(node)/\(role).log" }
    var stateFile: String { directory + "/lab.json" }
    var lockFile: String { directory + "/lock" }

    /// The namespaces of this lab that are there, whether or not this plan knows their nodes.
    var presentNamespaces: [String] {
        listDirectory(LabPlan.namespaceDirectory).filter { $0.hasPrefix("baton-\(name)-") }
    }
}
