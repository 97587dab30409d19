import Model

/// Runs of seeds.
public enum SimulationRun {
    /// One seed with its own scenario.
    public static func run(seed: UInt64, chaos: Chaos? = nil) -> Simulation {
        run(seed: seed, scenario: .drawn(from: seed, chaos: chaos))
    }

    public static func run(seed: UInt64, scenario: Scenario) -> Simulation {
        let simulation = Simulation(seed: seed, scenario: scenario)
        simulation.run()
        simulation.counts.runs = 1
        return simulation
    }

    /// One seed with its own scenario in which HTTP is spoken.
    public static func runHTTP(seed: UInt64, chaos: Chaos? = nil) -> Simulation {
        run(seed: seed, scenario: .drawnHTTP(from: seed, chaos: chaos))
    }

    /// One seed in which servers die between a last reply and their FIN.
    public static func runClosing(seed: UInt64) -> Simulation {
        run(seed: seed, scenario: .drawnClosing(from: seed))
    }

    /// One seed in which applications crash and come back.
    public static func runRestart(seed: UInt64) -> Simulation {
        run(seed: seed, scenario: .drawnRestart(from: seed))
    }

    /// The same run, told line by line.
    @discardableResult
    public static func trace(
        seed: UInt64,
        scenario: Scenario? = nil,
        to sink: @escaping (String) -> Void = { print($0) }
    ) -> Simulation {
        let simulation = Simulation(seed: seed, scenario: scenario ?? .drawn(from: seed))
        simulation.sink = sink
        sink("seed \(seed): \(simulation.scenario)")
        for fault in simulation.faults { sink("planned: \(fault)") }
        simulation.run()
        return simulation
    }
}

extension ClientPlan {
    var summary: String {
        "requests of \(requests.map(\.count)) bytes, reply of \(replyBytes), mss \(options.mss), scale "
            + "\(options.windowScale.map(String.init) ?? "none"), timestamps \(options.timestamps), buffer \(buffer), "
            + "server closes \(serverCloses)"
            + web.map { "; \($0.method) \($0.file) \($0.first ?? 0)-" }.joined()
    }
}
