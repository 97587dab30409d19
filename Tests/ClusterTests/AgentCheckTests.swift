import Model
import Testing

@testable import Cluster

@Suite("An agent's checks")
struct AgentCheckTests {
    private static func instant(_ milliseconds: Int64) -> Instant {
        Instant(nanoseconds: 1_000_000_000_000) + .milliseconds(milliseconds)
    }

    /// `#expect` cannot hold a mutating call.
    private final class Agent {
        var machine: AgentMachine
        var isUp: Bool { machine.services[0].healthy }

        init(_ service: AgentService) {
            machine = AgentMachine(
                identity: AgentIdentity(
                    name: "web1", mac: MACAddress(rawValue: 1), address: IPAddress(ipv4: 1), services: [service]),
                seed: 7)
            handle(.start, 0)
        }

        @discardableResult
        func handle(_ input: AgentInput, _ milliseconds: Int64) -> [AgentEffect] {
            var effects: [AgentEffect] = []
            machine.handle(input, now: AgentCheckTests.instant(milliseconds), into: &effects)
            return effects
        }

        func check(_ passed: Bool, _ milliseconds: Int64) -> [AgentEffect] {
            handle(.check(service: "www", passed: passed), milliseconds)
        }
    }

    @Test("what goes up and down too often is held down, whether a check or the end of a listener made it fall")
    func dampening() {
        let agent = Agent(
            AgentService(
                name: "www", rise: 1, fall: 1, dampening: .init(changes: 4, within: .seconds(10), hold: .seconds(5))))
        #expect(agent.check(true, 0).contains(.log(.serviceUp("www"))))
        let first = agent.handle(.listenerClosed(service: "www"), 100)
        #expect(first.contains(.log(.serviceDown("www"))) && !agent.isUp)
        #expect(agent.check(true, 200).contains(.log(.serviceUp("www"))))
        let second = agent.check(false, 300)
        #expect(second.contains(.log(.serviceDown("www"))))
        #expect(second.contains(.log(.serviceHeld("www", .seconds(5)))))
        #expect(!first.contains(.log(.serviceHeld("www", .seconds(5)))))
        #expect(agent.machine.services[0].heldUntil == Self.instant(5300))
        _ = agent.check(true, 5299)
        #expect(!agent.isUp)
        _ = agent.check(true, 5300)
        #expect(agent.isUp && agent.machine.services[0].changes == 5)
    }

    @Test("without dampening every change counts at once, and a closed listener needs no check")
    func plain() {
        let agent = Agent(AgentService(name: "www", rise: 2, fall: 3))
        for round in 0..<20 {
            let now = Int64(round) * 10
            _ = agent.check(true, now)
            #expect(!agent.isUp)
            _ = agent.check(true, now + 1)
            #expect(agent.isUp)
            agent.handle(.listenerClosed(service: "www"), now + 2)
            #expect(!agent.isUp && agent.machine.services[0].heldUntil == nil)
        }
    }
}
