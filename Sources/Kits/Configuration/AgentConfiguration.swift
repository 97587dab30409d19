import Model

/// What `/etc/baton/agent.yaml` says; baton-agent.yaml(5) is the same for people.
///
/// Every property names its key, the key's type, default and range. `load` checks them all; the initialisers do not.
public struct AgentConfiguration: Hashable, Sendable {
    /// `interface`: the network interface of the director's LAN. Name of an interface; required.
    public var interface: String
    /// `name`: this back-end's name, as in the director's `backends`. 1 to 32 of `A-Za-z0-9._-`; required.
    public var name: String
    /// `director`: where the director listens. Address with or without a port; required; the port's default is 7400.
    public var director: Endpoint
    /// `services`: local checks that differ from the default. List of 1 to 256 entries with distinct names; default:
    /// none. The services themselves come from the director.
    public var services: [Service]
    /// `heartbeat.port`: the UDP port for heartbeats from the director and from other agents. 1...65535; default
    /// 7401.
    public var heartbeatPort: UInt16
    /// `state`: the directory, on a bpf file system, that holds the pinned maps and links. Absolute path; default
    /// `/sys/fs/bpf/baton-agent`.
    public var state: String
    /// `socket`: the unix socket for batonctl. Absolute path of at most 107 bytes; default `/run/baton/agent.sock`.
    public var socket: String
    /// `key`: the file of the cluster key. Absolute path; default `/etc/baton/cluster.key`. See `ClusterKeyFile`.
    public var key: String
    /// `tun`: the TUN device that adoptions go through; the agent makes and removes it. Name of an interface;
    /// default `baton0`.
    public var tun: String
    /// `table`: the agent's own nftables table; it is replaced at the start and removed at the end. 1 to 32 of
    /// `A-Za-z0-9_`, a letter first; default `baton`.
    public var table: String
    /// `journal`: how much of what clients sent is kept.
    public var journal: Journal
    /// `log.level`: how much is logged. Name of a level; default `info`.
    public var logLevel: LogLevel

    public init(
        interface: String,
        name: String,
        director: Endpoint,
        services: [Service] = [],
        heartbeatPort: UInt16 = 7401,
        state: String = "/sys/fs/bpf/baton-agent",
        socket: String = "/run/baton/agent.sock",
        key: String = "/etc/baton/cluster.key",
        tun: String = "baton0",
        table: String = "baton",
        journal: Journal = Journal(),
        logLevel: LogLevel = .info
    ) {
        self.interface = interface
        self.name = name
        self.director = director
        self.services = services
        self.heartbeatPort = heartbeatPort
        self.state = state
        self.socket = socket
        self.key = key
        self.tun = tun
        self.table = table
        self.journal = journal
        self.logLevel = logLevel
    }

    /// The path that baton-agent reads when none is given.
    public static let defaultPath = "/etc/baton/agent.yaml"

    /// The check of a service of the director: the one configured for its name, or the default.
    public func check(of service: String) -> Check {
        services.first { $0.name == service }?.check ?? Check()
    }
}

extension AgentConfiguration {
    /// One entry of `services`: how a service is checked on this machine.
    public struct Service: Hashable, Sendable {
        /// `name`: a service's name in the director's configuration. 1 to 32 of `A-Za-z0-9._-`; required.
        public var name: String
        /// `check`: its local check.
        public var check: Check
        /// `restart_grace`: how long its application may take to be back after a crash, and then goes on with its
        /// connections itself; after that, and with 0ms at once, a backup takes them over. Duration 0ms...1m; default
        /// 0ms.
        public var restartGrace: Interval

        public init(name: String, check: Check = Check(), restartGrace: Interval = .zero) {
            self.name = name
            self.check = check
            self.restartGrace = restartGrace
        }
    }

    /// `check`: how the agent finds out whether the local application serves.
    public typealias Check = ServiceCheck<CheckKind>

    /// What a check tries, at the service's address on this machine.
    public enum CheckKind: String, KindOfCheck {
        /// To connect.
        case tcp
        /// A TLS handshake.
        case tls
        /// A GET by HTTP/1, and to be given a good status and body.
        case http
        /// A GET over TLS.
        case https
        /// A query over UDP.
        case dns
        /// A program of the operator's.
        case command
        /// To find a process of this machine that listens there; the service hears nothing of it.
        case process
        /// Nothing: the service counts as up while the host is.
        case none

        public static let usual = CheckKind.tcp
        public static let times = CheckTimes(
            interval: .milliseconds(500), timeout: .milliseconds(200), jitter: 0,
            intervals: .milliseconds(10) ... .seconds(60), timeouts: .milliseconds(1) ... .seconds(60))
        public var probe: DirectorConfiguration.CheckKind? { .init(rawValue: rawValue) }
    }

    /// `journal`: the bounds of what is kept of the clients' bytes for predecessors' connections.
    public struct Journal: Hashable, Sendable {
        /// `connection`: bytes of one connection; one that needs more is no longer protected. Size 64KiB...1GiB;
        /// default 16MiB.
        public var connection: Int
        /// `total`: bytes of all connections. Size 64KiB...64GiB, no less than `connection`; default 256MiB.
        public var total: Int

        public init(connection: Int = Limits.journalBytesPerConnection, total: Int = Limits.journalBytes) {
            self.connection = connection
            self.total = total
        }
    }
}
