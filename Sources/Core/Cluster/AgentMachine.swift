import Model
import Wire

/// The agent's part of the cluster: session and membership, lease and fence, orders to take over, application signs.
///
/// Pure: time and randomness come in, effects go out, in order (see `AgentEffect`). What it knows to be true is stated
/// by `checkInvariants`. The lease rule and why it is safe: docs/design/0002-lease.md.
public struct AgentMachine: Sendable {
    public let identity: AgentIdentity
    /// Drawn anew whenever the slot of the former life was lost.
    public internal(set) var life: Life
    public internal(set) var session = Session.closed(retryAt: .never)
    public internal(set) var standing = Standing.unstarted
    /// The parameters of the last welcome; kept while the session is away.
    public internal(set) var director: Welcome?
    /// The ring table that the agent lives by.
    public internal(set) var table: RingTable?
    public internal(set) var orders: [Order] = []
    /// Slots taken over and settled, whatever the director has heard of it.
    public internal(set) var settled: [TakeOverReport] = []
    public internal(set) var lease = Lease.none
    public internal(set) var fenced = false
    public internal(set) var membership = GroupMembership()
    public internal(set) var drops = DropCounters()
    public internal(set) var services: [ServiceState]

    var random: ClusterRandom
    /// The sequence number of the last datagram sent, to whomever.
    var sequence: UInt64 = 0
    var directorSequence: UInt64 = 0
    /// Send time of the newest heartbeat that the director echoed.
    var directorEchoed: Instant?
    var peers: [Peer] = []
    /// Lives that this agent was ordered to take over from: it never echoes them again.
    var condemned: [Life] = []
    /// Former lives of this agent; they are silent, so a demand to fence them is acknowledged at any time.
    var endedLives: [Life] = []
    var nextHeartbeat = Instant.never
    var nextWake = Instant.never
    var load: UInt32 = 0
    var reportedLeaseExpired = false
    /// What `sources` was last told.
    var sources: [SlotSource] = []
    /// How well the tapped slots are protected; told again to a director that has forgotten it.
    var protection: [SlotProtection] = []

    /// Retry of a session that could not be opened, or of a join that was refused for now.
    static let retry = Interval.milliseconds(100)
    /// A session that neither opens nor is welcomed for so long is given up.
    static let patience = Interval.seconds(3)

    public enum Session: Hashable, Sendable {
        case closed(retryAt: Instant)
        case connecting(since: Instant)
        /// The join was sent.
        case joining(since: Instant)
        /// Welcomed.
        case open
    }

    public enum Standing: Hashable, Sendable {
        case unstarted
        /// Fenced; the sockets of a former life are being destroyed.
        case cleaning
        /// Fenced, and clean: free to join.
        case none
        /// Welcomed, but the ring table that names the slot has not come yet. Fenced.
        case welcomed(SlotID)
        case member(SlotID)
        /// The program ends. Fenced.
        case stopped
    }

    /// Another agent of the ring, in one life.
    struct Peer: Hashable, Sendable {
        var id: BackendID
        var life: Life
        var slot: SlotID
        var address: IPAddress
        /// The newest datagram taken from it.
        var lastSequence: UInt64 = 0
        /// Send time of the newest heartbeat of ours that it echoed.
        var echoed: Instant?
        /// Our echoes may keep its lease alive until here.
        var promisedUntil = Instant(nanoseconds: 0)
        var listed = true
        var handshakes: [ServiceReport] = []
    }

    public struct Order: Hashable, Sendable {
        public var slot: SlotID
        public var epoch: Epoch
        public var orderedAt: Instant
        public var contenders: [Waiting]
        /// Contenders are silent, and the take-over was started.
        public var started: Bool

        public struct Waiting: Hashable, Sendable {
            public var contender: TakeOverOrder.Contender
            /// From here on its lease has run out, acknowledged or not.
            public var until: Instant
            public var acknowledged: Bool
        }
    }

    public struct ServiceState: Hashable, Sendable {
        public var configuration: AgentService
        public var id: ServiceID?
        public var handshake: HandshakeOptions?
        var tally: HealthTally
        /// Its application has crashed, and may come back.
        var restart: Restart?
        /// When its last crashes were, the latest last.
        var crashes: [Instant] = []

        public var healthy: Bool { tally.isUp }
        /// Since the beginning.
        public var changes: UInt64 { tally.changeCount }
        public var changedAt: Instant? { tally.changedAt }
        /// While it is held down: until when.
        public var heldUntil: Instant? { tally.heldUntil }

        init(configuration: AgentService) {
            self.configuration = configuration
            let rules = HealthRules(
                rise: configuration.rise, fall: configuration.fall, dampening: configuration.dampening)
            tally = HealthTally(rules, isUp: false)
        }
    }

    /// - Parameter seed: for the lives; must differ from start to start.
    public init(identity: AgentIdentity, seed: UInt64) {
        self.identity = identity
        random = ClusterRandom(seed: seed)
        life = Life(rawValue: random.next())
        services = identity.services.prefix(Limits.services).map { ServiceState(configuration: $0) }
    }

    public mutating func handle(_ input: AgentInput, now: Instant, into effects: inout [AgentEffect]) {
        if case .start = input {
            start(into: &effects)
        } else if standing != .unstarted, standing != .stopped {
            dispatch(input, now: now, into: &effects)
        }
        noteSources(into: &effects)
        wake(now: now, into: &effects)
    }

