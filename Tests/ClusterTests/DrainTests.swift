import Model
import Testing
import Wire

@testable import Cluster
@testable import SimulationKit

/// Planned take-overs: stories, and drains among the faults of the simulation.
@Suite("Drains")
struct DrainTests {
    static let second: TrueTime = 1_000_000_000
    static let millisecond: TrueTime = 1_000_000

    private func world(agents: Int = 3, backups: Int = 1, seed: UInt64 = 1) -> World {
        let world = World(World.Plan(seed: seed, agents: agents, backups: backups, drains: true))
        world.run(until: Self.second)
        return world
    }

    private func director(_ world: World) throws -> DirectorMachine {
        guard case .director(let machine) = world.nodes[0].process else { throw WorldError.dead }
        return machine
    }

    private func slot(of node: Int, _ world: World) throws -> SlotID {
        guard case .agent(let machine) = world.nodes[node].process else { throw WorldError.dead }
        return try #require(machine.slot)
    }

    private func owner(_ slot: SlotID, _ world: World) throws -> String? {
        let director = try director(world)
        return director.table.slots.first { $0.slot == slot }?.owner.map(director.name(of:))
    }

    private func wish(_ node: Int, _ world: World) throws -> Drain? {
        let director = try director(world)
        return director.drains.first { director.name(of: $0.backend) == world.name(node) }
    }

    private enum WorldError: Error { case dead }

    @Test("Migrate: no new flows, silent before the backup talks, no waiting, free, and back in the plan on undrain")
    func migrate() throws {
        // One take-over in forty fails on purpose.
        let world = world(seed: 2)
        let former = try slot(of: 1, world)
        world.strike(.drain(1, .migrate))
        #expect(!world.dispatch.contains(former) && world.dispatch.count == 2)
        world.run(until: Self.second + 400 * Self.millisecond)
        let record = try #require(try director(world).takeOvers.last)
        #expect(record.sign == .planned && record.slot == former && record.backup == "web2")
        #expect(record.detection == .zero)
        let moments = try #require(record.report?.moments)
        let waited = try #require(moments.started.flatMap { started in moments.ordered.map { started - $0 } })
        #expect(waited == .zero, "the owner has said that it is silent")
        #expect(try owner(former, world) == "web2")
        #expect(try wish(1, world)?.phase == .drained)
        let second = try slot(of: 1, world)
        #expect(second != former, "the agent is back with a new life")
        world.run(until: Self.second * 2)
        #expect(!world.dispatch.contains(second))
        #expect(try director(world).slots.allSatisfy { slot in !slot.backups.contains { $0.slot == second } })
        world.heal(.drain(1, .migrate))
        world.run(until: Self.second * 5 / 2)
        #expect(world.dispatch.contains(second) && world.dispatch.count == 3)
        #expect(world.violations.isEmpty)
    }

    @Test("Wait: the same life serves its flows to the end, and is free when they are gone")
    func wait() throws {
        let world = world()
        let slot = try slot(of: 1, world)
        world.strike(.drain(1, .wait))
        world.run(until: Self.second + 30 * Self.millisecond)
        #expect(try wish(1, world)?.phase == .draining)
        let begun = try #require(try wish(1, world))
        #expect(try director(world).flowsLeft(begun) != 0)
        while world.flows[slot] != 0, world.now < Self.second * 8 { world.run(until: world.now + Self.millisecond) }
        world.run(until: world.now + 300 * Self.millisecond)
        #expect(try wish(1, world)?.phase == .drained)
        #expect(try self.slot(of: 1, world) == slot && world.talks(1))
        #expect(world.counts.takeOversStarted == 0)
        world.heal(.drain(1, .wait))
        world.run(until: world.now + 100 * Self.millisecond)
        #expect(world.dispatch.contains(slot))
        #expect(world.violations.isEmpty)
    }

    @Test("Nothing is moved to a backup that began to listen after the flows did, unless that is asked for")
    func incompleteBackup() throws {
        let world = world(seed: 3)
        world.run(until: Self.second * 2)
        let third = try slot(of: 3, world)
        // web1 was the backup of web3; its new life knows nothing of the flows, and web2 came later than these did.
        world.strike(.powerOff(1, downtime: 100 * Self.millisecond))
        world.run(until: Self.second * 3)
        world.strike(.drain(3, .migrate))
        world.run(until: Self.second * 3 + 110 * Self.millisecond)
        let drain = try #require(try wish(3, world))
        #expect(try director(world).obstacle(drain, now: Instant(nanoseconds: 0)) != nil)
        #expect(try owner(third, world) == "web3")
        while world.flows[third] != 0 {
            #expect(try owner(third, world) == "web3")
            world.run(until: world.now + 10 * Self.millisecond)
        }
        world.run(until: world.now + 200 * Self.millisecond)
        #expect(try wish(3, world)?.phase == .drained)
        #expect(world.counts.yields == 0)
        #expect(world.violations.isEmpty)
    }

