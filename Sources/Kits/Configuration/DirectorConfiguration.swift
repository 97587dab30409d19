import Model

/// What `/etc/baton/director.yaml` says; baton-director.yaml(5) is the same for people.
///
/// Every property names its key, the key's type, default and range. `load` checks them all; the initialisers do not.
public struct DirectorConfiguration: Hashable, Sendable {
    /// `interface`: the network interface whose frames are dispatched. Name of an interface; required.
    public var interface: String
    /// `backend_interface`: two-armed: the interface by which frames leave for the back-ends, and where agents find the
    /// director. Name of an interface other than `interface`; nil, the default: frames leave by the one that they came in
    /// on.
    public var backendInterface: String?
    /// `services`: what clients connect to. List of 1 to 256 entries; required. Names and addresses are distinct.
    public var services: [Service]
    /// `policies`: dispatch policies of others, shared objects that the director loads. List of absolute paths; default
    /// none.
    public var policyFiles: [String]
    /// `backends`: the real servers. List of 1 to 256 entries; required. Names and addresses are distinct, and no
    /// address is a VIP.
    public var backends: [Backend]
    /// `heartbeat`: the beat of the whole cluster; agents learn it from the director.
    public var heartbeat: Heartbeat
    /// `detector`: the failure detection module. Name of a module; default `window`.
    public var detector: String
    /// `fence`: the command that must succeed before a silent back-end is taken over; nil: none is run.
    public var fence: Fence?
    /// `backups`: N, the successors on the ring that back each back-end up. Whole number 1...3; default 1. Where
    /// there are fewer other back-ends than N, those are all that there is.
    public var backups: Int
    /// `control`: where agents connect to.
    public var control: Control
    /// `flows`: the table of connections.
    public var flows: Flows
    /// `state`: the directory, on a bpf file system, that holds the pinned maps, programs and links. Absolute path;
    /// default `/sys/fs/bpf/baton`.
    public var state: String
    /// `socket`: the unix socket for batonctl. Absolute path of at most 107 bytes; default
    /// `/run/baton/director.sock`.
    public var socket: String
    /// `key`: the file of the cluster key. Absolute path; default `/etc/baton/cluster.key`. See `ClusterKeyFile`.
    public var key: String
    /// `xdp`: how the data plane is attached. `native`, `generic` or `auto`; default `auto`.
    public var xdp: XDPMode
    /// `log.level`: how much is logged. Name of a level; default `info`.
    public var logLevel: LogLevel

    public init(
        interface: String,
        backendInterface: String? = nil,
        services: [Service],
        policyFiles: [String] = [],
        backends: [Backend],
        heartbeat: Heartbeat = Heartbeat(),
        detector: String = "window",
        fence: Fence? = nil,
        backups: Int = 1,
        control: Control = Control(),
        flows: Flows = Flows(),
        state: String = "/sys/fs/bpf/baton",
        socket: String = "/run/baton/director.sock",
        key: String = "/etc/baton/cluster.key",
        xdp: XDPMode = .auto,
        logLevel: LogLevel = .info
    ) {
        self.interface = interface
        self.backendInterface = backendInterface
        self.services = services
        self.policyFiles = policyFiles
        self.backends = backends
        self.heartbeat = heartbeat
        self.detector = detector
        self.fence = fence
        self.backups = backups
        self.control = control
        self.flows = flows
        self.state = state
        self.socket = socket
        self.key = key
        self.xdp = xdp
        self.logLevel = logLevel
    }

    /// The path that baton-director reads when none is given.
    public static let defaultPath = "/etc/baton/director.yaml"
}

