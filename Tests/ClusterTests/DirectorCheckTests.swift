import Model
import ModuleInterfaces
import Testing
import Wire

@testable import Cluster

/// What the director's own checks and the back-end that stands by make of a plan.
@Suite("The director's checks")
struct DirectorCheckTests {
    /// Every back-end once.
    private struct Everyone: DispatchPolicy {
        func plan(for backends: [DispatchBackend]) -> DispatchPlan {
            DispatchPlan(kind: .counter, table: backends.filter { $0.weight > 0 }.map(\.slot))
        }
    }

    private func director(_ world: World) throws -> DirectorMachine {
        guard case .director(let machine) = world.nodes[0].process else { throw WorldError.dead }
        return machine
    }

    private enum WorldError: Error { case dead }

    private static let web = ServiceID(rawValue: 0)

    /// A director of the simulation with three back-ends that are live, and its last plan of the first service.
    private struct Fixture {
        var machine: DirectorMachine
        var now: Instant
        var service: ServiceID

        func slot(_ name: String) throws -> SlotID {
            let id = try #require(machine.backendID(name))
            return try #require(machine.members.first { $0.id == id }).slot
        }

        mutating func handle(_ input: DirectorInput) -> [DirectorEffect] {
            var effects: [DirectorEffect] = []
            machine.handle(input, now: now, into: &effects)
            return effects
        }

        /// The plan that was told last, in these effects.
        mutating func plan(after input: DirectorInput) -> DispatchPlan? {
            handle(input).compactMap { effect -> DispatchPlan? in
                if case .plan(let service, let plan) = effect, service == self.service { plan } else { nil }
            }.last
        }
    }

    private func fixture(sorry: String? = nil) throws -> Fixture {
        let world = World(World.Plan(seed: 1, agents: 3, backups: 1, drains: true))
        world.run(until: DrainTests.second)
        var machine = try director(world)
        let now = try #require(machine.lastHandled)
        var configuration = try #require(machine.configuration)
        let service = try #require(configuration.services.first).description.id
        for index in configuration.services.indices {
            configuration.services[index].policy = Everyone()
            configuration.services[index].sorry = sorry
        }
        var effects: [DirectorEffect] = []
        machine.handle(.configuration(configuration), now: now, into: &effects)
        return Fixture(machine: machine, now: now, service: service)
    }

    @Test("who fails leaves the plan of that service, and comes back; nothing is taken over")
    func failing() throws {
        var fixture = try fixture()
        let all = try ["web1", "web2", "web3"].map { try fixture.slot($0) }.sorted()
        let failed = try fixture.slot("web2")
        let plan = fixture.plan(after: .checks(of: fixture.service, at: "web2", pass: false))
        #expect(plan?.table == all.filter { $0 != failed })
        let id = try #require(fixture.machine.backendID("web2"))
        #expect(fixture.machine.isFailing(fixture.service, at: id))
        #expect(fixture.machine.members.first { $0.id == id }?.condition == .present)
        // Told again: nothing.
        let again = fixture.handle(.checks(of: fixture.service, at: "web2", pass: false))
        #expect(!again.contains { if case .plan = $0 { true } else { false } })
        #expect(!again.contains { if case .send = $0 { true } else { false } })
        #expect(fixture.plan(after: .checks(of: fixture.service, at: "web2", pass: true))?.table == all)
        #expect(!fixture.machine.isFailing(fixture.service, at: id))
    }

    @Test("all fail: nobody gets new flows; a back-end that is not known changes nothing")
    func allFail() throws {
        var fixture = try fixture()
        for name in ["web1", "web2"] { _ = fixture.handle(.checks(of: fixture.service, at: name, pass: false)) }
        let plan = fixture.plan(after: .checks(of: fixture.service, at: "web3", pass: false))
        #expect(plan?.slots == [])
        #expect(fixture.plan(after: .checks(of: fixture.service, at: "web9", pass: false)) == nil)
    }

    @Test("a service that fails says nothing of another")
    func services() throws {
        var fixture = try fixture()
        let id = try #require(fixture.machine.backendID("web1"))
        _ = fixture.handle(.checks(of: ServiceID(rawValue: 77), at: "web1", pass: false))
        #expect(!fixture.machine.isFailing(fixture.service, at: id))
        #expect(fixture.machine.isFailing(ServiceID(rawValue: 77), at: id))
    }

    @Test("who stands by is in no table, but named; unless it fails itself")
    func sorry() throws {
        var fixture = try fixture(sorry: "web3")
        let (first, second, last) = (try fixture.slot("web1"), try fixture.slot("web2"), try fixture.slot("web3"))
        let one = fixture.plan(after: .checks(of: fixture.service, at: "web1", pass: false))
        #expect(one?.table == [second] && one?.sorry == last)
        let none = fixture.plan(after: .checks(of: fixture.service, at: "web2", pass: false))
        #expect(none?.table == [] && none?.sorry == last)
        let nobody = fixture.plan(after: .checks(of: fixture.service, at: "web3", pass: false))
        #expect(nobody?.sorry == nil)
        _ = fixture.handle(.checks(of: fixture.service, at: "web3", pass: true))
        let back = fixture.plan(after: .checks(of: fixture.service, at: "web1", pass: true))
        #expect(back?.table == [first] && back?.sorry == last)
        // Its flows are protected like others: it has stood in a plan.
        #expect(fixture.machine.slots.first { $0.id == last }?.openedAt != nil)
    }
}
