import BuiltinModules
import Model
import ModuleInterfaces
import Testing
import Wire

@testable import Cluster
@testable import SimulationKit

/// Single inputs to single machines: what is old, foreign or out of place changes nothing and is counted.
@Suite("Machines' inputs")
struct MachineInputTests {
    static let start = Instant(nanoseconds: 1_000_000_000_000)
    static let service = ServiceDescription(
        id: ServiceID(rawValue: 0), name: "www", endpoint: Endpoint(address: IPAddress(ipv4: 1), port: 80),
        replay: .stream)

    static func director(_ names: [String] = ["web1", "web2"]) -> DirectorMachine {
        var machine = DirectorMachine(life: Life(rawValue: 99))
        var effects: [DirectorEffect] = []
        let configuration = DirectorConfiguration(
            backends: names.map { BackendConfiguration(name: $0, address: IPAddress(ipv4: 7)) },
            services: [ServiceConfiguration(service, policy: RoundRobin())],
            ring: SuccessorRing(),
            detector: BuiltinModules.registry.detection[0].make)
        machine.handle(.configuration(configuration), now: start, into: &effects)
        return machine
    }

    static func join(_ name: String, life: UInt64, held: SlotID? = nil) -> StreamMessage {
        .join(
            Join(
                name: name, life: Life(rawValue: life), mac: MACAddress(rawValue: life), address: IPAddress(ipv4: 5),
                heldSlot: held))
    }

    private func refusal(_ effects: [DirectorEffect]) -> Refusal.Reason? {
        for case .send(.refused(let refusal), _) in effects { return refusal.reason }
        return nil
    }

    private func session(_ number: UInt64) -> SessionID { SessionID(rawValue: number) }

    private func heartbeat(_ sequence: UInt64, life: UInt64 = 1, director: UInt64 = 99) -> DirectorInput {
        .datagram(
            Datagram(
                sender: BackendID(rawValue: 0), senderLife: Life(rawValue: life),
                receiverLife: Life(rawValue: director), sequence: sequence, sentAt: Self.start,
                body: .heartbeat(Heartbeat(lease: .milliseconds(45)))))
    }

    @Test("Joins that are refused, and why")
    func refusals() {
        var machine = Self.director()
        var effects: [DirectorEffect] = []
        let cases: [(StreamMessage, Refusal.Reason?)] = [
            (Self.join("web9", life: 1), .unknownName),
            (Self.join("web1", life: 1, held: SlotID(rawValue: 3)), .lifeUnknown),
            (Self.join("web1", life: 1), nil),
            (Self.join("web1", life: 2), .duplicateName),
            (Self.join("web1", life: 1), nil),
        ]
        for (index, (message, reason)) in cases.enumerated() {
            effects = []
            machine.handle(.received(message, from: session(UInt64(index))), now: Self.start, into: &effects)
            machine.checkInvariants()
            #expect(refusal(effects) == reason)
            #expect(effects.contains(.close(session(UInt64(index)))) == (reason != nil))
        }
        // The same life on a new session: the former session is closed, the slot stays.
        #expect(effects.contains(.close(session(2))))
        #expect(machine.slots.count == 1)
    }

    @Test("The record of a new slot is safe before its agent hears of it")
    func recordFirst() throws {
        var machine = Self.director()
        var effects: [DirectorEffect] = []
        machine.handle(.received(Self.join("web1", life: 1), from: session(1)), now: Self.start, into: &effects)
        let record = try #require(effects.firstIndex { if case .publish = $0 { true } else { false } })
        let welcome = try #require(effects.firstIndex { if case .send(.welcome, _) = $0 { true } else { false } })
        let ring = try #require(effects.firstIndex { if case .send(.ring, _) = $0 { true } else { false } })
        #expect(record < welcome && welcome < ring)
    }

    @Test("Heartbeats: the first is echoed; old ones and those of other lives are counted")
    func heartbeats() {
        var machine = Self.director()
        var effects: [DirectorEffect] = []
        machine.handle(.received(Self.join("web1", life: 1), from: session(1)), now: Self.start, into: &effects)
        let inputs: [(DirectorInput, Bool)] = [
            (heartbeat(5), true), (heartbeat(5), false), (heartbeat(4), false), (heartbeat(6, life: 2), false),
            (heartbeat(6, director: 98), false), (heartbeat(6), true),
        ]
        for (input, echoed) in inputs {
            effects = []
            machine.handle(input, now: Self.start, into: &effects)
            #expect(effects.contains { if case .datagram = $0 { true } else { false } } == echoed)
        }
        #expect(machine.drops.stale == 2 && machine.drops.wrongLife == 2)
    }

