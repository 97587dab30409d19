import Model

/// A message between director and agent over TLS.
///
/// Frame: length of what follows (32 bits, big-endian), kind (8 bits), body. Never longer than
/// `Limits.controlMessageBytes`.
public enum StreamMessage: Hashable, Sendable {
    // From agent to director
    case join(Join)
    /// The agent lives by this ring table now: its kernel rules and its lease follow it.
    case ringAcknowledged(Epoch)
    case takeOverReport(TakeOverReport)
    case sign(Sign)
    /// How well slots that the agent backs up are protected; replaces its former report of these slots.
    case protection([SlotProtection])
    // From director to agent
    case welcome(Welcome)
    case refused(Refusal)
    case ring(RingTable)
    case takeOver(TakeOverOrder)
    /// The director has given this slot to another: be silent at once, and come back with a new life.
    case fence(Fence)
    /// The operator drains this back-end: be silent at once, say so by a sign, and come back with a new life.
    case yield(Fence)
    /// Flows have timed out, and the operator wants both ends to know: reset their connections.
    case resetFlows([FlowReset])
}

/// The first message of an agent.
public struct Join: Hashable, Sendable {
    public var version: UInt16
    /// The back-end's name in the director's configuration.
    public var name: String
    public var life: Life
    public var mac: MACAddress
    /// Where heartbeats reach the agent.
    public var address: IPAddress
    /// The slot that this life holds already (the session was lost, or the director restarted).
    public var heldSlot: SlotID?
    /// The ring table that the agent lives by; 0 when it has none.
    public var epoch: Epoch
    public var profiles: [ServiceProfile]

    public init(
        version: UInt16 = ControlProtocol.version,
        name: String,
        life: Life,
        mac: MACAddress,
        address: IPAddress,
        heldSlot: SlotID? = nil,
        epoch: Epoch = Epoch(rawValue: 0),
        profiles: [ServiceProfile] = []
    ) {
        self.version = version
        self.name = name
        self.life = life
        self.mac = mac
        self.address = address
        self.heldSlot = heldSlot
        self.epoch = epoch
        self.profiles = profiles
    }
}

/// The SYN-ACK options of a service, by its name in the agent's configuration.
public struct ServiceProfile: Hashable, Sendable {
    public var service: String
    public var handshake: HandshakeOptions

    public init(service: String, handshake: HandshakeOptions) {
        self.service = service
        self.handshake = handshake
    }
}

/// The director's answer to a join: who the agent is, and the parameters of the cluster.
public struct Welcome: Hashable, Sendable {
    public var version: UInt16
    public var backend: BackendID
    public var slot: SlotID
    public var directorLife: Life
    public var heartbeatInterval: Interval
    /// Silence after which the director suspects ([Z] II-C).
    public var window: Interval
    public var lease: Interval
    public var services: [ServiceDescription]

    public init(
        version: UInt16 = ControlProtocol.version,
        backend: BackendID,
        slot: SlotID,
        directorLife: Life,
        heartbeatInterval: Interval,
        window: Interval,
        lease: Interval,
        services: [ServiceDescription]
    ) {
        self.version = version
        self.backend = backend
        self.slot = slot
        self.directorLife = directorLife
        self.heartbeatInterval = heartbeatInterval
        self.window = window
        self.lease = lease
        self.services = services
    }
}

public struct ServiceDescription: Hashable, Sendable {
    public var id: ServiceID
    public var name: String
    public var endpoint: Endpoint
    public var replay: ReplayPolicy
    /// Counts where `replay` is `http`.
    public var http: HTTPReplay

    public init(
        id: ServiceID,
        name: String,
        endpoint: Endpoint,
        replay: ReplayPolicy,
        http: HTTPReplay = HTTPReplay()
    ) {
        self.id = id
        self.name = name
        self.endpoint = endpoint
        self.replay = replay
        self.http = http
    }
}

public struct Refusal: Hashable, Sendable {
    public enum Reason: UInt8, Hashable, Sendable, CaseIterable {
        /// No such back-end in the director's configuration.
        case unknownName = 1
        /// Another agent of this name lives.
        case duplicateName = 2
        /// This life's slot was given to another: come back with a new life.
        case lifeEnded = 3
        /// The director knows nothing of the slot that this life holds: come back with a new life.
        case lifeUnknown = 4
        case noSlotFree = 5
        case protocolVersion = 6
        /// The message does not fit the state of the session.
        case unexpected = 7
    }

    public var reason: Reason
    /// For people.
    public var text: String

    public init(reason: Reason, text: String) {
        self.reason = reason
        self.text = text
    }
}

/// A sign of life or death of a service's application, as its own agent sees it.
public struct Sign: Hashable, Sendable {
    public enum Kind: UInt8, Hashable, Sendable, CaseIterable {
        /// The health check passes.
        case up = 1
        /// The health check fails; established connections may still be served.
        case down = 2
        /// The listener was closed by a process that lives or left cleanly: no new flows.
        case listenerClosed = 3
        /// The application died. The sender has fenced itself, for good in this life.
        case crashed = 4
        /// The agent ends. The sender has fenced itself, for good in this life.
        case leaving = 5
        /// The order to yield was obeyed. The sender has fenced itself, for good in this life.
        case yielded = 6
    }

    public var service: ServiceID
    public var kind: Kind

    public init(service: ServiceID, kind: Kind) {
        self.service = service
        self.kind = kind
    }
}
