/// All scenarios, in the order in which `--all` runs them.
public enum ScenarioRegistry {
    public static let all: [Scenario] = [
        takeoverScenarios,
        serviceScenarios,
        crashScenarios,
        loadScenarios,
        requestScenarios,
        httpScenarios,
        lastReplyScenarios,
        httpRequestScenarios,
        clientScenarios,
        directorScenarios,
        dispatchScenarios,
        healthScenarios,
        healthKindScenarios,
        floodScenarios,
        routeScenarios,
        doctorScenarios,
        upgradeScenarios,
        forwardingScenarios,
        agentScenarios,
        agentCheckScenarios,
        drainScenarios,
        fenceScenarios,
        ringScenarios,
        resynchronisationScenarios,
        reloadScenarios,
        vocabularyScenarios,
        timeoutScenarios,
        dayScenarios,
        hostileScenarios,
        benchScenarios,
    ].flatMap { $0 }

    /// Throws `.invalid`, with the names that there are, for one that there is not.
    public static func find(_ name: String) throws -> Scenario {
        guard let scenario = all.first(where: { $0.name == name }) else {
            throw LabError.invalid("no scenario named \"\(name)\"; `baton-lab scenario list` shows them")
        }
        return scenario
    }

    /// Runs one; a failure becomes an outcome whose figures hold `error`. Throws only `LabError.interrupted`.
    public static func run(_ scenario: Scenario, _ context: ScenarioContext) throws -> ScenarioOutcome {
        context.console.line("scenario \(scenario.name): \(scenario.summary)")
        do {
            let figures = try scenario.run(context)
            context.console.line("scenario \(scenario.name): passed")
            return ScenarioOutcome(name: scenario.name, passed: true, figures: figures)
        } catch LabError.interrupted {
            throw LabError.interrupted
        } catch {
            context.console.line("scenario \(scenario.name): FAILED: \(error)")
            return ScenarioOutcome(name: scenario.name, passed: false, figures: ["error": .string("\(error)")])
        }
    }
}