    @Test("A configuration without a back-end takes its new flows, not its slot")
    func reload() {
        var machine = Self.director()
        var effects: [DirectorEffect] = []
        machine.handle(.received(Self.join("web1", life: 1), from: session(1)), now: Self.start, into: &effects)
        machine.handle(.received(.ringAcknowledged(machine.epoch), from: session(1)), now: Self.start, into: &effects)
        let up = StreamMessage.sign(Sign(service: ServiceID(rawValue: 0), kind: .up))
        effects = []
        machine.handle(.received(up, from: session(1)), now: Self.start, into: &effects)
        // The candidates are for a table whose slots are all full.
        let slot = SlotID(rawValue: 0)
        let plan = DispatchPlan(kind: .counter, table: [slot], candidates: [.init(slot: slot, weight: 1)])
        #expect(effects.contains(.plan(ServiceID(rawValue: 0), plan)))
        var configuration = machine.configuration!
        configuration.backends.removeFirst()
        effects = []
        machine.handle(.configuration(configuration), now: Self.start, into: &effects)
        #expect(effects.contains(.plan(ServiceID(rawValue: 0), .nobody)))
        #expect(machine.slots.count == 1)
        machine.checkInvariants()
    }

    @Test("Slots that rest are retired, then used again; never one that may still be talked for")
    func slotReuse() {
        var machine = Self.director()
        var effects: [DirectorEffect] = []
        var now = Self.start
        for life in 1...UInt64(Limits.slots) + 1 {
            effects = []
            machine.handle(.received(Self.join("web1", life: life), from: session(life)), now: now, into: &effects)
            machine.checkInvariants()
            let leaving = StreamMessage.sign(Sign(service: ServiceID(rawValue: 0), kind: .leaving))
            if life <= UInt64(Limits.slots) {
                #expect(refusal(effects) == nil)
                machine.handle(.received(leaving, from: session(life)), now: now, into: &effects)
            } else {
                #expect(refusal(effects) == .noSlotFree)
            }
            now = now + .milliseconds(1)
        }
        #expect(machine.slots.allSatisfy { $0.holder == .retired })
        now = now + machine.timings.slotRest
        effects = []
        machine.handle(.received(Self.join("web1", life: 5000), from: session(5000)), now: now, into: &effects)
        #expect(machine.members.first?.slot == SlotID(rawValue: 0))
        #expect(machine.slots.count == Limits.slots)
    }

    @Test("Timings that cannot work are named")
    func timings() {
        #expect(ClusterTimings().fault == nil)
        #expect(ClusterTimings(window: .milliseconds(15)).fault != nil)
        #expect(ClusterTimings(lease: .seconds(3)).fault != nil)
        #expect(ClusterTimings(grace: .seconds(1)).fault != nil)
        #expect(ClusterTimings(heartbeatInterval: .zero).fault != nil)
    }
}

/// Authenticated, but out of its mind: any message at any time. Neither machine may trap or contradict itself.
@Suite("Machines under nonsense")
struct MachineNonsenseTests {
    @Test("A director with mad agents", arguments: 0..<12)
    func director(_ seed: Int) {
        var random = SimulationRandom(seed: UInt64(seed))
        var machine = MachineInputTests.director(["web1", "web2", "web3"])
        var effects: [DirectorEffect] = []
        var now = MachineInputTests.start
        for _ in 0..<1500 {
            now = now + .microseconds(Int64(random.number(0...30_000)))
            effects = []
            machine.handle(input(&random), now: now, into: &effects)
            machine.checkInvariants()
        }
    }

    @Test("An agent with a mad director", arguments: 0..<12)
    func agent(_ seed: Int) {
        var random = SimulationRandom(seed: UInt64(seed) << 20)
        var machine = AgentMachine(
            identity: AgentIdentity(
                name: "web1", mac: MACAddress(rawValue: 1), address: IPAddress(ipv4: 1),
                services: [AgentService(name: "www")]),
            seed: random.next())
        var effects: [AgentEffect] = []
        var now = MachineInputTests.start
        machine.handle(.start, now: now, into: &effects)
        for _ in 0..<1500 {
            now = now + .microseconds(Int64(random.number(0...30_000)))
            effects = []
            machine.handle(agentInput(&random, machine.life), now: now, into: &effects)
            machine.checkInvariants()
        }
    }

    private func input(_ random: inout SimulationRandom) -> DirectorInput {
        let session = SessionID(rawValue: UInt64(random.number(0...5)))
        switch random.number(0...9) {
        case 0...5:
            let life = Life(rawValue: UInt64(random.number(1...4)))
            return .received(message(&random, life: life), from: session)
        case 6: return .sessionClosed(session)
        case 7: return .flows([SlotFlows(slot: slot(&random), flows: UInt32(random.number(0...1)))])
        case 8: return .timer
        default:
            return .datagram(
                Datagram(
                    sender: BackendID(rawValue: UInt16(random.number(0...3))),
                    senderLife: Life(rawValue: UInt64(random.number(1...4))), receiverLife: Life(rawValue: 99),
                    sequence: random.next(), sentAt: Instant(nanoseconds: random.next()), body: body(&random)))
        }
    }

