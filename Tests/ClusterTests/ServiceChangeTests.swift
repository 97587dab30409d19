import BuiltinModules
import Model
import ModuleInterfaces
import Testing
import Wire

@testable import Cluster

/// Services that come and go while agents are connected.
@Suite("Services changed at run time")
struct ServiceChangeTests {
    private static let now = MachineInputTests.start
    private static let session = SessionID(rawValue: 1)

    private static func service(_ number: UInt16, _ name: String, port: UInt16) -> ServiceDescription {
        ServiceDescription(
            id: ServiceID(rawValue: number), name: name, endpoint: Endpoint(address: IPAddress(ipv4: 1), port: port),
            replay: .stream)
    }

    private static let www = service(0, "www", port: 80)
    private static let mail = service(1, "mail", port: 25)

    private static func configuration(_ services: [ServiceDescription]) -> DirectorConfiguration {
        DirectorConfiguration(
            backends: ["web1", "web2"].map { BackendConfiguration(name: $0, address: IPAddress(ipv4: 7)) },
            services: services.map { ServiceConfiguration($0, policy: RoundRobin()) },
            ring: SuccessorRing(),
            detector: BuiltinModules.registry.detection[0].make)
    }

    /// A director with one agent whose `www` is up.
    private static func director() -> DirectorMachine {
        var machine = DirectorMachine(life: Life(rawValue: 99))
        var effects: [DirectorEffect] = []
        machine.handle(.configuration(configuration([www])), now: now, into: &effects)
        machine.handle(.received(MachineInputTests.join("web1", life: 1), from: session), now: now, into: &effects)
        machine.handle(.received(.ringAcknowledged(machine.epoch), from: session), now: now, into: &effects)
        machine.handle(.received(.sign(Sign(service: www.id, kind: .up)), from: session), now: now, into: &effects)
        return machine
    }

    private static func announced(_ effects: [DirectorEffect]) -> [[ServiceDescription]] {
        effects.compactMap { effect in
            guard case .send(.welcome(let welcome), session) = effect else { return nil }
            return welcome.services
        }
    }

    private static func plans(_ effects: [DirectorEffect]) -> [ServiceID: [SlotID]] {
        var plans: [ServiceID: [SlotID]] = [:]
        for case .plan(let service, let plan) in effects { plans[service] = plan.slots }
        return plans
    }

    @Test("A new service is told to the agents, and gets a plan when they say that it is up")
    func added() {
        var machine = Self.director()
        var effects: [DirectorEffect] = []
        machine.handle(.configuration(Self.configuration([Self.www, Self.mail])), now: Self.now, into: &effects)
        machine.checkInvariants()
        #expect(Self.announced(effects) == [[Self.www, Self.mail]])
        // The plan of the other stays as it was.
        #expect(Self.plans(effects)[Self.www.id] == nil && Self.plans(effects)[Self.mail.id] == [])
        effects = []
        let up = StreamMessage.sign(Sign(service: Self.mail.id, kind: .up))
        machine.handle(.received(up, from: Self.session), now: Self.now, into: &effects)
        #expect(Self.plans(effects) == [Self.mail.id: [SlotID(rawValue: 0)]])
    }

    @Test("A service that is gone loses its plan; the same services again are told to nobody")
    func removed() {
        var machine = Self.director()
        var effects: [DirectorEffect] = []
        machine.handle(.configuration(Self.configuration([Self.www])), now: Self.now, into: &effects)
        #expect(Self.announced(effects).isEmpty && Self.plans(effects).isEmpty)
        machine.handle(.configuration(Self.configuration([Self.mail])), now: Self.now, into: &effects)
        #expect(Self.announced(effects) == [[Self.mail]])
        #expect(Self.plans(effects)[Self.www.id] == [])
        #expect(machine.members[0].healthy.isEmpty)
    }

    @Test("Another service under the same number is not taken for up")
    func renumbered() {
        var machine = Self.director()
        var effects: [DirectorEffect] = []
        let other = Self.service(Self.www.id.rawValue, "other", port: 81)
        machine.handle(.configuration(Self.configuration([other])), now: Self.now, into: &effects)
        #expect(machine.members[0].healthy.isEmpty)
        #expect(Self.plans(effects)[other.id] == [])
    }

    @Test("Flows that timed out are told to the owner of their slot, so many in a message")
    func timedOut() {
        var machine = Self.director()
        var effects: [DirectorEffect] = []
        let flows = (0..<300).map { number in
            let client = Endpoint(address: IPAddress(ipv4: 9), port: UInt16(number))
            let slot = SlotID(rawValue: number == 299 ? 7 : 0)
            return TimedOutFlow(slot: slot, flow: FlowReset(client: client, service: Self.www.id, port: 80))
        }
        machine.handle(.timedOut(flows), now: Self.now, into: &effects)
        let sent = effects.compactMap { effect -> [FlowReset]? in
            guard case .send(.resetFlows(let flows), Self.session) = effect else { return nil }
            return flows
        }
        #expect(sent.map(\.count) == [256, 43])
        #expect(sent.flatMap { $0 } == flows.dropLast().map(\.flow))
    }

