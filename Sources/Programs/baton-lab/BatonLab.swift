import ArgumentParser
import LabKit

/// The program's entry: signals are blocked before the first thread is made.
@main
struct BatonLab: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "baton-lab",
        abstract: "A Baton cluster in network namespaces of this machine.",
        discussion: """
            Nodes: client, router, director, web1, web2, ... Everything of a lab is named baton-LAB-NODE or lies in \
            /run/baton-lab/LAB; `down` removes it all. Needs root.
            """,
        subcommands: [
            Up.self, Down.self, Exec.self, Kill.self, Revive.self, StatusCommand.self, DemoCommand.self,
            ScenarioCommand.self, BenchCommand.self, BenchesCommand.self,
        ]
    )

    static func main() {
        Interrupts.install()
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch LabError.interrupted {
            failure("interrupted; the lab was taken down")
            exit(withError: ExitCode(130))
        } catch let error as LabError {
            failure("\(error)")
            exit(withError: ExitCode.failure)
        } catch {
            exit(withError: error)
        }
    }
}

/// The options that name a lab.
struct LabName: ParsableArguments {
    @Option(name: .customLong("lab"), help: "The lab's name: several can be up at once.")
    var name = "lab"
}

extension KillMode: ExpressibleByArgument {}
