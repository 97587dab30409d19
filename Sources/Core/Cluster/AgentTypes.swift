import Model
import Wire

/// What an agent knows of itself before it has met the director.
public struct AgentIdentity: Hashable, Sendable {
    public var name: String
    public var mac: MACAddress
    public var address: IPAddress
    /// Its services, by the names that the director's configuration has too.
    public var services: [AgentService]

    public init(name: String, mac: MACAddress, address: IPAddress, services: [AgentService]) {
        self.name = name
        self.mac = mac
        self.address = address
        self.services = services
    }
}

public struct AgentService: Hashable, Sendable {
    public var name: String
    /// Checks that must pass in a row before the service is up.
    public var rise: Int
    /// Checks that must fail in a row before it is down.
    public var fall: Int
    /// What goes up and down too often is held down.
    public var dampening: HealthRules.Dampening?
    /// How long a crashed application may take to be back before a backup is let at its connections; zero: not at all.
    public var restartGrace: Interval

    public init(
        name: String, rise: Int = 2, fall: Int = 3, dampening: HealthRules.Dampening? = nil, restartGrace: Interval = .zero
    ) {
        self.name = name
        self.rise = rise
        self.fall = fall
        self.dampening = dampening
        self.restartGrace = restartGrace
    }
}

public enum AgentInput: Sendable {
    /// Once, first. Every later input before it is ignored.
    case start
    /// The TLS session with the director is open.
    case connected
    /// The session is closed, or could not be opened.
    case disconnected
    case received(StreamMessage)
    /// A datagram whose HMAC is right.
    case datagram(Datagram)
    /// The answer to the effect `destroyServiceSockets`.
    case serviceSocketsDestroyed
    /// The outcome of one health check.
    case check(service: String, passed: Bool)
    /// The listener was closed by a process that lives on or left cleanly.
    case listenerClosed(service: String)
    /// The guard saw a process die that had sockets of the service.
    case applicationCrashed(service: String)
    /// A process died that listened for the service; no established connection was seen to die with it.
    case listenerCrashed(service: String)
    /// The answer to the effect `lookForListener`, when there is one.
    case listenerFound(service: String)
    /// The SYN-ACK options of a local service.
    case handshake(service: String, HandshakeOptions)
    /// Load in thousandths.
    case load(UInt32)
    /// How well the tapped slots are protected, when that has changed.
    case protection([SlotProtection])
    /// News of a take-over that was started by an effect; slot, phase and figures count, the epoch is filled in here.
    case takeOver(TakeOverReport)
    /// Replies that this machine has begun to send.
    case replies([ReplyNotice])
    /// SYN-ACKs that this machine has sent.
    case synAcks([SynAckNotice])
    /// The program ends: give everything away.
    case stop
    /// The instant of the effect `timer` has come.
    case timer
}

/// What the kernel may let out of the VIPs.
public enum Lease: Hashable, Sendable {
    case none
    case until(Instant)
    /// Nobody could take over: no lease is needed.
    case unlimited

    /// Whether frames may leave at this instant.
    public func isValid(at now: Instant) -> Bool {
        switch self {
        case .none: false
        case .until(let end): now < end
        case .unlimited: true
        }
    }
}