    // MARK: The agent's side

    private static func welcome(_ services: [ServiceDescription], slot: UInt16 = 4, life: UInt64 = 99) -> StreamMessage {
        .welcome(
            Welcome(
                backend: BackendID(rawValue: 0), slot: SlotID(rawValue: slot), directorLife: Life(rawValue: life),
                heartbeatInterval: .milliseconds(10), window: .milliseconds(50), lease: .milliseconds(45),
                services: services))
    }

    /// An agent that was welcomed with `www`, which its own configuration names.
    private static func agent() -> AgentMachine {
        let identity = AgentIdentity(
            name: "web1", mac: MACAddress(rawValue: 1), address: IPAddress(ipv4: 5), services: [AgentService(name: "www")])
        var machine = AgentMachine(identity: identity, seed: 1)
        var effects: [AgentEffect] = []
        machine.handle(.start, now: now, into: &effects)
        machine.handle(.serviceSocketsDestroyed, now: now, into: &effects)
        machine.handle(.connected, now: now, into: &effects)
        machine.handle(.received(welcome([www])), now: now, into: &effects)
        return machine
    }

    @Test("An agent takes the services of a second welcome, and forgets those that are gone")
    func secondWelcome() {
        var machine = Self.agent()
        var effects: [AgentEffect] = []
        machine.handle(.received(Self.welcome([Self.www, Self.mail])), now: Self.now, into: &effects)
        machine.checkInvariants()
        #expect(effects.contains(.services([Self.www, Self.mail])))
        #expect(machine.services.map(\.configuration.name) == ["www", "mail"])
        #expect(machine.services.map(\.id) == [Self.www.id, Self.mail.id])
        #expect(machine.drops.unexpected == 0)
        effects = []
        machine.handle(.received(Self.welcome([])), now: Self.now, into: &effects)
        #expect(effects.contains(.services([])))
        // What its own configuration names stays, without a number.
        #expect(machine.services.map(\.configuration.name) == ["www"] && machine.services[0].id == nil)
        effects = []
        machine.handle(.received(Self.welcome([])), now: Self.now, into: &effects)
        #expect(!effects.contains(.services([])))
    }

    @Test("A service at another address has to be seen to be up again")
    func moved() {
        var machine = Self.agent()
        var effects: [AgentEffect] = []
        for _ in 0..<2 { machine.handle(.check(service: "www", passed: true), now: Self.now, into: &effects) }
        #expect(machine.services[0].healthy)
        let moved = Self.service(3, "www", port: 8080)
        machine.handle(.received(Self.welcome([moved])), now: Self.now, into: &effects)
        #expect(!machine.services[0].healthy && machine.services[0].id == moved.id)
    }

    @Test("An agent resets what it is told to, of the services that it knows, as a member only")
    func reset() throws {
        var machine = Self.agent()
        let client = Endpoint(address: IPAddress(ipv4: 9), port: 1000)
        let order = StreamMessage.resetFlows([
            FlowReset(client: client, service: Self.www.id, port: Self.www.endpoint.port),
            FlowReset(client: client, service: ServiceID(rawValue: 9), port: 80),
        ])
        var effects: [AgentEffect] = []
        machine.handle(.received(order), now: Self.now, into: &effects)
        #expect(!effects.contains { if case .resetConnections = $0 { true } else { false } })
        let id = BackendID(rawValue: 0)
        let slot = SlotID(rawValue: 4)
        let table = RingTable(
            epoch: Epoch(rawValue: 1),
            members: [
                RingTable.Member(
                    id: id, name: "web1", life: machine.life, slot: slot, address: IPAddress(ipv4: 5),
                    mac: MACAddress(rawValue: 1), present: true)
            ],
            slots: [RingTable.SlotEntry(slot: slot, primary: id, owner: id, backups: [], state: .active)])
        machine.handle(.received(.ring(table)), now: Self.now, into: &effects)
        try #require(machine.slot == slot)
        effects = []
        machine.handle(.received(order), now: Self.now, into: &effects)
        #expect(effects.contains(.resetConnections([FlowKey(client: client, service: Self.www.endpoint)])))
    }

    @Test("A second welcome for another life is dropped and counted")
    func strange() {
        for message in [Self.welcome([], slot: 5), Self.welcome([], life: 98)] {
            var machine = Self.agent()
            var effects: [AgentEffect] = []
            machine.handle(.received(message), now: Self.now, into: &effects)
            #expect(machine.drops.unexpected == 1)
            #expect(!effects.contains(.services([])))
        }
    }
}