    private func agentInput(_ random: inout SimulationRandom, _ life: Life) -> AgentInput {
        switch random.number(0...14) {
        case 0: return .connected
        case 1: return .disconnected
        case 2...7: return .received(message(&random, life: life))
        case 8: return .serviceSocketsDestroyed
        case 9: return .check(service: "www", passed: random.chance(3, in: 4))
        case 10: return random.chance(1, in: 4) ? .applicationCrashed(service: "www") : .listenerClosed(service: "www")
        case 11:
            let phase = random.pick(TakeOverReport.Phase.allCases)
            return .takeOver(TakeOverReport(slot: slot(&random), epoch: Epoch(rawValue: 1), phase: phase))
        case 12: return .timer
        default:
            let sender = random.pick([BackendID.director, BackendID(rawValue: 1), BackendID(rawValue: 2)])
            let senderLife = Life(rawValue: UInt64(random.number(1...3)))
            return .datagram(
                Datagram(
                    sender: sender, senderLife: senderLife,
                    receiverLife: random.chance(3, in: 4) ? life : senderLife, sequence: random.next(),
                    sentAt: Instant(nanoseconds: random.next() >> 20), body: body(&random)))
        }
    }

    private func slot(_ random: inout SimulationRandom) -> SlotID { SlotID(rawValue: UInt16(random.number(0...4))) }

    private func body(_ random: inout SimulationRandom) -> Datagram.Body {
        let fence = Fence(slot: slot(&random), epoch: Epoch(rawValue: random.next()))
        switch random.number(0...6) {
        case 0: return .echo(Echo(sequence: random.next() >> 60, sentAt: Instant(nanoseconds: random.next() >> 20)))
        case 1: return .fenceDemand(fence)
        case 2: return .fenceAcknowledged(fence)
        case 3:
            return .synAcks([
                SynAckNotice(
                    client: Endpoint(address: IPAddress(ipv4: 7), port: 9), service: ServiceID(rawValue: 0),
                    iss: SequenceNumber(1), acknowledged: SequenceNumber(2))
            ])
        default: return .heartbeat(Heartbeat(lease: .milliseconds(Int64(random.number(0...2000)))))
        }
    }

    private func message(_ random: inout SimulationRandom, life: Life) -> StreamMessage {
        let epoch = Epoch(rawValue: UInt64(random.number(0...60)))
        switch random.number(0...11) {
        case 0, 1:
            let held = random.chance(1, in: 3) ? slot(&random) : nil
            return .join(
                Join(
                    name: random.pick(["web1", "web2", "web3", "web4"]), life: Life(rawValue: random.next() >> 61),
                    mac: MACAddress(rawValue: 1), address: IPAddress(ipv4: 1), heldSlot: held, epoch: epoch))
        case 2: return .ringAcknowledged(epoch)
        case 3:
            let phase = random.pick(TakeOverReport.Phase.allCases)
            return .takeOverReport(TakeOverReport(slot: slot(&random), epoch: epoch, phase: phase, resets: []))
        case 4:
            let kinds: [Sign.Kind] = [.up, .down, .up, .listenerClosed, .crashed, .leaving]
            return .sign(Sign(service: ServiceID(rawValue: UInt16(random.number(0...1))), kind: random.pick(kinds)))
        case 5, 6:
            return .welcome(
                Welcome(
                    backend: BackendID(rawValue: 0), slot: slot(&random), directorLife: Life(rawValue: 1),
                    heartbeatInterval: .milliseconds(10), window: .milliseconds(50), lease: .milliseconds(45),
                    services: [MachineInputTests.service]))
        case 7: return .refused(Refusal(reason: random.pick(Refusal.Reason.allCases), text: ""))
        case 8, 9: return .ring(table(&random, epoch, life))
        case 10:
            let contenders = (0..<random.number(0...3)).map { _ in
                TakeOverOrder.Contender(
                    id: BackendID(rawValue: UInt16(random.number(0...3))),
                    life: Life(rawValue: UInt64(random.number(1...3))), address: IPAddress(ipv4: 1))
            }
            return .takeOver(
                TakeOverOrder(slot: slot(&random), epoch: epoch, contenders: contenders, holdOff: .milliseconds(1)))
        default: return .fence(Fence(slot: slot(&random), epoch: epoch))
        }
    }

    private func table(_ random: inout SimulationRandom, _ epoch: Epoch, _ life: Life) -> RingTable {
        let members = (0..<3).map { id in
            RingTable.Member(
                id: BackendID(rawValue: UInt16(id)), name: "web\(id + 1)",
                life: id == 0 ? life : Life(rawValue: UInt64(random.number(1...3))), slot: slot(&random),
                address: IPAddress(ipv4: 1), mac: MACAddress(rawValue: 1), present: random.chance(3, in: 4))
        }
        let slots = (0..<random.number(0...6)).map { _ in
            RingTable.SlotEntry(
                slot: slot(&random), primary: BackendID(rawValue: UInt16(random.number(0...3))),
                owner: random.chance(3, in: 4) ? BackendID(rawValue: UInt16(random.number(0...2))) : nil,
                backups: (0..<random.number(0...3)).map { _ in BackendID(rawValue: UInt16(random.number(0...3))) },
                state: random.pick(SlotState.allCases))
        }
        return RingTable(epoch: epoch, members: members, slots: slots)
    }
}
