import Cluster
import Model
import ModuleInterfaces
import Wire

/// A whole cluster under one seed: the real machines of director and agents, a model of everything around them, and
/// checkers that see everything.
///
/// The same seed and scenario are the same run, event by event. Not thread-safe; one value for one run.
public final class Simulation {
    indirect enum Event {
        case agentTimer(host: Int, incarnation: Int, generation: Int)
        case directorTimer(incarnation: Int, generation: Int)
        case datagram(Datagram, to: Int)
        case pump(session: Int, up: Bool)
        case connected(host: Int, incarnation: Int, open: Bool)
        case socketsDestroyed(host: Int, incarnation: Int)
        case healthCheck(host: Int, incarnation: Int)
        case report(AgentInput, host: Int, incarnation: Int)
        case data(DataInput, host: Int, incarnation: Int)
        case wake(host: Int, incarnation: Int)
        case frame([UInt8], to: Int, kernelLife: Int)
        case fromClient([UInt8])
        case toClient([UInt8], client: Int)
        case clientTimer(Int)
        case clientStart(Int)
        case socketTimer(host: Int, kernelLife: Int, socket: Int)
        case application(host: Int, life: Int, socket: Int)
        case fault(Int)
        case heal(Fault)
        case watch(since: TrueTime)
        case startAgent(Int)
        case startDirector
        case startApplication(Int)
        case thaw(Int)
    }

    public let seed: UInt64
    public let scenario: Scenario
    /// What went wrong, in words; empty when all is well. The run ends with the first.
    public internal(set) var violations: [String] = []
    public internal(set) var counts = SimulationCounts()
    /// One line for each event worth telling, where tracing is on.
    var sink: ((String) -> Void)?

    var random: SimulationRandom
    var now: TrueTime = 0
    var queue = EventQueue<Event>()
    var links: Links
    var hosts: [Host] = []
    var sessions: [ControlSession] = []
    var director: DirectorMachine?
    var directorInbox: [DirectorInput] = []
    var directorTimer = (generation: 0, waiting: false)
    var plane = DirectorPlane()
    var clients: [ModelClient] = []
    var clientIndex: [Endpoint: Int] = [:]
    var clientTimerAt: [TrueTime] = []
    var faults: [PlannedFault] = []
    var activeFaults = 0
    var checker = Checker()
    var applicationLife: [Int] = []
    /// What is published where HTTP is spoken.
    let site: WebSite?
    private var lastSocket = 0

    static let timings = ClusterTimings(
        heartbeatInterval: .milliseconds(20), window: .milliseconds(100), grace: .milliseconds(2100))
    /// By now every connection has ended, or hangs.
    static let horizon: TrueTime = 90_000_000_000

    public init(seed: UInt64, scenario: Scenario) {
        self.seed = seed
        self.scenario = scenario
        random = SimulationRandom(seed: seed)
        links = Links(places: scenario.agents + 2)
        site =
            scenario.http == nil
            ? nil : WebSite(hosts: scenario.agents + 1, longest: 24_000, &random)
        for index in 0...scenario.agents {
            let clock = HostClock(
                offset: UInt64(random.number(1_000_000_000...1_000_000_000_000)), drift: Int64(random.number(-200...200)))
            let pathDelay = random.microseconds(0...scenario.pathSkew)
            hosts.append(Host(index: index, clock: clock, pathDelay: pathDelay))
        }
        applicationLife = Array(repeating: 0, count: hosts.count)
        queue.push(.startDirector, at: 0)
        for index in 1..<hosts.count { powerOn(index, after: random.microseconds(0...20_000)) }
        for index in 0..<scenario.clients {
            let client = ModelClient(ClientPlan.draw(index, scenario, site, &random))
            clientIndex[client.plan.flow.client] = index
            clients.append(client)
            clientTimerAt.append(.max)
            queue.push(.clientStart(index), at: client.plan.start)
        }
        drawFaults()
    }

    public func run() {
        var calmSince: TrueTime?
        while violations.isEmpty, let (time, event) = queue.pop() {
            now = time
            counts.events += 1
            handle(event)
            if calmSince == nil, isOver { calmSince = now }
            if let calmSince, now > calmSince + 300_000_000 { break }
            if now > Self.horizon { break }
        }
        counts.virtualMilliseconds += Int(now / 1_000_000)
        if violations.isEmpty { checkEnd() }
    }

    private var isOver: Bool { activeFaults == 0 && clients.allSatisfy { $0.outcome != nil } }

    func trace(_ text: @autoclosure () -> String) {
        guard let sink else { return }
        sink("\(now / 1_000_000).\(String(1000 + now / 1000 % 1000).dropFirst()) ms  \(text())")
    }