    @Test("Alone: no take-over without a backup, however long the operator waits")
    func alone() throws {
        let world = world(agents: 1)
        let slot = try slot(of: 1, world)
        world.strike(.drain(1, .migrateNow))
        world.run(until: Self.second + 150 * Self.millisecond)
        while world.flows[slot] != 0 {
            #expect(try self.slot(of: 1, world) == slot && world.talks(1))
            world.run(until: world.now + 10 * Self.millisecond)
        }
        #expect(world.counts.yields == 0)
    }

    @Test("A drained back-end's predecessor dies: the next one takes over; its own death while it drains is a failure")
    func drainAndFailure() throws {
        for seed: UInt64 in [2, 4, 5, 6, 7] {
            let world = world(backups: 2, seed: seed)
            world.run(until: Self.second * 2)
            let (first, second) = (try slot(of: 1, world), try slot(of: 2, world))
            world.strike(.drain(2, .migrate))
            world.run(until: Self.second * 2 + (seed - 1) * 40 * Self.millisecond)
            world.strike(.powerOff(1, downtime: 60 * Self.second))
            world.run(until: Self.second * 5)
            #expect(try owner(first, world) == "web3", "seed \(seed)")
            // Where its flows had ended by themselves, nothing was left to be moved.
            let heir = try owner(second, world)
            let kept = heir == "web2" && world.flows[second] == 0
            #expect(kept || heir == "web3", "seed \(seed): \(heir ?? "nobody"), \(world.flows[second] ?? 0) flows")
            #expect(try wish(2, world)?.phase == .drained)
            #expect(world.violations.isEmpty)
        }
        let world = world(backups: 2, seed: 2)
        let first = try slot(of: 1, world)
        world.strike(.drain(1, .migrate))
        world.strike(.powerOff(1, downtime: 60 * Self.second))
        world.run(until: Self.second * 2)
        // One take-over in forty fails on purpose: then the second backup has it.
        let heir = try owner(first, world)
        #expect(heir == "web2" || heir == "web3", "\(heir ?? "nobody"): \(world.events.suffix(8))")
        #expect(try director(world).takeOvers.last?.sign == .host)
        #expect(try wish(1, world)?.phase == .drained)
    }

    @Test("A drain outlives the director: after its restart the back-end still gets no flows, and keeps what it has")
    func directorRestart() throws {
        let world = world()
        let slot = try slot(of: 1, world)
        world.strike(.drain(1, .wait))
        world.strike(.killProcess(0, downtime: Self.second / 5))
        world.run(until: Self.second * 5)
        #expect(try wish(1, world) != nil)
        #expect(!world.dispatch.contains(slot) && world.dispatch.count == 2)
        #expect(try owner(slot, world) == "web1")
        #expect(world.violations.isEmpty)
    }

    @Test("An order to yield another life's slot is ignored")
    func foreignYield() throws {
        let world = world()
        guard case .agent(var machine) = world.nodes[1].process else { throw WorldError.dead }
        var effects: [AgentEffect] = []
        let order = StreamMessage.yield(Fence(slot: SlotID(rawValue: 77), epoch: Epoch(rawValue: 1)))
        machine.handle(.received(order), now: world.nodes[1].clock.local(world.now), into: &effects)
        #expect(machine.slot != nil && !effects.contains(.fence(true)) && machine.drops.unexpected == 1)
    }

    /// Seeds of their own; `BATON_SEEDS` as for the lease simulation.
    @Test("Drains at random instants among all other faults: one talker a slot, free means free, everybody back")
    func simulation() {
        var (yields, drained) = (0, 0)
        let usual: Range<UInt64> = 10_000..<(10_000 + LeaseSimulationTests.usualSeeds)
        for seed in TestEnvironment.seeds(usual) {
            let world = run(seed)
            #expect(world.violations.isEmpty, "seed \(seed): \(world.violations)")
            yields += world.counts.yields
            drained += world.counts.drained
        }
        print("drains: \(yields) orders to yield, \(drained) drained")
        guard TestEnvironment.seeds(usual).count >= 20 else { return }
        #expect(yields > 5 && drained > 5)
    }

    private func run(_ seed: UInt64) -> World {
        var random = SimulationRandom(seed: seed ^ 0xba70)
        let agents = random.number(1...5)
        let world = World(
            World.Plan(
                seed: seed, agents: agents, backups: random.number(1...3), trace: TestEnvironment.trace, drains: true))
        if seed % 2 == 0 { world.drawFaults() }
        world.drawDrains()
        world.run(until: World.faultsEnd)
        world.calm()
        world.run(until: LeaseSimulationTests.end)
        if world.violations.isEmpty { world.checkRecovery() }
        return world
    }
}
