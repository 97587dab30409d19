import ArgumentParser
import BuiltinModules
import Configuration
import DaemonKit
import DirectorKit
import ModuleInterfaces

@main
struct BatonDirector: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "baton-director",
        abstract: "The front end of a Baton cluster: spreads connections, detects failures, orders take-overs.",
        discussion: "See baton-director(8) and baton-director.yaml(5)."
    )

    @Option(name: .customLong("configuration"), help: "The configuration file.")
    var path = DirectorConfiguration.defaultPath

    @Flag(help: "Check the configuration and end; nothing is changed on the machine.")
    var check = false

    func run() async throws {
        var registry = ModuleRegistry()
        BuiltinModules.register(in: &registry)
        do {
            let file = try DirectorConfiguration.load(
                path,
                modules: ModuleNames(
                    policies: registry.dispatch.map(\.name),
                    forwarding: registry.forwarding.map(\.name),
                    detectors: registry.detection.map(\.name)
                ),
                interfaces: MachineInterfaces.names()
            )
            let key = try Daemon.key(file.value.key)
            if check { return }
            let logger = Daemon.logger("baton-director", level: file.value.logLevel)
            let service = DirectorDaemon(
                configuration: file.value, key: key, registry: registry, logger: logger)
            try await Daemon.run(service, logger: logger)
        } catch {
            throw ExitCode(Daemon.report(error, program: "baton-director"))
        }
    }
}