    func nextSocket() -> Int {
        lastSocket += 1
        return lastSocket
    }

    /// Often close to the end of the circle, so that it is passed.
    func drawISS() -> UInt32 {
        random.chance(1, in: 6) ? UInt32.max &- UInt32(random.number(0...20_000)) : UInt32(
            truncatingIfNeeded: random.next())
    }

    // MARK: Events

    private func handle(_ event: Event) {
        switch event {
        case .agentTimer, .datagram, .pump, .connected, .socketsDestroyed, .healthCheck, .report, .startAgent,
            .directorTimer, .startDirector:
            handleControl(event)
        case .data(let input, let host, let incarnation):
            if hosts[host].incarnation == incarnation { giveData(input, to: host) }
        case .wake(let host, let incarnation):
            guard hosts[host].incarnation == incarnation else { return }
            hosts[host].wakeAt = .max
            giveData(.wake, to: host)
        case .frame(let bytes, let host, let life):
            if hosts[host].kernelLife == life, let kernel = hosts[host].kernel { kernel.received(bytes) }
        case .fromClient(let bytes): arrivedAtDirector(bytes)
        case .toClient(let bytes, let client): arrived(bytes, at: client)
        case .clientStart(let client):
            trace("client \(client) connects: \(clients[client].plan.summary)")
            clients[client].start(now)
            settle(client)
            trigger { if case .started(client, let delay) = $0 { delay } else { nil } }
        case .clientTimer(let client):
            clientTimerAt[client] = .max
            clients[client].tick(now)
            settle(client)
        case .socketTimer(let host, let life, let id):
            guard hosts[host].kernelLife == life, let kernel = hosts[host].kernel, let socket = kernel.socket(id: id)
            else { return }
            socket.timerAt = .max
            kernel.run(socket) { $0.tick(now) }
        case .application(let host, let life, let id): serve(host, life, id)
        case .fault(let index): strike(index)
        case .heal(let fault): heal(fault)
        case .watch(let since): watchProtection(since: since)
        case .startApplication(let host): startApplication(host)
        case .thaw(let host): thaw(host)
        }
    }

    private func handleControl(_ event: Event) {
        switch event {
        case .agentTimer(let host, let incarnation, let generation):
            guard hosts[host].incarnation == incarnation, hosts[host].timerGeneration == generation else { return }
            if isFrozen(host) { hosts[host].timerWaiting = true } else { give(.timer, to: host) }
        case .directorTimer(let incarnation, let generation):
            guard hosts[0].incarnation == incarnation, directorTimer.generation == generation else { return }
            if isFrozen(0) { directorTimer.waiting = true } else { give(.timer) }
        case .datagram(let datagram, let host):
            if host == 0 { give(.datagram(datagram)) } else { give(.datagram(datagram), to: host) }
        case .pump(let session, let up): pump(session, up: up)
        case .connected(let host, let incarnation, let open):
            if hosts[host].incarnation == incarnation { connected(host, open: open) }
        case .socketsDestroyed(let host, let incarnation):
            destroySockets(host, incarnation)
        case .healthCheck(let host, let incarnation): checkHealth(host, incarnation)
        case .report(let input, let host, let incarnation):
            if hosts[host].incarnation == incarnation { give(input, to: host) }
        case .startAgent(let host): startAgent(host)
        case .startDirector: startDirector()
        case _: preconditionFailure("no event of the control threads")
        }
    }

    // MARK: Clients

    func settle(_ index: Int) {
        let client = clients[index]
        let packets = client.output
        client.output = []
        for packet in packets {
            if sink != nil { trace("client \(index) -> \(describe(packet))") }
            crossRouter(outside, 0, .fromClient(packet))
        }
        if client.web?.hasAll == true, checker.answered[index] == nil {
            checker.answered[index] = now
            trigger { if case .answered(index, let delay) = $0 { delay } else { nil } }
        }
        if let outcome = client.outcome, checker.ended.insert(index).inserted { checkOutcome(index, outcome) }
        let deadline = client.deadline
        if deadline < clientTimerAt[index] {
            clientTimerAt[index] = deadline
            queue.push(.clientTimer(index), at: max(deadline, now))
        }
    }

    private func arrived(_ bytes: [UInt8], at index: Int) {
        guard let frame = bytes.parsedPacket() else { return }
        let client = clients[index]
        client.receive(Segment(frame, in: bytes), now)
        settle(index)
        if let fault = client.fault { violate("client \(index): \(fault)") }
        trigger {
            if case .received(index, let count, let delay) = $0, client.received >= count { delay } else { nil }
        }
    }

