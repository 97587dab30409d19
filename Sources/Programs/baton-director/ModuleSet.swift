import BuiltinModules
import Configuration
import DirectorKit
import LinuxPolicies
import ModuleInterfaces

/// The modules of this program: those that are built in, and the policies that the configuration has loaded.
final class ModuleSet {
    private(set) var modules = ModuleRegistry()
    /// The name of each loaded file's policy.
    private var loaded: [String: String] = [:]

    init() { BuiltinModules.register(in: &modules) }

    /// Reads the configuration to start with, and loads what its `policies` name.
    func load(_ path: String) throws(ConfigurationError) -> ConfigurationFile<DirectorConfiguration> {
        try DirectorConfiguration.load(
            path,
            modules: modules.names,
            interfaces: MachineInterfaces.names(),
            loader: { path in
                do throws(PolicyRefusal) {
                    let module = try PolicyFile.load(path)
                    self.modules.register(dispatch: module)
                    self.loaded[path] = module.name
                    return .loaded(module.name)
                } catch {
                    return .refused(error.cause, remedy: error.remedy)
                }
            }
        )
    }

    /// Reads configurations while the director runs: by the modules that there are, for it loads no more code.
    func source(path: String) -> ConfigurationSource {
        // Those of files come by the files.
        let names = modules.names.without(Set(loaded.values))
        let loader: @Sendable (String) -> PolicyLoading = { [loaded] path in
            if let name = loaded[path] { return .loaded(name) }
            return .refused("\(path) is not loaded, and a running director loads no code", remedy: "restart it")
        }
        return ConfigurationSource(
            path: path,
            load: { path throws(ConfigurationError) in
                try DirectorConfiguration.load(
                    path, modules: names, interfaces: MachineInterfaces.names(), loader: loader
                ).value
            },
            read: { text throws(ConfigurationError) in
                try DirectorConfiguration.parse(
                    Array(text.utf8), path: "the configuration", modules: names,
                    interfaces: MachineInterfaces.names(), loader: loader
                ).value
            }
        )
    }
}

extension ModuleNames {
    /// The names but for some dispatch policies.
    fileprivate func without(_ policies: Set<String>) -> ModuleNames {
        var names = self
        names.policies.removeAll { policies.contains($0) }
        return names
    }
}

extension ModuleRegistry {
    /// What a configuration may name.
    fileprivate var names: ModuleNames {
        ModuleNames(
            policies: dispatch.map(\.name),
            forwarding: forwarding.map(\.name),
            detectors: detection.map(\.name),
            policyKeys: policyKeys
        )
    }

    /// What the configuration may say to each dispatch policy.
    private var policyKeys: [String: [PolicyKey]] {
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