extension DirectorConfiguration {
    /// One entry of `services`: a virtual address and port.
    public struct Service: Hashable, Sendable {
        /// `name`: in logs, in batonctl and in the agents' configurations. 1 to 32 of `A-Za-z0-9._-`; required.
        public var name: String
        /// `address`: VIP and port, such as `10.0.0.100:80`, or with `ports` the VIP alone; required. Several services
        /// may share a VIP. The port here is 0 with `ports`.
        public var address: Endpoint
        /// `protocol`: `tcp` or `udp`; default `tcp`. Flows of UDP are forwarded only.
        public var transport: TransportProtocol
        /// `ports`: several ports as one service: a range, `all`, or a list of 1 to 16 ports and ranges; nil, the default:
        /// the port of `address` alone. Such a service is forwarded only.
        public var ports: ServicePorts?
        /// `policy`: the dispatch policy for new flows. Name of a module, or a mapping of `name` and the module's keys,
        /// as in `{name: mh, port: true}`; default `rr`.
        public var policy: String
        /// What the mapping says beside the name; flags are 1 or 0.
        public var policyOptions: [String: Int]
        /// `persistence`: how long a client's new flows go where its last one went; nil: not at all.
        public var persistence: Persistence?
        /// `replay`: what a backup may do with a dead server's connections. `none`, `stream` or `http`; default
        /// `none`.
        ///
        /// `none` because only the administrator knows whether the application may be asked the same thing twice:
        /// Baton replays nothing that it was not told to replay, and resets such connections at once.
        public var replay: ReplayPolicy
        /// `methods`: which requests `replay: http` may ask again. `safe`, `idempotent` or `all`; default `safe`.
        /// `range_from`: from how many bytes of a body on `replay: http` regenerates only the rest of it. Size, or
        /// `off`; default 1MB.
        public var http: HTTPReplay
        /// `forwarding`: which frames go to the whole group. Name of a module; default `selective`, and `owner`, the only
        /// one, where flows are forwarded only.
        public var forwarding: String
        /// `timeouts`: how long its flows may be idle.
        public var timeouts: Timeouts
        /// `reset_on_timeout`: whether both ends of a flow that times out are sent an RST. true or false; default false.
        public var resetOnTimeout: Bool
        /// `checks`: how the director itself finds out whether a back-end serves. List of at most 8 entries; default none.
        public var checks: [Check]
        /// `sorry`: the back-end that gets new flows only when no other one can. Name of a back-end; default none.
        public var sorry: String?
        /// `rate`, `burst`: how many new flows may begin in a second; nil: as many as come.
        public var rate: Rate?

        public init(
            name: String,
            address: Endpoint,
            transport: TransportProtocol = .tcp,
            ports: ServicePorts? = nil,
            policy: String = "rr",
            policyOptions: [String: Int] = [:],
            persistence: Persistence? = nil,
            replay: ReplayPolicy = .none,
            http: HTTPReplay = HTTPReplay(),
            forwarding: String = "selective",
            timeouts: Timeouts = Timeouts(),
            resetOnTimeout: Bool = false,
            checks: [Check] = [],
            sorry: String? = nil,
            rate: Rate? = nil
        ) {
            self.name = name
            self.address = address
            self.transport = transport
            self.ports = ports
            self.policy = policy
            self.policyOptions = policyOptions
            self.persistence = persistence
            self.replay = replay
            self.http = http
            self.forwarding = forwarding
            self.timeouts = timeouts
            self.resetOnTimeout = resetOnTimeout
            self.checks = checks
            self.sorry = sorry
            self.rate = rate
        }
    }

    /// `persistence`: clients that come again, as `ipvsadm -p` and `-M`.
    public struct Persistence: Hashable, Sendable {
        /// `timeout`: since a flow of the client was last opened or closed. Duration 1s...24h in whole seconds; default
        /// 5m.
        public var timeout: Interval
        /// `netmask`: the bits of an IPv4 address that make a client. Whole number 1...32; default 32.
        public var netmask: Int
        /// `netmask_ipv6`: the same for IPv6. Whole number 1...128; default 128.
        public var netmaskIPv6: Int

        public init(timeout: Interval = .seconds(300), netmask: Int = 32, netmaskIPv6: Int = 128) {
            self.timeout = timeout
            self.netmask = netmask
            self.netmaskIPv6 = netmaskIPv6
        }
    }

