import AdminProtocol
import ArgumentParser
import BuiltinModules
import Configuration
import ControlPlane
import DoctorKit
import Glibc
import LinuxPolicies
import Model
import ModuleInterfaces

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "What would stop a take-over on this machine, each in a sentence with its remedy.",
        discussion: """
            Without an option it examines the side that is installed here. It prints nothing when all is well. The exit \
            status is 0 then, 1 when there are warnings only, 2 when something would fail.
            """
    )

    @ParentCommand var parent: Batonctl

    @Flag(help: "Examine this machine as a back-end.")
    var agent = false

    @Flag(help: "Examine this machine as the director.")
    var director = false

    @Option(name: .customLong("configuration"), help: "The daemon's configuration file, if it is not the usual one.")
    var path: String?

    @Flag(help: "Print what is well, too.")
    var all = false

    @Flag(help: "Print JSON, with what is well.")
    var json = false

    func validate() throws {
        guard path == nil || agent != director else {
            throw ValidationError("--configuration goes with either --director or --agent")
        }
    }

    func run() throws {
        var diagnoses: [Diagnosis] = []
        if isDirector { diagnoses.append(examineDirector(path ?? DirectorConfiguration.defaultPath)) }
        if isAgent { diagnoses.append(examineAgent(path ?? AgentConfiguration.defaultPath)) }
        guard !diagnoses.isEmpty else {
            throw ValidationError(
                "there is neither \(DirectorConfiguration.defaultPath) nor \(AgentConfiguration.defaultPath) here; name one "
                    + "with --director or --agent, and --configuration")
        }
        if json {
            printJSON(try AdminJSON.encode(diagnoses))
        } else {
            for diagnosis in diagnoses { show(diagnosis) }
        }
        if diagnoses.contains(where: { $0.worst == .fatal }) { throw ExitCode(2) }
        if diagnoses.contains(where: { $0.worst == .warning }) { throw ExitCode(1) }
    }

    private var isDirector: Bool { director || !agent && Self.exists(DirectorConfiguration.defaultPath) }
    private var isAgent: Bool { agent || !director && Self.exists(AgentConfiguration.defaultPath) }

    private static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    private func show(_ diagnosis: Diagnosis) {
        for finding in diagnosis.findings where all || finding.result != .ok {
            print("\(diagnosis.side): \(finding.result.rawValue): \(finding.check): \(finding.text).")
            if let remedy = finding.remedy { print("    remedy: \(remedy)") }
        }
    }

    // MARK: Sides

    private func examineAgent(_ path: String) -> Diagnosis {
        do {
            return Doctor.examine(try AgentConfiguration.load(path, interfaces: MachineInterfaces.names()).value)
        } catch {
            return Diagnosis(side: "agent", findings: [Self.unreadable(error)])
        }
    }

    private func examineDirector(_ path: String) -> Diagnosis {
        var registry = ModuleRegistry()
        BuiltinModules.register(in: &registry)
        do {
            let configuration = try DirectorConfiguration.load(
                path, modules: Self.names(registry), interfaces: MachineInterfaces.names(),
                loader: { path in
                    do throws(PolicyRefusal) {
                        return .loaded(try PolicyFile.load(path).name)
                    } catch {
                        return .refused(error.cause, remedy: error.remedy)
                    }
                }
            ).value
            return Doctor.examine(configuration, groups: groups(configuration.socket))
        } catch {
            return Diagnosis(side: "director", findings: [Self.unreadable(error)])
        }
    }

    private static func unreadable(_ error: any Error) -> Finding {
        Finding("configuration", .fatal, "\(error)", remedy: "correct it; `--check` of the daemon says the same")
    }

    /// What the configuration may name; the policies' own keys are not looked at here.
    private static func names(_ registry: ModuleRegistry) -> ModuleNames {
        var keys: [String: [PolicyKey]] = [:]
        for module in registry.dispatch {
            keys[module.name] = module.keys.map { key in
                switch key.kind {
                case .flag: PolicyKey(name: key.name, kind: .flag)
                case .number(let numbers): PolicyKey(name: key.name, kind: .number(numbers))
                }
            }
        }
        return ModuleNames(
            policies: registry.dispatch.map(\.name), forwarding: registry.forwarding.map(\.name),
            detectors: registry.detection.map(\.name), policyKeys: keys.filter { !$0.value.isEmpty })
    }

    /// The group of each live back-end's own slot; empty when the director does not run.
    private func groups(_ socket: String) -> Doctor.Groups {
        let client = AdminClient(path: socket)
        guard let status = try? client.request(AdminRequest(command: "status"), as: DirectorStatus.self) else { return [:] }
        var groups: Doctor.Groups = [:]
        for backend in status.backends where backend.state == "live" {
            if let slot = backend.slot { groups[backend.name] = SlotID(rawValue: UInt16(slot)).group }
        }
        return groups
    }
}
