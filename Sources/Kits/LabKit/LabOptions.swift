import Model

/// What a lab is made of. The defaults give one client, one director and three back-ends with nginx.
public struct LabOptions: Sendable {
    public var backends = 3
    /// Whether `baton-director` and `baton-agent` run; without them the lab is just a network with web servers.
    public var daemons = true
    /// The directory of `baton-director`, `baton-agent` and `batonctl`; nil: `BATON_PROGRAMS` of the environment, else
    /// that of this program.
    public var programs: String?
    /// The size in bytes of `/large.bin`.
    public var fileSize = 200_000_000
    /// The seed of its bytes.
    public var seed: UInt64 = 1
    public var heartbeatIntervalMilliseconds = 10
    public var heartbeatWindowMilliseconds = 50
    /// [Z]'s N: how many successors back a back-end up.
    public var backups = 1
    public var policy = "rr"
    /// Of the back-ends in their order, for policies that weigh; whoever is not named has the default.
    public var weights: [Int] = []
    /// More lines of each back-end in the director's file, such as `upper_threshold: 2`, in their order.
    public var backendSettings: [[String]] = []
    public var replay = "stream"
    public var forwarding = "selective"
    /// More lines of the service, such as `methods: idempotent`.
    public var serviceSettings: [String] = []
    /// The web server of every back-end.
    public var server = WebServerKind.nginx
    /// More TCP ports of the VIP, as `(name, port, replay policy)`; each becomes a service of the director.
    public var extraServices: [ExtraService] = []
    /// Whether the lab has IPv6 too: addresses, routes, and a second service `web6` at `LabPlan.virtualAddress6`.
    public var ipv6 = false
    /// Whether such a lab has no IPv4 at all: then `web6` is the one service, and control goes over IPv6.
    public var ipv6Only = false
    /// More entries of the director's `services`, as lines of YAML.
    public var serviceLines: [String] = []
    /// More TCP ports at which nginx serves the same as at port 80.
    public var webPorts: [UInt16] = []
    /// The MTU of every link in bytes.
    public var mtu = 1500
    /// Whether the director has an interface of its own for the back-ends, eth1 beside eth0.
    public var twoArmed = false
    /// The largest receive buffer of the client's TCP in bytes (`tcp_rmem`, third number).
    ///
    /// Small on purpose: a rate-limited client whose buffer holds a second of the download would not notice a stall.
    public var clientReceiveBuffer = 1 << 20
    /// Further lines of the director's configuration file.
    public var directorLines: [String] = []
    /// Further lines of the agents' configuration files.
    public var agentLines: [String] = []
    /// Log level of the daemons.
    public var logLevel = "info"
    /// Seconds that `up` waits for the back-ends to be live.
    public var readyTimeout = 20.0

    public init() {}

    public struct ExtraService: Sendable {
        public var name: String
        public var port: UInt16
        public var replay: String

        public init(name: String, port: UInt16, replay: String) {
            self.name = name
            self.port = port
            self.replay = replay
        }
    }

    func validate() throws {
        guard ipv6 || !ipv6Only else { throw LabError.invalid("a lab with IPv6 alone has to have IPv6") }
        guard !(ipv6 && twoArmed) else { throw LabError.invalid("a two-armed lab has no IPv6") }
        guard (1...60).contains(backends) else { throw LabError.invalid("--backends \(backends): from 1 to 60") }
        guard (1...16_000_000_000).contains(fileSize) else {
            throw LabError.invalid("size of \(fileSize) bytes: from 1 byte to 16 GB")
        }
        guard (1...Limits.backups).contains(backups) else {
            throw LabError.invalid("\(backups) backups: from 1 to \(Limits.backups)")
        }
    }
}

/// The ways in which `kill` ends a node.
public enum KillMode: String, Sendable, CaseIterable {
    /// The cable is cut: the router's port of the node goes down. Everything in the node lives on.
    case link
    /// The cable is cut, and every process of the node is killed.
    case power
    /// `kill -9` of the web server, master and workers.
    case app
    /// Everything in the node is stopped (SIGSTOP); `revive` lets it go on.
    case freeze

    public var meaning: String {
        switch self {
        case .link: "cable cut"
        case .power: "power lost"
        case .app: "web server killed with SIGKILL"
        case .freeze: "all processes frozen"
        }
    }
}