    /// One entry of `backends`: a real server.
    public struct Backend: Hashable, Sendable {
        /// `name`: the name that its agent gives when it connects. 1 to 32 of `A-Za-z0-9._-`; required.
        public var name: String
        /// `address`: its own address on the LAN of the director; required.
        public var address: IPAddress
        /// `weight`: its share of new flows, for the policies that weigh. Whole number 0...65535; default 1. With 0
        /// it gets none, and keeps those that it has.
        public var weight: Int
        /// `upper_threshold`: with so many flows of a service, open and closed ones, it gets no new ones of it. Whole number
        /// 0...1000000000; default 0: no threshold.
        public var upperThreshold: Int
        /// `lower_threshold`: below it new flows come again. Whole number, less than the upper one; default 0: three
        /// quarters of the upper one.
        public var lowerThreshold: Int

        public init(
            name: String, address: IPAddress, weight: Int = 1, upperThreshold: Int = 0, lowerThreshold: Int = 0
        ) {
            self.name = name
            self.address = address
            self.weight = weight
            self.upperThreshold = upperThreshold
            self.lowerThreshold = lowerThreshold
        }
    }

    /// `heartbeat`: how often signs of life are sent, and when their absence is a failure.
    public struct Heartbeat: Hashable, Sendable {
        /// `interval`: between two heartbeats. Duration 1ms...1s; default 10ms.
        public var interval: Interval
        /// `window`: silence that counts as a failure. Duration 3ms...1m, three intervals at least; default 50ms.
        public var window: Interval
        /// `threshold`: for the detector `phi`, how improbable a silence must be, 10 to the minus this. Whole number 1...16;
        /// default 8.
        public var threshold: Int

        public init(
            interval: Interval = .milliseconds(10),
            window: Interval = .milliseconds(50),
            threshold: Int = 8
        ) {
            self.interval = interval
            self.window = window
            self.threshold = threshold
        }
    }

    /// `fence`: the operator's way to make sure that a silent back-end is off.
    public struct Fence: Hashable, Sendable {
        /// `command`: the program, by an absolute path, and its arguments; the back-end's name and address are appended.
        /// List of 1 to 32 words; required.
        public var command: [String]
        /// `timeout`: after which the command is killed and counts as failed. Duration 100ms...5m; default 10s.
        public var timeout: Interval

        public init(command: [String], timeout: Interval = .seconds(10)) {
            self.command = command
            self.timeout = timeout
        }
    }

    /// `control`: where the director listens for agents, by TCP (orders, under TLS) and UDP (heartbeats).
    public struct Control: Hashable, Sendable {
        /// `address`: a local address. Default: the first address of the interface (nil here).
        public var address: IPAddress?
        /// `port`: of both TCP and UDP. 1...65535; default 7400.
        public var port: UInt16

        public init(address: IPAddress? = nil, port: UInt16 = 7400) {
            self.address = address
            self.port = port
        }
    }

    /// `flows`: the table of connections in the kernel.
    public struct Flows: Hashable, Sendable {
        /// `size`: connections that it holds; the least recently used one makes room. Whole number
        /// 1024...16777216; default 1000000. The kernel reserves the memory at the start.
        public var size: Int
        /// `half_open`: flows of which only SYNs were seen; they have a table of their own, so that a flood of SYNs drives
        /// out no others. Whole number 1024...16777216; default 131072.
        public var halfOpen: Int
        /// `udp`: flows of UDP, which have a table of their own likewise. Whole number 1024...16777216; default 131072.
        public var udp: Int
        /// `rate`, `burst`: how many new flows may begin in a second, of all services together. Default 100000, and those
        /// of one second; nil (`off`): as many as come.
        public var rate: Rate?

        public init(size: Int = 1_000_000, halfOpen: Int = 131_072, udp: Int = 131_072, rate: Rate? = Rate(rate: 100_000)) {
            self.size = size
            self.halfOpen = halfOpen
            self.udp = udp
            self.rate = rate
        }
    }

    /// How the XDP program is attached to the interface.
    public enum XDPMode: String, CaseIterable, Sendable {
        /// In the driver; a driver that cannot is an error.
        case native
        /// In the kernel's generic hook: any driver, at a cost.
        case generic
        /// `native`, and `generic` where the driver cannot.
        case auto
    }
}
