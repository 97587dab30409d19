import ArgumentParser
import Configuration
import DaemonKit
import DirectorKit

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

    @Argument(help: "The configuration file, in the place of --configuration.")
    var file: String?

    func run() async throws {
        do {
            let registry = ModuleSet()
            let file = try registry.load(self.file ?? path)
            let key = try Daemon.key(file.value.key)
            if check { return }
            let logger = Daemon.logger("baton-director", level: file.value.logLevel)
            let reloads = ReloadRequests()
            let service = DirectorDaemon(
                configuration: file.value, key: key, registry: registry.modules,
                source: registry.source(path: file.path), reloads: reloads, logger: logger)
            try await Daemon.run(service, logger: logger) { reloads.request() }
        } catch {
            throw ExitCode(Daemon.report(error, program: "baton-director"))
        }
    }
}
