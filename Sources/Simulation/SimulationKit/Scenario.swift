import Model

/// Bugs that are planted into the model kernel or its edges; the checkers must find each of them.
///
/// Nothing of the production code knows of this.
public enum Chaos: String, Sendable, CaseIterable {
    /// The segment that crosses SND.UNA is swallowed like those before it.
    case swallowTooFar
    /// ACKs above SND.NXT reach the adopted socket as they are.
    case clampMissing
    /// The kernel sends without a valid lease.
    case leaseIgnored
    /// The end of a life is said to be in force, but is not: no fence, the lease as it was, sockets that live on.
    case emptyFence
    /// Windows told below the client's place are rounded down to its scale, and end at its edge.
    case windowRoundedDown
    /// FIN and RST of a dying application leave the host.
    case guardMissing
    /// The journal reaches the socket with one bit turned.
    case journalAltered
    /// The adopted socket's reply starts one byte early.
    case adoptedOneOff
    /// Pure ACKs of a slot that is being taken over go to the old owner alone, as if nothing had happened.
    case takeOverFlagIgnored
    /// The data plane lets regenerated replies pass that nobody has held against the dead server's.
    case verdictIgnored
    /// The sockets of a life that is over are destroyed while one of its take-overs can still make another.
    case barrierMissing
    /// Nobody tells SYN-ACKs, and what a client's first ACK seems to say of the ISS is taken for certain.
    case issGuessed
}

/// What befalls the cluster.
public enum Disturbance: Hashable, Sendable {
    /// The host loses its power; after `downtime` it starts from nothing.
    case power
    case cable
    /// Every process of the host is stopped; its kernel goes on.
    case freeze
    /// `kill -9` of the server application; the guard keeps its FINs back.
    case application
    /// `kill -9` of the agent.
    case agent
    /// `kill -9` of the director's daemon; its data plane goes on.
    case director
    case directorFreeze
    /// One direction of one pair of hosts is cut.
    case oneWay
    /// Two islands.
    case islands
}

/// When a disturbance strikes, and whom.
struct PlannedFault {
    enum Trigger {
        case at(TrueTime)
        /// So long after a client has begun to connect.
        case started(client: Int, delay: TrueTime)
        /// So long after a client has received so many bytes.
        case received(client: Int, bytes: Int, delay: TrueTime)
        /// So long after the first take-over has begun.
        case takingOver(delay: TrueTime)
        /// So long after a client has everything that it has asked for.
        case answered(client: Int, delay: TrueTime)
        /// So long after all is protected again that was protected at the failure before.
        case protected(client: Int, delay: TrueTime)
    }

    enum Victim {
        /// Who serves the client that triggered it, or the first client's owner.
        case owner
        /// Whoever runs the take-over.
        case taker
        case agent(Int)
    }

    var kind: Disturbance
    var trigger: Trigger
    var victim: Victim
    var duration: TrueTime
    var isArmed = true
}

/// The shape of one run; everything that is not given here is drawn from the seed.
public struct Scenario: Sendable {
    public var agents = 3
    /// N of the ring.
    public var backups = 1
    public var clients = 2
    /// Chances in 10,000 for each packet between clients and the LAN.
    public var loss = 0
    public var duplication = 0
    public var reordering = 0
    /// Chance in 10,000 that one receiver misses a frame of the LAN, its tap included.
    public var lanLoss = 0
    /// Chance in 10,000 that a control datagram is lost, or comes late.
    public var datagramLoss = 0
    /// One way between clients and the LAN, in microseconds.
    public var clientDelay = 300
    /// The way from each host to the clients is longer by up to so many microseconds: frames of a dead server come late.
    public var pathSkew = 0
    /// How often something goes wrong; nil: drawn. With exactly one, nothing that was protected may be reset.
    public var faults: Int?
    /// One failure after another, each when the one before is healed and made good: nothing that was protected may be
    /// lost, however many there are.
    public var succession = false
    /// Only disturbances of these kinds; empty: all.
    public var kinds: [Disturbance] = []
    /// Whatever comes second befalls whoever takes over, just as it does.
    public var strikesTaker = false
    /// The server speaks first.
    public var greeting = false
    /// Chance in 100 that the kernel silently drops an adoption (a full accept queue).
    public var adoptionLoss = 0
    /// Segments that an adopted socket may send before the first acknowledgment.
    public var adoptedWindow = 10
    /// What clients announce and how they read; nil: drawn.
    public var buffer: Int?
    public var windowScale: UInt8?
    /// Chance in 100 that a client stops reading for a while, so that its window closes.
    public var pauses = 33
    public var chaos: Chaos?
    /// Servers and clients speak HTTP, and the service is replayed as such; nil: the protocol of `Exchange`.
    public var http: HTTPReplay?
    /// Servers close late, all clients wait for that, and the first thing to go wrong does so then.
    public var strikesLast = false
    /// Milliseconds that a crashed application is given to come back, and go on with its connections itself.
    public var restartGrace = 0