    private mutating func dispatch(_ input: AgentInput, now: Instant, into effects: inout [AgentEffect]) {
        switch input {
        case .start: break
        case .connected: connected(now: now, into: &effects)
        case .disconnected: disconnected(now: now, into: &effects)
        case .received(let message): received(message, now: now, into: &effects)
        case .datagram(let datagram): received(datagram, now: now, into: &effects)
        case .serviceSocketsDestroyed: socketsDestroyed(now: now, into: &effects)
        case .check(let service, let passed): checked(service, passed: passed, now: now, into: &effects)
        case .listenerClosed(let service): listenerClosed(service, now: now, into: &effects)
        case .applicationCrashed(let service): crashed(service, hadConnections: true, now: now, into: &effects)
        case .listenerCrashed(let service): crashed(service, hadConnections: false, now: now, into: &effects)
        case .listenerFound(let service): listenerFound(service, now: now, into: &effects)
        case .handshake(let service, let options):
            if let index = index(of: service) { services[index].handshake = options }
        case .load(let value): load = value
        case .protection(let slots): report(slots, into: &effects)
        case .takeOver(let report): takeOverNews(report, now: now, into: &effects)
        case .stop: stop(into: &effects)
        case .replies(let notices): tell(notices, now: now, into: &effects)
        case .synAcks(let notices): tell(notices, now: now, into: &effects)
        case .timer: tick(now: now, into: &effects)
        }
    }

    /// The fence comes first: the sockets of a former run of this program may still be there and talk.
    private mutating func start(into effects: inout [AgentEffect]) {
        guard standing == .unstarted else { return }
        standing = .cleaning
        fenced = true
        effects += [.fence(true), .lease(.none), .membership(membership), .destroyServiceSockets]
    }

    private mutating func stop(into effects: inout [AgentEffect]) {
        if case .open = session {
            effects.append(.fence(true))
            fenced = true
            effects.append(.send(.sign(Sign(service: ServiceID(rawValue: 0), kind: .leaving))))
        }
        lose(.stopped, into: &effects)
        standing = .stopped
    }

    // MARK: Timers

    private mutating func tick(now: Instant, into effects: inout [AgentEffect]) {
        switch session {
        case .closed(let retryAt):
            if now >= retryAt { connect(now: now, into: &effects) }
        case .connecting(let since), .joining(let since):
            if now >= since + Self.patience { closeSession(retryAt: now + Self.retry, into: &effects) }
        case .open: break
        }
        if now >= nextHeartbeat { beat(now: now, into: &effects) }
        awaitRestarts(now: now, into: &effects)
        advanceOrders(now: now, into: &effects)
        watchLease(now: now, into: &effects)
    }

    /// One timer for all: the earliest instant at which there is something to do.
    private mutating func wake(now: Instant, into effects: inout [AgentEffect]) {
        var next = Instant.never
        switch session {
        case .closed(let retryAt): next = min(next, retryAt)
        case .connecting(let since), .joining(let since): next = min(next, since + Self.patience)
        case .open: break
        }
        next = min(next, nextHeartbeat)
        for service in services { next = min(next, service.restart?.nextLook ?? .never) }
        for order in orders where !order.started {
            for waiting in order.contenders where !waiting.acknowledged && waiting.until > now {
                next = min(next, waiting.until)
            }
        }
        guard next != nextWake else { return }
        nextWake = next
        effects.append(.timer(next))
    }

    // MARK: Helpers

    var interval: Interval { director?.heartbeatInterval ?? .milliseconds(10) }

    /// The slot of this life, once the ring table has confirmed it.
    public var slot: SlotID? {
        if case .member(let slot) = standing { return slot }
        return nil
    }

    func index(of service: String) -> Int? { services.firstIndex { $0.configuration.name == service } }

    mutating func setFence(_ on: Bool, into effects: inout [AgentEffect]) {
        guard fenced != on else { return }
        fenced = on
        effects.append(.fence(on))
    }

    mutating func setLease(_ new: Lease, into effects: inout [AgentEffect]) {
        guard lease != new else { return }
        lease = new
        effects.append(.lease(new))
    }

    mutating func setMembership(_ new: GroupMembership, into effects: inout [AgentEffect]) {
        guard membership != new else { return }
        membership = new
        effects.append(.membership(new))
        // Whoever carries this out forgets what peers that are not tapped have said.
        for index in peers.indices where !new.tapped.contains(peers[index].slot) { peers[index].handshakes = [] }
    }

    /// Traps when the state contradicts itself; called by the simulation after every step.
    public func checkInvariants() {
        switch standing {
        case .unstarted: precondition(lease == .none && orders.isEmpty)
        case .cleaning, .none, .welcomed, .stopped:
            precondition(fenced, "without a confirmed slot nothing may leave from the VIPs")
            precondition(lease == .none && orders.isEmpty && settled.isEmpty)
            precondition(membership == GroupMembership())
            precondition(services.allSatisfy { $0.restart == nil }, "a life that is over waits for nothing")
        case .member(let slot):
            precondition(!fenced && director != nil && table != nil)
            precondition(membership.own.contains(slot), "the own group must be heard")
        }
        precondition(orders.count <= Limits.slots && settled.count <= Limits.slots)
        precondition(Set(orders.map(\.slot)).isDisjoint(with: settled.map(\.slot)))
        precondition(Set(orders.map(\.slot)).count == orders.count)
        precondition(Set(membership.own).isDisjoint(with: membership.tapped))
        for order in orders {
            for waiting in order.contenders { precondition(condemned.contains(waiting.contender.life)) }
        }
        precondition(!endedLives.contains(life))
    }
}