/// Effects must be carried out in order, each finished before the next: a message that follows a `fence` or `lease`
/// states that the kernel already obeys. If one of those two fails, none of the later effects may be carried out and
/// the program must end.
public enum AgentEffect: Hashable, Sendable {
    /// Open a TLS session with the director; answered by `connected` or `disconnected`.
    case connect
    /// Close the session, after what was sent; no `disconnected` must follow from it.
    case disconnect
    case send(StreamMessage)
    /// To a back-end's address, or to the director where nil.
    case datagram(Datagram, to: IPAddress?)
    /// The kernel's lease on the VIPs; it may be shortened.
    case lease(Lease)
    /// True: nothing leaves from the VIPs, whatever the lease.
    case fence(Bool)
    /// The groups to listen to, replacing the former ones.
    case membership(GroupMembership)
    /// Destroy every socket of the VIPs, without a frame to the peer; answered by `serviceSocketsDestroyed`.
    case destroyServiceSockets
    /// Every contender is silent: probe, adopt, replay.
    case startTakeOver(TakeOverStart)
    /// Stop, and forget the slot's connections; no report has to follow.
    case abortTakeOver(SlotID)
    /// Look whether the service's application listens again; answered by `listenerFound`, or not at all.
    case lookForListener(String)
    /// Adopt the connections that a crash of the service's application has cut off, here and now.
    case readopt(String)
    /// The services as the director has them; the VIPs belong on `lo` from now on.
    case services([ServiceDescription])
    /// The SYN-ACK options of a predecessor's service, for the tracker.
    case peerHandshake(SlotID, ServiceID, HandshakeOptions)
    /// Replies that predecessors have begun to send, for the tracker.
    case peerReplies([ReplyNotice])
    /// SYN-ACKs that predecessors have sent, for the tracker.
    case peerSynAcks([SynAckNotice])
    /// Whom to ask for the connections of the tapped slots; replaces the former ones.
    case sources([SlotSource])
    /// Destroy the sockets of these connections; each sends its client an RST.
    case resetConnections([FlowKey])
    /// When to call `timer`; replaces the former instant.
    case timer(Instant)
    case log(AgentEvent)
}

/// Slots by what the agent is to them.
public struct GroupMembership: Hashable, Sendable {
    /// Frames to these groups are the local TCP's.
    public var own: [SlotID]
    /// Frames to these groups are for the tap alone.
    public var tapped: [SlotID]

    public init(own: [SlotID] = [], tapped: [SlotID] = []) {
        self.own = own
        self.tapped = tapped
    }
}

public struct TakeOverStart: Hashable, Sendable {
    public var slot: SlotID
    public var epoch: Epoch
    /// When the order came.
    public var orderedAt: Instant

    public init(slot: SlotID, epoch: Epoch, orderedAt: Instant) {
        self.slot = slot
        self.epoch = epoch
        self.orderedAt = orderedAt
    }
}

/// Why an agent lost its slots.
public enum LossReason: Hashable, Sendable {
    /// The director ordered another to take over.
    case condemned
    /// A backup demanded the fence.
    case fencedBy(BackendID)
    case refused(Refusal.Reason)
    case applicationCrashed(service: String)
    /// The operator drains the host.
    case yielded
    case stopped
}

/// What an agent has to tell people; typed, so that logs and tests say the same.
public enum AgentEvent: Hashable, Sendable {
    case joined(BackendID, SlotID, director: Life)
    case refused(Refusal)
    case sessionLost
    case ringApplied(Epoch, own: [SlotID], tapped: [SlotID])
    case slotLost(SlotID?, LossReason)
    case rejoining(Life)
    /// The lease has run out: neither the director nor every backup answers.
    case leaseExpired
    case leaseRegained
    case takeOverOrdered(SlotID, contenders: [BackendID])
    case takeOverStarted(SlotID, waited: Interval)
    case fenceAcknowledged(SlotID, by: BackendID)
    case serviceUp(String)
    case serviceDown(String)
    /// It goes up and down too often: down for so long at least.
    case serviceHeld(String, Interval)
    case serviceCrashed(String)
    /// It has crashed, and is given the time to come back.
    case restartAwaited(String, Interval)
    /// It is back within that time, which has passed so far.
    case restarted(String, after: Interval)
    /// A datagram was dropped: old, of another life, or of a stranger.
    case datagramDropped(from: BackendID)
    /// A message that does not fit the state; it was ignored.
    case unexpectedMessage(String)
    case limitReached(String)
}

/// Counters of the messages that an agent or a director dropped.
public struct DropCounters: Hashable, Sendable {
    /// Another life than the one agreed over TLS.
    public var wrongLife: UInt64 = 0
    /// A sequence number at or below the last one taken.
    public var stale: UInt64 = 0
    public var unknownSender: UInt64 = 0
    public var unexpected: UInt64 = 0
}
