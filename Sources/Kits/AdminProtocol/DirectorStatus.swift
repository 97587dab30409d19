/// What `batonctl status` shows of a director. Times in nanoseconds of CLOCK_MONOTONIC.
public struct DirectorStatus: Codable, Sendable {
    public var program = "baton-director"
    public var interface: String
    /// `native` or `generic`: how the XDP program is attached.
    public var xdpMode: String
    public var epoch: UInt64
    public var backends: [Backend]
    public var slots: [Slot]
    public var services: [Service]
    public var flows: FlowTable
    public var counters: [String: UInt64]
    /// Messages dropped, by cause.
    public var rejected: [String: UInt64]
    /// The last take-overs, newest first.
    public var takeovers: [TakeoverRecord]
    /// The director's own checks.
    public var checks: [Check] = []
    /// In the order of the services.
    public var limits: [Limit] = []

    public struct Backend: Codable, Sendable {
        public var name: String
        public var address: String
        public var weight: Int
        /// `absent`, `live`, `suspect`, `fence-failed`, `application-down`; `draining`, `moving`, `drained` by `batonctl drain`.
        public var state: String
        public var slot: Int?
        /// The names of its backups, in order.
        public var backups: [String]
        public var lastHeartbeatMs: Double?

        public init(
            name: String, address: String, weight: Int, state: String, slot: Int?, backups: [String],
            lastHeartbeatMs: Double?
        ) {
            self.name = name
            self.address = address
            self.weight = weight
            self.state = state
            self.slot = slot
            self.backups = backups
            self.lastHeartbeatMs = lastHeartbeatMs
        }
    }

    public struct Slot: Codable, Sendable {
        public var slot: Int
        public var backend: String
        public var owner: String?
        public var state: String
        public var group: String
        /// What its backups say, in their order.
        public var protection: [Protection] = []

        public init(slot: Int, backend: String, owner: String?, state: String, group: String) {
            self.slot = slot
            self.backend = backend
            self.owner = owner
            self.state = state
            self.group = group
        }
    }

    /// How many of a slot's connections one backup could take over now.
    public struct Protection: Codable, Sendable {
        public var backup: String
        /// `waiting`, `copying`, `synchronised`.
        public var state: String
        public var connections: Int
        public var protected: Int
        /// Connections of which something is still to be fetched.
        public var missing: Int
        /// From the backup's first frame of the group to full protection.
        public var timeToProtectionMs: Double?

        public init(
            backup: String, state: String, connections: Int, protected: Int, missing: Int, timeToProtectionMs: Double?
        ) {
            self.backup = backup
            self.state = state
            self.connections = connections
            self.protected = protected
            self.missing = missing
            self.timeToProtectionMs = timeToProtectionMs
        }
    }

    public struct Service: Codable, Sendable {
        public var name: String
        public var address: String
        public var policy: String
        public var replay: String
        /// The method now; `batonctl service forwarding` changes it.
        public var forwarding: String
        /// The method of the configuration, which rules again after a restart.
        public var configuredForwarding: String
        /// Frames sent to the owner alone.
        public var framesToOwner: UInt64
        /// Frames sent to owner and backups, in whatever way.
        public var framesToGroup: UInt64
        /// Unicast frames that `duplicate` made of those. The kernel may join segments before: fewer than one for each
        /// frame and member.
        public var copies: UInt64
        /// Frames dropped because they could not be copied to everyone.
        public var framesNotCopied: UInt64
        public var newFlows: UInt64
        public var bytes: UInt64

        public init(
            name: String, address: String, policy: String, replay: String, forwarding: String,
            configuredForwarding: String, framesToOwner: UInt64, framesToGroup: UInt64, copies: UInt64,
            framesNotCopied: UInt64, newFlows: UInt64, bytes: UInt64
        ) {
            self.name = name
            self.address = address
            self.policy = policy
            self.replay = replay
            self.forwarding = forwarding
            self.configuredForwarding = configuredForwarding
            self.framesToOwner = framesToOwner
            self.framesToGroup = framesToGroup
            self.copies = copies
            self.framesNotCopied = framesNotCopied
            self.newFlows = newFlows
            self.bytes = bytes
        }
    }

    public struct FlowTable: Codable, Sendable {
        public var capacity: Int
        public var bytesPerFlow: Int

        public init(capacity: Int, bytesPerFlow: Int) {
            self.capacity = capacity
            self.bytesPerFlow = bytesPerFlow
        }
    }

    public init(
        interface: String, xdpMode: String, epoch: UInt64, backends: [Backend], slots: [Slot], services: [Service],
        flows: FlowTable, counters: [String: UInt64], rejected: [String: UInt64], takeovers: [TakeoverRecord]
    ) {
        self.interface = interface
        self.xdpMode = xdpMode
        self.epoch = epoch
        self.backends = backends
        self.slots = slots
        self.services = services
        self.flows = flows
        self.counters = counters
        self.rejected = rejected
        self.takeovers = takeovers
    }
}

/// The answer to `service-forwarding`.
public struct ServiceForwarding: Codable, Sendable {
    public var service: String
    public var forwarding: String
    /// The method before.
    public var former: String
    public var configured: String

    public init(service: String, forwarding: String, former: String, configured: String) {
        self.service = service
        self.forwarding = forwarding
        self.former = former
        self.configured = configured
    }
}

/// The flows that the director knows.
public struct FlowList: Codable, Sendable {
    public struct Flow: Codable, Sendable {
        public var client: String
        public var service: String
        public var slot: Int
        public var owner: String?
        /// `handshake`, `established`, `closing`.
        public var state: String
        public var idleS: Double

        public init(client: String, service: String, slot: Int, owner: String?, state: String, idleS: Double) {
            self.client = client
            self.service = service
            self.slot = slot
            self.owner = owner
            self.state = state
            self.idleS = idleS
        }
    }

    public var total: Int
    public var flows: [Flow]

    public init(total: Int, flows: [Flow]) {
        self.total = total
        self.flows = flows
    }
}
