import Model
import Testing
import Wire

@testable import Cluster
@testable import SimulationKit

/// The operator's fence command: no forced take-over without its success.
@Suite("Fence command")
struct FenceCommandTests {
    static let second: TrueTime = 1_000_000_000

    private func world(failures: Int) -> World {
        let world = World(World.Plan(seed: 2, fences: true, fenceFailures: failures))
        world.run(until: Self.second)
        return world
    }

    private func director(_ world: World) throws -> DirectorMachine {
        guard case .director(let machine) = world.nodes[0].process else { throw WorldError.dead }
        return machine
    }

    private enum WorldError: Error { case dead }

    @Test("Success: the take-over is ordered after the command, and not before")
    func success() throws {
        let world = world(failures: 0)
        world.strike(.powerOff(1, downtime: 60 * Self.second))
        while world.fenceRuns == 0, world.now < 2 * Self.second { world.run(until: world.now + 100_000) }
        #expect(try director(world).takeOvers.isEmpty)
        world.run(until: world.now + 25_000_000)
        #expect(try director(world).takeOvers.isEmpty, "the command has not ended yet")
        world.run(until: 2 * Self.second)
        #expect(try director(world).takeOvers.first?.victim == "web1")
        #expect(try director(world).fenceCommands == 1 && director(world).fenceFailures == 0)
        #expect(world.fenceRuns == 1)
    }

    @Test("Failure: no take-over; run again after ten seconds; shown by the counters")
    func failure() throws {
        let world = world(failures: 1)
        world.strike(.powerOff(1, downtime: 60 * Self.second))
        world.run(until: 10 * Self.second)
        #expect(try director(world).takeOvers.isEmpty && world.fenceRuns == 1)
        #expect(try director(world).fenceFailures == 1)
        #expect(world.dispatch.count == 2)
        world.run(until: 12 * Self.second)
        #expect(world.fenceRuns == 2)
        let slots = try director(world).slots
        #expect(try director(world).takeOvers.first?.victim == "web1", "\(slots) \(world.events.suffix(12))")
    }

    @Test("Failure, and the back-end is heard again: it goes on with the same life, and the next silence runs the command")
    func recovery() throws {
        let world = world(failures: 1)
        let slots = try director(world).slots.map(\.id)
        world.links.cut(1, 0)
        world.run(until: 2 * Self.second)
        #expect(world.fenceRuns == 1)
        world.links.mend(1, 0)
        world.run(until: 4 * Self.second)
        #expect(try director(world).takeOvers.isEmpty && director(world).slots.map(\.id) == slots)
        #expect(world.dispatch.count == 3)
        world.strike(.powerOff(1, downtime: 60 * Self.second))
        world.run(until: 5 * Self.second)
        #expect(world.fenceRuns == 2)
        #expect(try director(world).takeOvers.first?.victim == "web1")
    }

    @Test("Who has fenced himself needs no command")
    func application() throws {
        let world = world(failures: 9)
        world.strike(.applicationCrash(1, downtime: Self.second))
        world.run(until: 2 * Self.second)
        #expect(world.fenceRuns == 0)
        #expect(try director(world).takeOvers.first?.victim == "web1")
    }
}
