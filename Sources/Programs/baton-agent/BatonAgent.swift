import AgentKit
import ArgumentParser
import Configuration
import DaemonKit

@main
struct BatonAgent: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "baton-agent",
        abstract: "Baton on a back-end: tracks the connections of its predecessors, and takes them over.",
        discussion: "See baton-agent(8) and baton-agent.yaml(5)."
    )

    @Option(name: .customLong("configuration"), help: "The configuration file.")
    var path = AgentConfiguration.defaultPath

    @Flag(help: "Check the configuration and end; nothing is changed on the machine.")
    var check = false

    @Argument(help: "The configuration file, in the place of --configuration.")
    var file: String?

    func run() async throws {
        do {
            let file = try AgentConfiguration.load(self.file ?? path, interfaces: MachineInterfaces.names())
            let key = try Daemon.key(file.value.key)
            if check { return }
            let logger = Daemon.logger("baton-agent", level: file.value.logLevel)
            let service = AgentDaemon(configuration: file.value, key: key, logger: logger)
            try await Daemon.run(service, logger: logger)
        } catch {
            throw ExitCode(Daemon.report(error, program: "baton-agent"))
        }
    }
}
