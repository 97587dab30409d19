import ArgumentParser
import BuiltinModules
import Configuration
import DaemonKit
import DirectorKit
import LinuxPolicies
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
                    detectors: registry.detection.map(\.name),
                    policyKeys: registry.policyKeys
                ),
                interfaces: MachineInterfaces.names(),
                loader: { path in
                    do throws(PolicyRefusal) {
                        let module = try PolicyFile.load(path)
                        registry.register(dispatch: module)
                        return .loaded(module.name)
                    } catch {
                        return .refused(error.cause, remedy: error.remedy)
                    }
                }
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

extension ModuleRegistry {
    /// What the configuration may say to each dispatch policy.
    fileprivate var policyKeys: [String: [PolicyKey]] {
        var keys: [String: [PolicyKey]] = [:]
        for module in dispatch where !module.keys.isEmpty {
            keys[module.name] = module.keys.map { key in
                switch key.kind {
                case .flag: PolicyKey(name: key.name, kind: .flag)
                case .number(let numbers): PolicyKey(name: key.name, kind: .number(numbers))
                }
            }
        }
        return keys
    }
}
