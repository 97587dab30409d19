import BuiltinModules
import Model
import ModuleInterfaces
import Wire

@testable import Cluster
@testable import SimulationKit

/// A cluster under one seed: real machines, a false network, false kernels, and a checker that sees everything.
///
/// Node 0 is the director; the agents follow.
final class World {
    struct Plan {
        var seed: UInt64
        var agents = 3
        var backups = 1
        /// Planted bug; nil for the honest run.
        var sabotage: Sabotage?
        /// Chances in 10,000 of a datagram's loss, doubling and long delay.
        var loss = 0
        var doubling = 0
        var lateness = 0
        /// Chance in 10,000 that a process dies between two effects of one step.
        var deathBetweenEffects = 0
        var trace = false
        /// Flows are counted, and back-ends drained.
        var drains = false
        /// A fence command is configured; its first runs fail.
        var fences = false
        var fenceFailures = 0
    }

    enum Sabotage: CaseIterable {
        /// The kernel lets frames out for two windows, while everybody else counts on the lease.
        case leaseOfTwoWindows
        /// A backup starts without waiting for promises to run out.
        case noWaiting
        /// A backup that was ordered to take over still echoes the former owner.
        case echoAfterOrder
        /// The director orders any live successor, whether the former owner asks it for its lease or not.
        case anySuccessor
        /// An agent keeps the lease that another set of backups has granted.
        case leaseSurvivesNewRing
        /// A fence is acknowledged, but not put up.
        case emptyFence
    }

    enum Process {
        case agent(AgentMachine)
        case director(DirectorMachine)
        case dead
    }

    enum Input {
        case agent(AgentInput)
        case director(DirectorInput)
    }

    struct Node {
        var clock: HostClock
        var process = Process.dead
        /// Counts the processes that ran here; what was meant for a former one is dropped.
        var incarnation = 0
        var powered = true
        var frozenUntil: TrueTime = 0
        var inbox: [Input] = []
        var timerGeneration = 0
        var timerWaiting = false
        var kernel = Kernel()
        var session: Int?
    }

    /// What of an agent's host outlives the agent.
    struct Kernel {
        var lease = Lease.none
        var fenced = false
        /// Slots whose sockets exist here: they send unless lease or fence forbid it.
        var sockets: [SlotID] = []
    }

    enum Event {
        case timer(node: Int, incarnation: Int, generation: Int)
        case datagram(Datagram, to: Int)
        case pump(session: Int, toDirector: Bool)
        case connectResult(node: Int, incarnation: Int, open: Bool)
        case socketsDestroyed(node: Int, incarnation: Int)
        case takeOver(node: Int, incarnation: Int, TakeOverReport)
        case healthCheck
        case thaw(node: Int)
        case start(node: Int)
        case fault(Fault)
        case heal(Fault)
        case count
        case fenceEnded(SlotID, incarnation: Int, fails: Bool)
        case look(node: Int, incarnation: Int, service: String)
    }

    var plan: Plan
    var random: SimulationRandom
    var now: TrueTime = 0
    var queue = EventQueue<Event>()
    var nodes: [Node] = []
    var links: Links
    var sessions: [ControlSession] = []
    var records: [SlotID: SlotRecord] = [:]
    var publications: [SlotPublication] = []
    /// The dispatch plan in force.
    var dispatch: [SlotID] = []
    /// What the director logged.
    var events: [DirectorEvent] = []
    /// Violations in words; empty when all went well.
    var violations: [String] = []
    var applicationUp: [Bool] = []
    var counts = Counts()
    /// Flows of each slot, and the random numbers of their ends: their own, so that other runs stay what they were.
    var flows: [SlotID: UInt32] = [:]
    var flowRandom: SimulationRandom
    var fenceRuns = 0
    /// A digest of everything that happened: the same for the same seed.
    var digest: UInt64 = 0

    /// How often the rare paths were gone, so that a quiet simulation cannot pass for a proof.
    struct Counts {
        var takeOversStarted = 0
        var takeOversSettled = 0
        var livesLost = 0
        var fencesAcknowledged = 0
        var orphans = 0
        var steps = 0
        var yields = 0
        var drained = 0
        var readoptions = 0
    }

    static let timings = ClusterTimings(
        heartbeatInterval: .milliseconds(20), window: .milliseconds(100), grace: .milliseconds(2100),
        retention: .milliseconds(700))

