import Synchronization

/// Runs scenarios beside each other, each in a lab of its own: most of them wait for most of their time. Those that run
/// alone come last, one after the other.
public final class ScenarioLanes: Sendable {
    private struct State {
        var next = 0
        var running = 0
    }

    private struct Run: Sendable {
        let scenario: Scenario
        let console: Console
        let outcome: Promise<Result<ScenarioOutcome, any Error>>
    }

    private let runs: [Run]
    private let programs: String?
    private let labName: String
    private let state = Mutex(State())

    /// Begins at once, on threads of its own.
    ///
    /// - Parameters:
    ///   - lanes: how many at a time.
    ///   - labName: what the labs' names begin with.
    public init(
        _ scenarios: [Scenario], lanes: Int, json: Bool = false, programs: String? = nil, labName: String
    ) throws {
        let ordered = lanes > 1 ? scenarios.filter { !$0.isAlone } + scenarios.filter(\.isAlone) : scenarios
        runs = try ordered.map {
            Run(scenario: $0, console: Console(json: json, held: lanes > 1), outcome: try Promise())
        }
        self.programs = programs
        self.labName = labName
        for lane in 0..<max(lanes, 1) { startThread { self.work(lane) } }
    }

    /// What became of one; waits for it.
    ///
    /// Throws `LabError.interrupted` when a signal asked for the end.
    public func outcome(of name: String) throws -> ScenarioOutcome {
        guard let run = runs.first(where: { $0.scenario.name == name }) else {
            throw LabError.invalid("no scenario named \"\(name)\" was begun")
        }
        guard let result = run.outcome.wait() else {
            // They take their labs down.
            while state.withLock({ $0.running > 0 }) { pause(milliseconds: 20) }
            throw LabError.interrupted
        }
        return try result.get()
    }

    private func work(_ lane: Int) {
        while let run = take() {
            let context = ScenarioContext(
                console: run.console, programs: programs, labName: labName + (lane == 0 ? "" : "_\(lane)"))
            let result = Result { try ScenarioRegistry.run(run.scenario, context) }
            // In one piece.
            state.withLock { state in
                run.console.release()
                state.running -= 1
            }
            run.outcome.fulfil(result)
        }
    }

    /// The next one to run; waits for the others before one that runs alone, and while one does.
    private func take() -> Run? {
        while !Interrupts.isRaised {
            let (run, isOver): (Run?, Bool) = state.withLock { state in
                guard state.next < runs.count else { return (nil, true) }
                let run = runs[state.next]
                let isFree = state.running == 0 || !run.scenario.isAlone
                guard isFree else { return (nil, false) }
                state.next += 1
                state.running += 1
                return (run, false)
            }
            if run != nil || isOver { return run }
            pause(milliseconds: 50)
        }
        return nil
    }
}
