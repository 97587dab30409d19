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
    public struct Check: Hashable, Sendable {
        /// `kind`: what is tried. `tcp`, `http`, `process` or `none`; default `tcp`.
        public var kind: CheckKind
        /// `path`: what an `http` check asks for, with its query. Begins with `/`, at most 1024 visible ASCII
        /// characters; default `/`.
        public var path: String
        /// `host`: the Host field of an `http` check. 1 to 255 of `A-Za-z0-9._:-[]`; nil, the default: the service's
        /// address.
        public var host: String?
        /// `status`: which status codes of an `http` check are good. One or a range of 100...599; default 200-399.
        public var status: ClosedRange<Int>
        /// `interval`: between the starts of two checks. Duration 10ms...1m; default 500ms.
        public var interval: Interval
        /// `timeout`: how long one check may take. Duration 1ms...1m, no longer than `interval`; default 200ms, or the
        /// interval where that is shorter.
        public var timeout: Interval
        /// `rise`: good checks in a row before the service counts as up. Whole number 1...100; default 2.
        public var rise: Int
        /// `fall`: failed checks in a row before the service counts as down. Whole number 1...100; default 3.
        public var fall: Int

        public init(
            kind: CheckKind = .tcp,
            path: String = "/",
            host: String? = nil,
            status: ClosedRange<Int> = 200...399,
            interval: Interval = .milliseconds(500),
            timeout: Interval = .milliseconds(200),
            rise: Int = 2,
            fall: Int = 3
        ) {
            self.kind = kind
            self.path = path
            self.host = host
            self.status = status
            self.interval = interval
            self.timeout = timeout
            self.rise = rise
            self.fall = fall
        }
    }

    /// What a check tries.
    public enum CheckKind: String, CaseIterable, Sendable {
        /// To connect to the service's address and port on this machine.
        case tcp
        /// To ask it by HTTP/1.1, and to be given a good status.
        case http
        /// To find a process of this machine that listens there; the service hears nothing of it.
        case process
        /// Nothing: the service counts as up while the host is.
        case none
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