    init(_ plan: Plan) {
        self.plan = plan
        random = SimulationRandom(seed: plan.seed)
        links = Links(places: plan.agents + 1)
        flowRandom = SimulationRandom(seed: plan.seed ^ 0xd4a1)
        for _ in 0...plan.agents {
            let clock = HostClock(
                offset: UInt64(random.number(1_000_000_000...1_000_000_000_000_000)),
                drift: Int64(random.number(-200...200)))
            nodes.append(Node(clock: clock))
        }
        applicationUp = Array(repeating: true, count: plan.agents + 1)
        queue.push(.start(node: 0), at: 0)
        for node in 1...plan.agents { queue.push(.start(node: node), at: random.milliseconds(0...50)) }
        queue.push(.healthCheck, at: 1)
        if plan.drains { queue.push(.count, at: 2) }
    }

    func run(until end: TrueTime) {
        while violations.isEmpty, let (time, event) = queue.pop() {
            if time > end {
                queue.push(event, at: time)
                now = end
                return
            }
            now = time
            counts.steps += 1
            handle(event)
        }
    }

    func name(_ node: Int) -> String { node == 0 ? "director" : "web\(node)" }

    func trace(_ text: @autoclosure () -> String) {
        if plan.trace { print("\(Double(now / 1000) / 1000) ms  \(text())") }
    }

    private func handle(_ event: Event) {
        switch event {
        case .timer(let node, let incarnation, let generation):
            guard nodes[node].incarnation == incarnation, nodes[node].timerGeneration == generation else { return }
            if isFrozen(node) {
                nodes[node].timerWaiting = true
            } else {
                give(node, node == 0 ? .director(.timer) : .agent(.timer))
            }
        case .datagram(let datagram, let node):
            give(node, node == 0 ? .director(.datagram(datagram)) : .agent(.datagram(datagram)))
        case .pump(let session, let toDirector):
            pump(session, toDirector: toDirector)
        case .connectResult(let node, let incarnation, let open):
            guard nodes[node].incarnation == incarnation else { return }
            finishConnecting(node, open: open)
        case .socketsDestroyed(let node, let incarnation):
            guard nodes[node].incarnation == incarnation else { return }
            nodes[node].kernel.sockets = []
            give(node, .agent(.serviceSocketsDestroyed))
        case .takeOver(let node, let incarnation, let report):
            guard nodes[node].incarnation == incarnation else { return }
            if report.phase == .failed { nodes[node].kernel.sockets.removeAll { $0 == report.slot } }
            if report.phase == .settled { counts.takeOversSettled += 1 }
            give(node, .agent(.takeOver(report)))
        case .healthCheck:
            for node in 1..<nodes.count {
                give(node, .agent(.check(service: "www", passed: applicationUp[node])))
            }
            queue.push(.healthCheck, at: now + 50_000_000)
        case .thaw(let node): thaw(node)
        case .start(let node): start(node)
        case .fault(let fault): strike(fault)
        case .heal(let fault): heal(fault)
        case .count: countFlows()
        case .look(let node, let incarnation, let service):
            guard nodes[node].incarnation == incarnation, applicationUp[node] else { return }
            give(node, .agent(.listenerFound(service: service)))
        case .fenceEnded(let slot, let incarnation, let fails):
            guard nodes[0].incarnation == incarnation else { return }
            give(0, .director(.fenceCommandEnded(slot, failure: fails ? "no power switch" : nil)))
        }
    }

    // MARK: Processes

    func isFrozen(_ node: Int) -> Bool { nodes[node].frozenUntil > now }

    func isAlive(_ node: Int) -> Bool {
        if case .dead = nodes[node].process { return false }
        return nodes[node].powered
    }

    /// Runs a step, or keeps the input in the socket buffers of a frozen process.
    func give(_ node: Int, _ input: Input) {
        guard isAlive(node) else { return }
        if isFrozen(node) {
            // A datagram is lost when the socket buffer is full; a stream is held back by its sender instead.
            if nodes[node].inbox.count < 500 || !isDatagram(input) { nodes[node].inbox.append(input) }
            return
        }
        step(node, input)
    }

    private func isDatagram(_ input: Input) -> Bool {
        switch input {
        case .agent(.datagram), .director(.datagram): true
        case .agent, .director: false
        }
    }

