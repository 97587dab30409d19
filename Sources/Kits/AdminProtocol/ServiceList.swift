/// Services and their servers, as `ipvsadm -L` shows them: the answer to `list`.
public struct ServiceList: Codable, Sendable {
    public var services: [Service]

    public struct Service: Codable, Sendable {
        public var name: String
        /// `TCP` or `UDP`.
        public var `protocol`: String
        public var address: String
        public var scheduler: String
        /// `persistent 300`, `port`, `replay stream`, ...
        public var flags: [String]
        public var timeouts: Timeouts
        public var stats: Stats
        public var rate: Rate
        public var servers: [Server]

        public init(
            name: String, protocol: String, address: String, scheduler: String, flags: [String], timeouts: Timeouts,
            stats: Stats, rate: Rate, servers: [Server]
        ) {
            self.name = name
            self.protocol = `protocol`
            self.address = address
            self.scheduler = scheduler
            self.flags = flags
            self.timeouts = timeouts
            self.stats = stats
            self.rate = rate
            self.servers = servers
        }
    }

    public struct Server: Codable, Sendable {
        public var name: String
        public var address: String
        /// `Route`: direct routing.
        public var forward = "Route"
        public var weight: Int
        /// As `batonctl status` has it.
        public var state: String
        /// Flows that its slots have, and those that were closed and are still in the table.
        public var active: Int
        public var inactive: Int

        public init(name: String, address: String, weight: Int, state: String, active: Int, inactive: Int) {
            self.name = name
            self.address = address
            self.weight = weight
            self.state = state
            self.active = active
            self.inactive = inactive
        }
    }

    /// Since the maps were made, or `batonctl zero`. What goes back to clients does not pass the director.
    public struct Stats: Codable, Equatable, Sendable {
        public var conns: UInt64
        public var inPkts: UInt64
        public var inBytes: UInt64
        public var outPkts: UInt64 = 0
        public var outBytes: UInt64 = 0

        public init(conns: UInt64 = 0, inPkts: UInt64 = 0, inBytes: UInt64 = 0) {
            self.conns = conns
            self.inPkts = inPkts
            self.inBytes = inBytes
        }
    }

    /// Per second, over the last eight seconds, as IPVS reckons it.
    public struct Rate: Codable, Equatable, Sendable {
        public var cps: UInt64
        public var inPps: UInt64
        public var inBps: UInt64
        public var outPps: UInt64 = 0
        public var outBps: UInt64 = 0

        public init(cps: UInt64 = 0, inPps: UInt64 = 0, inBps: UInt64 = 0) {
            self.cps = cps
            self.inPps = inPps
            self.inBps = inBps
        }
    }

    /// Seconds.
    public struct Timeouts: Codable, Equatable, Sendable {
        public var tcp: Double
        public var tcpfin: Double
        public var udp: Double
        public var handshake: Double
        public var reset: Bool

        public init(tcp: Double, tcpfin: Double, udp: Double, handshake: Double, reset: Bool) {
            self.tcp = tcp
            self.tcpfin = tcpfin
            self.udp = udp
            self.handshake = handshake
            self.reset = reset
        }
    }

    public init(services: [Service]) { self.services = services }
}

/// A part of the flow table: the answer to `connections`.
public struct ConnectionList: Codable, Sendable {
    public struct Connection: Codable, Sendable {
        /// `TCP` or `UDP`.
        public var `protocol`: String
        /// Until it times out; 0 when the next look will find it so.
        public var expireS: Double
        public var idleS: Double
        /// `SYN_RECV`, `ESTABLISHED`, `FIN_WAIT`, `UDP`.
        public var state: String
        public var source: String
        public var virtual: String
        /// The back-end's address; nil when nobody has the slot.
        public var destination: String?
        public var server: String?
        public var slot: Int

        public init(
            protocol: String, expireS: Double, idleS: Double, state: String, source: String, virtual: String,
            destination: String?, server: String?, slot: Int
        ) {
            self.protocol = `protocol`
            self.expireS = expireS
            self.idleS = idleS
            self.state = state
            self.source = source
            self.virtual = virtual
            self.destination = destination
            self.server = server
            self.slot = slot
        }
    }

    public var connections: [Connection]
    /// To be given as `after` for the next part; nil: this was the last one.
    public var next: String?

    public init(connections: [Connection], next: String?) {
        self.connections = connections
        self.next = next
    }
}

/// The answer to `zero`.
public struct ZeroedCounters: Codable, Sendable {
    public var services: [String]
    public init(services: [String]) { self.services = services }
}
