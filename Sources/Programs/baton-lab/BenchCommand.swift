import ArgumentParser
import Glibc
import LabKit

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench-takeover",
        abstract: "Measure the stall that a client sees, and the take-over of many connections.")

    @Option(help: "How many cables are cut for the stall.")
    var runs = 20
    @Option(help: "How many live connections the failing server has in the second part.")
    var connections = 1000
    @Option(help: "The directory of baton-director, baton-agent and batonctl. (default: that of baton-lab)")
    var programs: String?
    @Flag(help: "Print JSON; what a person reads goes to standard error.")
    var json = false

    func validate() throws {
        guard (1...1000).contains(runs) else { throw ValidationError("--runs: from 1 to 1000") }
        guard (1...10_000).contains(connections) else { throw ValidationError("--connections: from 1 to 10000") }
    }

    func run() throws {
        let context = ScenarioContext(console: Console(json: json), programs: programs, labName: "bench\(getpid())")
        let report = try Bench.run(context, runs: runs, connections: connections)
        for line in report.lines { context.console.line(line) }
        if json { print(try JSONValue.text(report)) }
    }
}

/// The other measurements, each by its name.
struct BenchesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure the data plane, Baton beside other balancers, what protection costs, or a catch-up.",
        subcommands: [Tracking.self, CatchUp.self, Protection.self, XDP.self, Balancers.self]
    )

    struct Options: ParsableArguments {
        @Option(help: "The directory of baton-director, baton-agent and batonctl. (default: that of baton-lab)")
        var programs: String?
        @Flag(help: "Print JSON; what a person reads goes to standard error.")
        var json = false

        var context: ScenarioContext {
            ScenarioContext(console: Console(json: json), programs: programs, labName: "bench\(getpid())")
        }

        func print(_ report: some Encodable, _ lines: [String]) throws {
            for line in lines { context.console.line(line) }
            if json { Swift.print(try JSONValue.text(report)) }
        }
    }

    struct Tracking: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The processor time that the agents of a backup and of the owner spend on 1,000 requests/s.")
        @OptionGroup var options: Options

        func run() throws {
            let report = try TrackingBench.run(options.context)
            try options.print(report, report.lines)
        }
    }

    struct CatchUp: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The speed at which a regenerated reply runs through what the client has.")
        @OptionGroup var options: Options

        func run() throws {
            let report = try CatchUpBench.run(options.context)
            try options.print(report, report.lines)
        }
    }

    struct Protection: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The director's processor time with protection on, beside that with protection off.")
        @OptionGroup var options: Options

        func run() throws {
            let report = try ProtectionBench.run(options.context)
            try options.print(report, report.lines)
        }
    }
}