    public init() {}

    /// The scenario of a seed in which applications crash and come back, some in time and some not.
    public static func drawnRestart(from seed: UInt64) -> Scenario {
        var scenario = seed % 2 == 0 ? drawn(from: seed) : drawnHTTP(from: seed)
        var random = SimulationRandom(seed: seed ^ 0x4e57_a47)
        scenario.succession = false
        scenario.faults = random.pick([1, 1, 1, 2, 3])
        scenario.kinds = random.chance(2, in: 3) ? [.application] : [.application, .application, .agent, .power]
        scenario.restartGrace = random.pick([200, 1_000, 1_000, 3_000])
        return scenario
    }

    /// The scenario of a seed in which servers die between a last reply and their FIN.
    public static func drawnClosing(from seed: UInt64) -> Scenario {
        var scenario = drawnHTTP(from: seed)
        var random = SimulationRandom(seed: seed ^ 0xf1f1)
        scenario.strikesLast = true
        scenario.faults = random.pick([1, 1, 1, 2, 3])
        scenario.kinds = random.chance(1, in: 2) ? [.power, .application, .freeze, .cable] : []
        return scenario
    }

    /// The scenario of a seed in which HTTP is spoken.
    public static func drawnHTTP(from seed: UInt64, chaos: Chaos? = nil) -> Scenario {
        var scenario = drawn(from: seed, chaos: chaos)
        var random = SimulationRandom(seed: seed ^ 0x4774_9110)
        scenario.greeting = false
        scenario.kinds = []
        if scenario.succession {
            scenario.succession = false
            scenario.faults = 1
        }
        // The one thing that is not covered: docs/design/0004-http-replay.md, "Frames that come late".
        scenario.pathSkew = 0
        scenario.reordering = 0
        scenario.http = HTTPReplay(
            methods: random.pick([.safe, .safe, .idempotent, .all]), rangeFrom: random.pick([nil, 1, 1000, 10_000]))
        return scenario
    }

    /// The scenario of a seed.
    public static func drawn(from seed: UInt64, chaos: Chaos? = nil) -> Scenario {
        var random = SimulationRandom(seed: seed ^ 0x5ce_a210)
        var scenario = Scenario()
        scenario.agents = random.pick([2, 3, 3, 3, 4])
        scenario.backups = random.pick([1, 1, 2])
        scenario.clients = random.pick([1, 2, 3, 4])
        scenario.clientDelay = random.pick([50, 300, 2000, 15_000])
        scenario.pathSkew = random.pick([0, 0, 5_000, 60_000])
        scenario.loss = random.pick([0, 0, 0, 50, 200])
        scenario.duplication = random.pick([0, 0, 100])
        scenario.reordering = random.pick([0, 0, 300])
        scenario.lanLoss = random.pick([0, 0, 0, 0, 30])
        scenario.datagramLoss = random.pick([0, 0, 0, 100])
        scenario.faults = random.pick([0, 1, 1, 1, 1, 2, 3, 5])
        scenario.greeting = random.chance(1, in: 6)
        scenario.adoptionLoss = random.pick([0, 0, 0, 30])
        scenario.adoptedWindow = random.pick([10, 10, 10, 3])
        scenario.chaos = chaos
        if chaos == nil, !scenario.greeting, random.chance(1, in: 4) {
            scenario.succession = true
            scenario.faults = random.number(2...4)
            scenario.lanLoss = 0
        }
        return scenario
    }
}

