import Glibc
import Model
import SimulationKit
import Testing

/// A whole cluster, its network and its clients under one seed.
///
/// BATON_SEEDS widens the list: `BATON_SEEDS=0-100000`. A seed that fails is told line by line with BATON_TRACE set:
/// `BATON_TRACE=1 BATON_SEEDS=7-8`.
@Suite("Simulated clusters", .serialized)
struct SeedTests {
    @Test("no wrong byte, one talker a slot, no connection that hangs")
    func seeds() {
        var total = SimulationCounts()
        var bad: [String] = []
        let range = Self.range
        let clock = ContinuousClock()
        let took = clock.measure {
            for seed in range {
                let simulation =
                    Self.isTraced ? SimulationRun.trace(seed: seed) : SimulationRun.run(seed: seed)
                total.add(simulation.counts)
                if let violation = simulation.violations.first { bad.append("seed \(seed): \(violation)") }
            }
        }
        print("\(range.count) seeds in \(took): \(total)")
        #expect(bad.isEmpty, "\(bad.count) of \(range.count): \(bad.prefix(5))")
        #expect(total.takeOversStarted > range.count / 10, "hardly a take-over: \(total)")
        #expect(total.whole > range.count, "hardly a whole reply: \(total)")
        #expect(total.further > range.count / 10, "hardly a failure after another: \(total)")
        #expect(total.adoptedAgain > range.count / 40, "hardly a connection that lost two servers: \(total)")
    }

    @Test("HTTP: no wrong byte, no head of two servers, and what can be shown to be the same goes on")
    func seedsHTTP() {
        var total = SimulationCounts()
        var bad: [String] = []
        let range = Self.range
        for seed in range {
            let simulation =
                Self.isTraced
                ? SimulationRun.trace(seed: seed, scenario: .drawnHTTP(from: seed)) : SimulationRun.runHTTP(seed: seed)
            total.add(simulation.counts)
            if let violation = simulation.violations.first { bad.append("seed \(seed): \(violation)") }
        }
        print("\(range.count) seeds with HTTP: \(total)")
        #expect(bad.isEmpty, "\(bad.count) of \(range.count): \(bad.prefix(5))")
        #expect(total.whole > range.count, "hardly a whole reply: \(total)")
        #expect(total.adopted > range.count / 5 && total.protected > range.count / 50, "hardly a take-over: \(total)")
        for cause in [ResetCause.replyDiffers, .replyUnknown, .methodNotAllowed] {
            #expect(total.resets[Int(cause.rawValue)] > 0, "\(cause.name) never came: \(total)")
        }
    }

    @Test("servers that die between a last reply and their FIN: the end comes from another")
    func seedsClosing() {
        var total = SimulationCounts()
        var bad: [String] = []
        let range = Self.range
        for seed in range {
            let simulation =
                Self.isTraced
                ? SimulationRun.trace(seed: seed, scenario: .drawnClosing(from: seed)) : SimulationRun.runClosing(seed: seed)
            total.add(simulation.counts)
            if let violation = simulation.violations.first { bad.append("seed \(seed): \(violation)") }
        }
        print("\(range.count) seeds with late ends: \(total)")
        #expect(bad.isEmpty, "\(bad.count) of \(range.count): \(bad.prefix(5))")
        #expect(total.closed > range.count / 10, "hardly an end that came from another server: \(total)")
    }

    @Test("applications that crash and come back: on their own machine in time, on a backup's else")
    func seedsRestart() {
        var total = SimulationCounts()
        var bad: [String] = []
        let range = Self.range
        for seed in range {
            let simulation = SimulationRun.runRestart(seed: seed)
            total.add(simulation.counts)
            if let violation = simulation.violations.first { bad.append("seed \(seed): \(violation)") }
        }
        print("\(range.count) seeds with restarts: \(total)")
        #expect(bad.isEmpty, "\(bad.count) of \(range.count): \(bad.prefix(5))")
        #expect(total.whole > range.count, "hardly a whole reply: \(total)")
        #expect(total.readopted > range.count / 10, "hardly a connection came back: \(total)")
        #expect(total.adopted - total.readopted > range.count / 20, "hardly a backup was needed: \(total)")
    }

    @Test("a seed with HTTP replays exactly", arguments: [3, 71, 1009] as [UInt64])
    func replayHTTP(seed: UInt64) {
        var tellings: [[String]] = [[], []]
        for index in 0..<2 {
            SimulationRun.trace(seed: seed, scenario: .drawnHTTP(from: seed)) { tellings[index].append($0) }
        }
        #expect(tellings[0].count > 100)
        #expect(tellings[0] == tellings[1])
    }

    @Test("a seed replays exactly", arguments: [3, 71, 1009] as [UInt64])
    func replay(seed: UInt64) {
        var first: [String] = []
        var second: [String] = []
        SimulationRun.trace(seed: seed) { first.append($0) }
        SimulationRun.trace(seed: seed) { second.append($0) }
        #expect(first.count > 100)
        #expect(first == second)
    }

    @Test("planted faults are found", arguments: Chaos.allCases)
    func canary(chaos: Chaos) {
        let found = (0..<400 as Range<UInt64>).first { seed in
            !SimulationRun.run(seed: seed, scenario: Self.scenario(seed, chaos)).violations.isEmpty
        }
        #expect(found != nil, "\(chaos) goes unnoticed")
    }

    /// The conditions under which a planted fault can do harm.
    private static func scenario(_ seed: UInt64, _ chaos: Chaos) -> Scenario {
        var scenario = Scenario.drawn(from: seed, chaos: chaos)
        if chaos == .verdictIgnored { scenario = .drawnHTTP(from: seed, chaos: chaos) }
        scenario.faults = 1
        switch chaos {
        case .clampMissing:
            scenario.kinds = [.application]
            scenario.pathSkew = 200_000
            scenario.clientDelay = 300
            scenario.buffer = 65_535
            scenario.windowScale = 7
            scenario.adoptedWindow = 2
        case .emptyFence:
            scenario.kinds = [.oneWay]
        case .windowRoundedDown:
            scenario.kinds = [.power]
            scenario.buffer = 8192
            scenario.windowScale = 10
            scenario.pauses = 100
        case .guardMissing: scenario.kinds = [.application]
        case .leaseIgnored: scenario.kinds = [.cable]
        case .issGuessed:
            scenario.kinds = [.power]
            scenario.greeting = true
            scenario.lanLoss = 1000
        case .barrierMissing:
            scenario.agents = 3
            scenario.faults = 2
            scenario.strikesTaker = true
            scenario.adoptionLoss = 80
            scenario.kinds = [.freeze]
        case _: scenario.kinds = [.power]
        }
        return scenario
    }

    private static var isTraced: Bool { getenv("BATON_TRACE") != nil }

    private static var range: Range<UInt64> {
        let text = getenv("BATON_SEEDS").map { String(cString: $0) } ?? "0-600"
        let ends = text.split(separator: "-").compactMap { UInt64($0) }
        return ends.count == 2 && ends[0] < ends[1] ? ends[0]..<ends[1] : 0..<600
    }
}
