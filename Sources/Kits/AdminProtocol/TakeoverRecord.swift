/// One take-over, with its time split as [Z] IV-B splits it: T_d detection, T_r probe answer, T_c construction of the
/// socket, T_a the application's reading and parsing, T_f the part of the reply that the client already has.
public struct TakeoverRecord: Codable, Sendable {
    public var slot: Int
    public var victim: String
    public var backup: String
    /// `host` (heartbeats ceased) or `application` (crash sign of a living host).
    public var sign: String
    /// Instants, nanoseconds of the CLOCK_MONOTONIC of the machine that saw them: director.
    public var lastHeartbeatNs: UInt64
    public var detectedNs: UInt64
    public var orderedNs: UInt64
    public var settledNs: UInt64?
    /// Instants of the backup's clock (the same clock where all run on one machine, as in the lab).
    public var startedNs: UInt64?
    public var probeFirstNs: UInt64?
    public var answerFirstNs: UInt64?
    public var adoptedFirstNs: UInt64?
    public var firstReplyNs: UInt64?
    public var firstNewByteNs: UInt64?
    public var settledOnBackupNs: UInt64?
    public var finishedNs: UInt64?
    /// Connections tracked, adopted, and reset by cause.
    public var connections: Int
    public var adopted: Int
    public var reset: [String: Int]
    public var caughtUpBytes: UInt64
    /// Milliseconds, medians over the connections; nil until known.
    public var tDMs: Double?
    public var tRMs: Double?
    public var tCMs: Double?
    public var tAMs: Double?
    public var tFMs: Double?

    public init(
        slot: Int, victim: String, backup: String, sign: String, lastHeartbeatNs: UInt64, detectedNs: UInt64,
        orderedNs: UInt64
    ) {
        self.slot = slot
        self.victim = victim
        self.backup = backup
        self.sign = sign
        self.lastHeartbeatNs = lastHeartbeatNs
        self.detectedNs = detectedNs
        self.orderedNs = orderedNs
        self.connections = 0
        self.adopted = 0
        self.reset = [:]
        self.caughtUpBytes = 0
    }
}

/// What `batonctl status` shows of an agent.
public struct AgentStatus: Codable, Sendable {
    public var program = "baton-agent"
    public var name: String
    public var state: String
    public var slot: Int?
    public var ownedSlots: [Int]
    public var tappedSlots: [Int]
    public var backupConnections: Int
    public var journalBytes: Int
    public var adoptedConnections: Int
    public var lease: String
    public var fenced: Bool
    public var counters: [String: UInt64]
    public var tap: [String: UInt64]
    public var rejected: [String: UInt64]
    public var resets: [String: Int]
    /// The checks of the local applications; nil: an agent that does not tell.
    public var checks: [DirectorStatus.Check]?

    public init(
        name: String, state: String, slot: Int?, ownedSlots: [Int], tappedSlots: [Int], backupConnections: Int,
        journalBytes: Int, adoptedConnections: Int, lease: String, fenced: Bool, counters: [String: UInt64],
        tap: [String: UInt64], rejected: [String: UInt64], resets: [String: Int]
    ) {
        self.name = name
        self.state = state
        self.slot = slot
        self.ownedSlots = ownedSlots
        self.tappedSlots = tappedSlots
        self.backupConnections = backupConnections
        self.journalBytes = journalBytes
        self.adoptedConnections = adoptedConnections
        self.lease = lease
        self.fenced = fenced
        self.counters = counters
        self.tap = tap
        self.rejected = rejected
        self.resets = resets
    }
}
