import ArgumentParser
import Glibc
import LabKit

struct ScenarioCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scenario",
        abstract: "What Baton must show, each as a run that can be watched.",
        subcommands: [List.self, Run.self]
    )

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Name the scenarios.")

        func run() {
            let width = ScenarioRegistry.all.map(\.name.count).max() ?? 0
            for scenario in ScenarioRegistry.all {
                let space = String(repeating: " ", count: width - scenario.name.count + 2)
                print(scenario.name + space + scenario.summary)
            }
        }
    }

    struct Run: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Run one scenario, or all.",
            discussion: "The exit status is 0 only if all that ran have passed.")

        @Argument(help: "The scenario's name.")
        var name: String?
        @Flag(help: "Run all.")
        var all = false
        @Option(help: "How many at a time, each in a lab of its own; those that measure time run alone, at the end.")
        var jobs = 1
        @Option(help: "The directory of baton-director, baton-agent and batonctl. (default: that of baton-lab)")
        var programs: String?
        @Flag(help: "Print an array of {name, passed, figures}; what a person reads goes to standard error.")
        var json = false

        func validate() throws {
            guard all != (name != nil) else { throw ValidationError("give the name of a scenario, or --all") }
            guard (1...16).contains(jobs) else { throw ValidationError("--jobs: 1 to 16") }
        }

        func run() throws {
            let chosen = try name.map { [try ScenarioRegistry.find($0)] } ?? ScenarioRegistry.all
            let lanes = try ScenarioLanes(
                chosen, lanes: jobs, json: json, programs: programs, labName: "sc\(getpid())")
            let outcomes = try chosen.map { try lanes.outcome(of: $0.name) }
            if json {
                print(try JSONValue.text(outcomes))
            } else {
                for outcome in outcomes {
                    print("\(outcome.passed ? "passed" : "FAILED")  \(outcome.name)")
                }
            }
            if outcomes.contains(where: { !$0.passed }) { throw ExitCode.failure }
        }
    }
}
