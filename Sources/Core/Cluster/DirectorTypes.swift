import Model
import ModuleInterfaces
import Wire

/// A TLS session with an agent, by a number that its edge gave it and never gives again.
public struct SessionID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public var rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (left: SessionID, right: SessionID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "session \(rawValue)" }
}

public struct BackendConfiguration: Hashable, Sendable {
    public var name: String
    public var address: IPAddress
    /// 0: no new flows.
    public var weight: UInt16

    public init(name: String, address: IPAddress, weight: UInt16 = 1) {
        self.name = name
        self.address = address
        self.weight = weight
    }
}

public struct ServiceConfiguration: Sendable {
    public var description: ServiceDescription
    public var policy: any DispatchPolicy
    /// The back-end that gets new flows only when no other one can.
    public var sorry: String?

    public init(_ description: ServiceDescription, policy: any DispatchPolicy, sorry: String? = nil) {
        self.description = description
        self.policy = policy
        self.sorry = sorry
    }
}

/// What the director is told by its configuration; the order of the back-ends is the order of the ring.
public struct DirectorConfiguration: Sendable {
    public var backends: [BackendConfiguration]
    public var services: [ServiceConfiguration]
    /// N of [Z] II-B: backups of each back-end, at most `Limits.backups`.
    public var backups: Int
    public var ring: any RingModule
    public var detector: DetectorFactory
    /// Whether a command must have succeeded before a silent back-end's slots are given away.
    public var fencesByCommand: Bool
    /// Fixed by the first configuration; later ones cannot change it.
    public var timings: ClusterTimings

    public init(
        backends: [BackendConfiguration],
        services: [ServiceConfiguration],
        backups: Int = 1,
        ring: any RingModule,
        detector: @escaping DetectorFactory,
        fencesByCommand: Bool = false,
        timings: ClusterTimings = ClusterTimings()
    ) {
        self.backends = backends
        self.services = services
        self.backups = backups
        self.ring = ring
        self.detector = detector
        self.fencesByCommand = fencesByCommand
        self.timings = timings
    }
}

/// What a director must find again after a restart: one for each slot, kept by the edge (pinned map).
public struct SlotRecord: Hashable, Sendable {
    public var slot: SlotID
    public var state: SlotState
    /// The back-end that the slot was made for, and the life.
    public var backend: String
    public var life: Life
    /// The owner, or who takes over, by the slot of its own life; nil when nobody serves it.
    public var owner: SlotID?
    /// For people.
    public var ownerName: String
    public var epoch: Epoch
    /// Backups (by the slots of their own lives) whose silence certainly ends the lease of this slot's own life.
    public var proven: [SlotID]
    /// Everybody who may still be talking for the slot while it has no settled owner.
    public var contenders: [SlotID]
    /// The back-end that the slot was made for is draining, or drained.
    public var draining: Bool

    /// Bounds of the two lists.
    public static let provenLimit = Limits.backups
    public static let contenderLimit = Limits.backups + 1

    public init(
        slot: SlotID,
        state: SlotState,
        backend: String,
        life: Life,
        owner: SlotID?,
        ownerName: String,
        epoch: Epoch,
        proven: [SlotID],
        contenders: [SlotID],
        draining: Bool = false
    ) {
        self.slot = slot
        self.state = state
        self.backend = backend
        self.life = life
        self.owner = owner
        self.ownerName = ownerName
        self.epoch = epoch
        self.proven = proven
        self.contenders = contenders
        self.draining = draining
    }
}

/// A slot for the data plane, and the record that goes with it.
public struct SlotPublication: Hashable, Sendable {
    public var slot: SlotID
    /// Nil: as it was.
    public var owner: MACAddress?
    public var group: MACAddress
    /// Who listens to the group, for the forwarding `duplicate`: backups first, the owner (or who is becoming it) last.
    /// Nil: as it was, for not all of their addresses are known.
    public var members: [MACAddress]?
    /// `BATON_SLOT_ACTIVE`.
    public var active: Bool
    /// `BATON_SLOT_TAKEOVER`.
    public var takeOver: Bool
    public var record: SlotRecord

    public init(
        slot: SlotID,
        owner: MACAddress?,
        group: MACAddress,
        members: [MACAddress]? = nil,
        active: Bool,
        takeOver: Bool,
        record: SlotRecord
    ) {
        self.slot = slot
        self.owner = owner
        self.group = group
        self.members = members
        self.active = active
        self.takeOver = takeOver
        self.record = record
    }
}

public struct SlotFlows: Hashable, Sendable {
    public var slot: SlotID
    public var flows: UInt32
    /// Of these, the ones that may still be served: closed ones stay in the table for a while.
    public var busy: UInt32