    private func thaw(_ node: Int) {
        guard !isFrozen(node) else { return }
        let inputs = nodes[node].inbox
        let waiting = nodes[node].timerWaiting
        nodes[node].inbox = []
        nodes[node].timerWaiting = false
        let timer: Input = node == 0 ? .director(.timer) : .agent(.timer)
        let timerFirst = random.chance(1, in: 2)
        let incarnation = nodes[node].incarnation
        if waiting, timerFirst { give(node, timer) }
        for input in inputs where nodes[node].incarnation == incarnation { give(node, input) }
        if waiting, !timerFirst, nodes[node].incarnation == incarnation { give(node, timer) }
    }

    private func start(_ node: Int) {
        guard nodes[node].powered, !isAlive(node) else { return }
        nodes[node].incarnation += 1
        nodes[node].timerGeneration += 1
        nodes[node].inbox = []
        nodes[node].timerWaiting = false
        nodes[node].session = nil
        trace("\(name(node)) starts")
        if node == 0 {
            nodes[0].process = .director(DirectorMachine(life: Life(rawValue: random.next())))
            step(0, .director(.configuration(configuration())))
            if !records.isEmpty {
                step(0, .director(.restored(records.values.sorted { $0.slot < $1.slot })))
            }
        } else {
            let identity = AgentIdentity(
                name: name(node), mac: MACAddress(rawValue: UInt64(0x0200_0000_0000 + node)), address: address(node),
                services: [AgentService(name: "www", rise: 1, fall: 1)])
            nodes[node].process = .agent(AgentMachine(identity: identity, seed: random.next()))
            step(node, .agent(.start))
        }
    }

    /// The process is gone; its kernel goes on with the lease that it has.
    func kill(_ node: Int) {
        guard case .dead = nodes[node].process else {
            nodes[node].process = .dead
            nodes[node].inbox = []
            nodes[node].timerWaiting = false
            closeSessions(of: node)
            trace("\(name(node)) dies")
            return
        }
    }

    func address(_ node: Int) -> IPAddress { IPAddress(ipv4: 0x0a00_0000 + UInt32(node)) }

    func node(_ address: IPAddress) -> Int? {
        address.ipv4.map { Int($0 & 0xff) }.flatMap { $0 < nodes.count ? $0 : nil }
    }

    private func configuration() -> DirectorConfiguration {
        let registry = BuiltinModules.registry
        let service = ServiceDescription(
            id: ServiceID(rawValue: 0), name: "www",
            endpoint: Endpoint(address: IPAddress(ipv4: 0x0a00_00fe), port: 80), replay: .stream)
        return DirectorConfiguration(
            backends: (1..<nodes.count).map { BackendConfiguration(name: name($0), address: address($0)) },
            services: [ServiceConfiguration(service, policy: RoundRobin())],
            backups: plan.backups,
            ring: SuccessorRing(),
            detector: registry.detection[0].make,
            fencesByCommand: plan.fences,
            timings: Self.timings
        )
    }

    private func step(_ node: Int, _ input: Input) {
        let local = nodes[node].clock.local(now)
        switch (nodes[node].process, input) {
        case (.agent(var machine), .agent(let input)):
            nodes[node].process = .dead
            var effects: [AgentEffect] = []
            let condemned = prepare(&machine, input)
            machine.handle(input, now: local, into: &effects)
            if let condemned { machine.condemned = condemned }
            machine.checkInvariants()
            nodes[node].process = .agent(machine)
            sabotage(&effects)
            carryOut(effects, node)
        case (.director(var machine), .director(let input)):
            nodes[node].process = .dead
            var effects: [DirectorEffect] = []
            machine.handle(input, now: local, into: &effects)
            machine.checkInvariants()
            sabotage(&machine)
            nodes[node].process = .director(machine)
            carryOut(effects)
        case (.dead, _), (.agent, .director), (.director, .agent): break
        }
    }

    func diesHere() -> Bool {
        plan.deathBetweenEffects > 0 && random.chance(plan.deathBetweenEffects, in: 10_000)
    }

    func mix(_ value: UInt64) { digest = (digest ^ value) &* 0x100_0000_01b3 &+ now }
}

extension SimulationRandom {
    /// Nanoseconds, from milliseconds.
    mutating func milliseconds(_ range: ClosedRange<Int>) -> UInt64 {
        microseconds(range.lowerBound * 1000...range.upperBound * 1000)
    }
}
