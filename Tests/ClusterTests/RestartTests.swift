import Model
import Testing
import Wire

@testable import Cluster

/// A crashed application that may come back: who goes on with its connections, and when.
@Suite("Restarts")
struct RestartTests {
    private static let start = MachineInputTests.start
    private static let grace = Interval.milliseconds(200)

    /// Agent "web1" in the ring, with the services "a" (with a grace) and "b" (without), both up.
    private struct Agent {
        var machine: AgentMachine
        var now = RestartTests.start

        init() {
            let services = [
                AgentService(name: "a", rise: 1, restartGrace: RestartTests.grace), AgentService(name: "b", rise: 1),
            ]
            machine = AgentMachine(
                identity: AgentIdentity(
                    name: "web1", mac: MACAddress(rawValue: 1), address: IPAddress(ipv4: 1), services: services),
                seed: 3)
            handle(.start)
            handle(.serviceSocketsDestroyed)
            handle(.connected)
            let descriptions = ["a", "b"].enumerated().map { number, name in
                ServiceDescription(
                    id: ServiceID(rawValue: UInt16(number)), name: name,
                    endpoint: Endpoint(address: IPAddress(ipv4: 9), port: UInt16(80 + number)), replay: .stream)
            }
            let welcome = Welcome(
                backend: BackendID(rawValue: 0), slot: SlotID(rawValue: 0), directorLife: Life(rawValue: 99),
                heartbeatInterval: .milliseconds(10), window: .milliseconds(50), lease: .milliseconds(45),
                services: descriptions)
            handle(.received(.welcome(welcome)))
            let member = RingTable.Member(
                id: BackendID(rawValue: 0), name: "web1", life: machine.life, slot: SlotID(rawValue: 0),
                address: IPAddress(ipv4: 1), mac: MACAddress(rawValue: 1), present: true)
            let slot = RingTable.SlotEntry(
                slot: SlotID(rawValue: 0), primary: BackendID(rawValue: 0), owner: BackendID(rawValue: 0), backups: [],
                state: .active)
            handle(.received(.ring(RingTable(epoch: Epoch(rawValue: 1), members: [member], slots: [slot]))))
            for service in ["a", "b"] { handle(.check(service: service, passed: true)) }
        }

        @discardableResult
        mutating func handle(_ input: AgentInput) -> [AgentEffect] {
            var effects: [AgentEffect] = []
            machine.handle(input, now: now, into: &effects)
            machine.checkInvariants()
            return effects
        }

        /// Lets time pass, with a timer each ten milliseconds.
        mutating func pass(_ interval: Interval) -> [AgentEffect] {
            var all: [AgentEffect] = []
            let end = now + interval
            while now < end {
                now = now + .milliseconds(10)
                all += handle(.timer)
            }
            return all
        }

        var isMember: Bool { if case .member = machine.standing { true } else { false } }
    }

    private func signs(_ effects: [AgentEffect]) -> [Sign.Kind] {
        effects.compactMap { if case .send(.sign(let sign)) = $0 { sign.kind } else { nil } }
    }

    private func looks(_ effects: [AgentEffect]) -> Int {
        effects.count { if case .lookForListener("a") = $0 { true } else { false } }
    }

    @Test("Back in time: no fence, no new life; its connections are adopted here")
    func inTime() {
        var agent = Agent()
        let life = agent.machine.life
        let crash = agent.handle(.applicationCrashed(service: "a"))
        #expect(signs(crash) == [.down])
        #expect(!crash.contains(.fence(true)))
        // The listener dies after its connections: the same crash.
        #expect(signs(agent.handle(.listenerCrashed(service: "a"))).isEmpty)
        let meanwhile = agent.pass(.milliseconds(100))
        #expect((9...10).contains(looks(meanwhile)) && !meanwhile.contains(.fence(true)))
        let found = agent.handle(.listenerFound(service: "a"))
        #expect(found.contains(.readopt("a")))
        #expect(agent.handle(.listenerFound(service: "a")).isEmpty, "once for each crash")
        #expect(looks(agent.pass(.seconds(1))) == 0)
        #expect(agent.machine.life == life && agent.isMember)
        #expect(signs(agent.handle(.check(service: "a", passed: true))) == [.up])
    }

    @Test("Not back in time: silent, then said so, then a new life, as without a grace")
    func tooLate() throws {
        var agent = Agent()
        let life = agent.machine.life
        agent.handle(.applicationCrashed(service: "a"))
        let before = agent.pass(Self.grace - .milliseconds(10))
        #expect(signs(before).isEmpty && agent.isMember)
        let after = agent.pass(.milliseconds(20))
        #expect(signs(after) == [.crashed])
        let fence = try #require(after.firstIndex(of: .fence(true)))
        let sign = try #require(after.firstIndex { if case .send(.sign) = $0 { true } else { false } })
        #expect(fence < sign)
        #expect(agent.machine.life != life && !agent.isMember)
        #expect(!agent.handle(.listenerFound(service: "a")).contains(.readopt("a")))
    }

    @Test("A service without a grace ends the life at once, and the waiting with it")
    func withoutGrace() {
        var agent = Agent()
        agent.handle(.applicationCrashed(service: "a"))
        #expect(signs(agent.handle(.applicationCrashed(service: "b"))) == [.crashed])
        #expect(looks(agent.pass(.seconds(1))) == 0)
    }

    @Test("After three crashes within a minute the backup is not kept waiting")
    func crashLoop() {
        var agent = Agent()
        for _ in 0..<3 {
            #expect(signs(agent.handle(.applicationCrashed(service: "a"))) != [.crashed])
            #expect(agent.handle(.listenerFound(service: "a")).contains(.readopt("a")))
            _ = agent.pass(.seconds(1))
        }
        var other = agent
        #expect(signs(agent.handle(.applicationCrashed(service: "a"))) == [.crashed])
        // A minute later it is an accident again.
        other.now = other.now + .seconds(61)
        #expect(signs(other.handle(.applicationCrashed(service: "a"))) != [.crashed])
        #expect(other.isMember)
    }
}