/// What one client does.
struct ClientPlan {
    var start: TrueTime
    var flow: FlowKey
    var iss: UInt32
    var options: HandshakeOptions
    /// Bytes of the receive buffer.
    var buffer: Int
    /// The application reads so much every so often; interval 0: at once.
    var readBytes: Int
    var readInterval: TrueTime
    /// At this place of the stream the application stops reading for a while.
    var pauseAt: Int
    var pauseFor: TrueTime
    var requests: [[UInt8]]
    /// What one unfailing server would send.
    var expected: [UInt8]
    var serverCloses: Bool
    /// Where HTTP is spoken: the requests, and how many the client has on their way at a time.
    var web: [WebRequest] = []
    var depth = 1
    /// Bytes of reply, about; what faults are aimed at.
    var replyBytes: Int

    static func draw(
        _ index: Int,
        _ scenario: Scenario,
        _ site: WebSite?,
        _ random: inout SimulationRandom
    ) -> ClientPlan {
        // A dialogue that is over after the first failure shows nothing of the second.
        let count = scenario.succession ? random.number(3...8) : random.pick([1, 1, 1, 2, 3])
        var requests: [[UInt8]] = []
        var expected = scenario.greeting ? Exchange.greeting : []
        let serverCloses = random.chance(1, in: 2) || scenario.strikesLast
        let drawnBuffer = random.pick([1_000, 3_000, 3_000, 8_192, 8_192, 30_000, 30_000, 65_535, 65_535])
        // HTTP has more to say than crawls through such a window in the time of a run.
        let buffer = scenario.buffer ?? (site == nil ? drawnBuffer : max(drawnBuffer, 3_000))
        // Through a window below the MSS data crawls: the sender waits for its probe timer again and again.
        let longest = buffer < 2_000 ? 4_000 : 40_000
        var web: [WebRequest] = []
        var replyBytes = 0
        for number in 0..<(site == nil ? 0 : random.pick([1, 2, 3, 6])) {
            var request = WebRequest.draw(&random)
            request.first = request.first.flatMap { site?.file(request.file, on: 0)?.length ?? 0 > $0 ? $0 : nil }
            web.append(request)
            replyBytes += 300 + (request.method == "HEAD" ? 0 : site?.file(request.file, on: number % 2)?.length ?? 0)
        }
        if serverCloses, !web.isEmpty { web[web.count - 1].closes = true }
        let depth = site == nil ? 1 : random.pick([1, 1, 1, 2, 8])
        requests = web.map { $0.bytes() }
        for number in 0..<(site == nil ? count : 0) {
            let header = Exchange.Header(
                requestBytes: random.chance(1, in: 12) ? random.number(20_000...70_000) : random.number(12...2500),
                replyBytes: random.chance(1, in: 8) ? random.number(1...600) : random.number(2_000...longest),
                serverCloses: serverCloses && number == count - 1,
                thinking: random.chance(scenario.succession ? 4 : 1, in: 5)
                    ? random.number(1...(scenario.succession ? 250 : 120)) : 0
            )
            let request = Exchange.request(header, &random)
            requests.append(request)
            expected += Exchange.reply(to: request[...])
        }
        if site == nil { replyBytes = expected.count }
        let paces = random.chance(2, in: 3)
        let interval = random.microseconds(2_000...40_000)
        return ClientPlan(
            start: random.microseconds(120_000...500_000),
            flow: FlowKey(
                client: Endpoint(
                    address: IPAddress(ipv4: 0xc612_0000 + UInt32(index) + 1), port: UInt16(40_000 + index)),
                service: Host.service
            ),
            iss: random.chance(1, in: 6) ? UInt32.max &- UInt32(random.number(0...3000)) : UInt32(
                truncatingIfNeeded: random.next()),
            options: HandshakeOptions(
                mss: random.pick([1460, 1460, 1460, 536, 1200, random.chance(1, in: 4) ? 500 : 1460]),
                windowScale: scenario.windowScale ?? random.pick([nil, 0, 2, 7, 10]),
                sackPermitted: random.chance(1, in: 2),
                timestamps: random.chance(3, in: 4)
            ),
            buffer: buffer,
            readBytes: random.number(500...8_000),
            readInterval: paces ? interval : 0,
            pauseAt: random.chance(scenario.pauses, in: 100) ? random.number(0...max(replyBytes, 1)) : .max,
            pauseFor: random.microseconds(50_000...1_500_000),
            requests: requests,
            expected: expected,
            serverCloses: serverCloses,
            web: web,
            depth: depth,
            replyBytes: replyBytes
        )
    }
}