    private func arrivedAtDirector(_ packet: [UInt8]) {
        var frame = Ethernet.frame(packet, to: hosts[0].mac, from: MACAddress(rawValue: 0x0200_0000_ffff))
        guard let parsed = frame.parsedFrame() else { return }
        switch plane.serve(parsed, now: now, chaos: scenario.chaos) {
        case .drop: break
        case .forward(let destination):
            Ethernet.redirect(&frame, to: destination)
            transmit(frame, from: 0, to: destination)
        case .pass:
            guard parsed.flags.contains(.ack), !parsed.flags.contains(.rst),
                let client = clientIndex[parsed.flow.client]
            else { return }
            counts.directorResets += 1
            trace("director: RST for client \(client)")
            let reset = TCPPacket(
                from: parsed.flow.service, to: parsed.flow.client, sequence: parsed.acknowledgment,
                acknowledgment: SequenceNumber(0), flags: [.rst], window: 0)
            crossRouter(0, outside, .toClient(reset.encode(), client: client))
        }
    }

    /// A frame of a VIP has passed the egress hook of a host.
    func leave(_ bytes: [UInt8], _ flow: FlowKey, _ host: Int) {
        guard let client = clientIndex[flow.client] else { return }
        checkTalker(flow, host)
        if sink != nil { trace("\(hosts[host].name) -> client \(client) \(describe(bytes))") }
        if site != nil, frameStartsReply(bytes) { post(.reply(bytes), to: host, source: 4) }
        if isSynAck(bytes), scenario.chaos != .issGuessed { post(.synAck(bytes), to: host, source: 7) }
        crossRouter(host, outside, .toClient(bytes, client: client))
    }

    /// The filter of SynAckTap.
    private func isSynAck(_ packet: [UInt8]) -> Bool {
        packet.parsedPacket()?.flags.isSuperset(of: [.syn, .ack]) ?? false
    }

    /// The filter of ReplyTap.swift.
    private func frameStartsReply(_ packet: [UInt8]) -> Bool {
        guard let payload = packet.parsedPacket()?.payload, payload.count > 12 else { return false }
        return packet[payload].starts(with: Array("HTTP/1.".utf8))
    }

    private func describe(_ bytes: [UInt8]) -> String {
        guard let frame = bytes.parsedPacket() else { return "?" }
        let names: [(TCPFlags, String)] = [(.syn, "SYN"), (.fin, "FIN"), (.rst, "RST"), (.ack, "ACK")]
        let flags = names.filter { frame.flags.contains($0.0) }.map(\.1).joined(separator: ",")
        return "\(flags) seq \(frame.sequence) ack \(frame.acknowledgment) win \(frame.window) "
            + "len \(frame.payloadLength)"
    }
}

/// How often the paths were gone, so that a quiet simulation cannot pass for a proof.
public struct SimulationCounts: Sendable {
    public var runs = 0
    public var events = 0
    public var virtualMilliseconds = 0
    public var faults = 0
    public var takeOversStarted = 0
    /// Slots of which a backup had got everything that was older than its tap.
    public var synchronised = 0
    public var adopted = 0
    /// Of these, those that a restarted application has got back on its own machine.
    public var readopted = 0
    public var reflected = 0
    public var clamped = 0
    public var whole = 0
    public var reset = 0
    public var gaveUp = 0
    public var directorResets = 0
    /// Connections that had to survive a single failure, and did.
    public var protected = 0
    /// Clients that had everything but the end when their server was taken from them, and got it from another.
    public var closed = 0
    /// Failures that met a cluster which had made good an earlier one.
    public var further = 0
    /// Of the protected ones, those whose server was lost to them more than once.
    public var adoptedAgain = 0
    /// By the raw value of `ResetCause`.
    public var resets = [Int](repeating: 0, count: ResetCause.allCases.count)

    public init() {}

    public mutating func add(_ other: SimulationCounts) {
        runs += other.runs
        events += other.events
        virtualMilliseconds += other.virtualMilliseconds
        faults += other.faults
        takeOversStarted += other.takeOversStarted
        synchronised += other.synchronised
        adopted += other.adopted
        readopted += other.readopted
        reflected += other.reflected
        clamped += other.clamped
        whole += other.whole
        reset += other.reset
        gaveUp += other.gaveUp
        directorResets += other.directorResets
        protected += other.protected
        closed += other.closed
        further += other.further
        adoptedAgain += other.adoptedAgain
        for index in resets.indices { resets[index] += other.resets[index] }
    }
}