    public init(slot: SlotID, flows: UInt32, busy: UInt32? = nil) {
        self.slot = slot
        self.flows = flows
        self.busy = busy ?? flows
    }
}

public enum DirectorInput: Sendable {
    /// First of all, and again at each reload. Back-ends and services that are gone lose their new flows.
    case configuration(DirectorConfiguration)
    /// Directly after the first configuration, when there are records of a former run.
    case restored([SlotRecord])
    case received(StreamMessage, from: SessionID)
    case sessionClosed(SessionID)
    /// A datagram whose HMAC is right.
    case datagram(Datagram)
    /// Flows of the data plane's table, counted now and then; slots that are left out have none.
    ///
    /// `begun`: when the count began; a flow that is younger may be missing.
    case flows([SlotFlows], begun: Instant? = nil)
    /// The operator wants a back-end free of connections.
    case drain(String, DrainMode)
    case undrain(String)
    /// Flows that the data plane has forgotten, of services whose flows draw RSTs then.
    case timedOut([TimedOutFlow])
    /// The director's own checks of a service at a back-end pass from now on, or fail.
    case checks(of: ServiceID, at: String, pass: Bool)
    /// The answer to the effect `fenceCommand`: why it failed, or nil.
    case fenceCommandEnded(SlotID, failure: String?)
    /// The instant of the effect `timer` has come.
    case timer
}

/// Effects must be carried out in order: a slot's record is safe before the message that makes it true is sent.
public enum DirectorEffect: Hashable, Sendable {
    case send(StreamMessage, to: SessionID)
    /// After what was sent.
    case close(SessionID)
    case datagram(Datagram, to: IPAddress)
    /// The slot map and the slot's record.
    case publish(SlotPublication)
    case plan(ServiceID, DispatchPlan)
    /// Run the operator's fence command for a back-end (name, slot of its life, address); not awaited.
    case fenceCommand(String, SlotID, IPAddress)
    /// When to call `timer`; replaces the former instant.
    case timer(Instant)
    case log(DirectorEvent)
}

/// How a failure was noticed.
public enum FailureSign: Hashable, Sendable {
    /// No heartbeats.
    case host
    /// The application died; the host told so, and has fenced itself.
    case application(ServiceID)
    /// The agent ended, and has fenced itself.
    case leaving
    /// Another life of the back-end came.
    case restarted
    /// Drained by the operator; the host has fenced itself.
    case planned

    public var name: String {
        switch self {
        case .host: "host"
        case .application: "application"
        case .leaving: "leaving"
        case .restarted: "restarted"
        case .planned: "planned"
        }
    }
}

/// One take-over as the director saw it, for `batonctl`.
public struct TakeOverRecord: Hashable, Sendable {
    public var slot: SlotID
    public var victim: String
    public var backup: String
    public var sign: FailureSign
    /// On the director's clock; T_d is `detected - lastHeartbeat`.
    public var lastHeartbeat: Instant
    public var detected: Instant
    public var ordered: Instant
    public var settled: Instant?
    /// The last report of the backup.
    public var report: TakeOverReport?

    /// T_d of [Z] IV-C.
    public var detection: Interval { detected - lastHeartbeat }
}

public enum DirectorEvent: Hashable, Sendable {
    case joined(String, SlotID, Life)
    case rejoined(String, SlotID)
    case refused(String, Refusal)
    case sessionLost(String)
    case suspected(String, silent: Interval)
    /// Suspected, but nobody can take over for now; its heartbeats came again.
    case recovered(String)
    /// The life of the back-end is over for the director.
    case condemned(String, SlotID, FailureSign)
    case takeOverOrdered(SlotID, from: String, to: String)
    case takeOverFenced(SlotID, by: String)
    case takeOverSettled(SlotID, by: String)
    case takeOverFinished(TakeOverRecord)
    case takeOverFailed(SlotID, by: String)
    case fenceStarted(String)
    case fenceSucceeded(String)
    /// Its take-over does not happen now.
    case fenceFailed(String, String)
    case drainBegun(String, DrainMode)
    case yieldOrdered(String, SlotID)
    /// No connection is left to it: it may be restarted.
    case drained(String)
    case drainEnded(String)
    case slotOrphaned(SlotID)
    case slotRetired(SlotID)
    case serviceUp(String, ServiceID)
    case serviceDown(String, ServiceID)
    case serviceCrashed(String, ServiceID)
    /// The director itself was stopped for so long; nobody is suspected for that.
    case stalled(Interval)
    case graceEnded(missing: [String])
    case unexpectedMessage(String)
    case limitReached(String)
    /// A policy's plan that cannot be run: the service has none.
    case planRefused(String, String)
}
