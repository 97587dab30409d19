import ArgumentParser
import LabKit

extension BenchesCommand {
    struct XDP: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "xdp",
            abstract: "The director's XDP program, for a frame of an established and of a new flow, and bytes of a flow.")

        @Option(help: "Sizes of the flow table, with commas between them.")
        var flows = "1,1000,100000,1000000"
        @Option(help: "How often each is measured; the median counts.")
        var rounds = 5
        @Flag(help: "Print JSON; what a person reads goes to standard error.")
        var json = false

        func validate() throws {
            guard !sizes.isEmpty, sizes.allSatisfy({ (1...4_000_000).contains($0) }) else {
                throw ValidationError("--flows: numbers from 1 to 4000000")
            }
            guard (1...100).contains(rounds) else { throw ValidationError("--rounds: from 1 to 100") }
        }

        private var sizes: [Int] { flows.split(separator: ",").map { Int($0) ?? 0 } }

        func run() throws {
            let console = Console(json: json)
            let report = try PlaneBench.run(sizes: sizes, rounds: rounds) { console.line($0) }
            for line in report.lines { console.line(line) }
            if json { Swift.print(try JSONValue.text(report)) }
        }
    }

    struct Balancers: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "balancers",
            abstract: "Requests and downloads through Baton, beside a direct way, HAProxy, nginx and nftables.")

        @OptionGroup var options: Options
        @Option(help: "How many rounds; in each, every way is measured once.")
        var rounds = 5
        @Option(help: "Seconds for requests in each round and way.")
        var seconds = 1.0

        func validate() throws {
            guard (1...100).contains(rounds) else { throw ValidationError("--rounds: from 1 to 100") }
            guard (0.2...60).contains(seconds) else { throw ValidationError("--seconds: from 0.2 to 60") }
        }

        func run() throws {
            let report = try BalancersBench.run(options.context, rounds: rounds, seconds: seconds)
            try options.print(report, report.lines)
        }
    }
}
