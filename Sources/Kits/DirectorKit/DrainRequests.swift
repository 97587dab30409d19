import AdminProtocol
import Cluster
import Configuration
import ControlPlane
import LinuxBase
import Model

// What `batonctl drain` and `batonctl undrain` ask of the director. On the control thread.

extension DirectorMachine {
    /// A back-end's drain for people; `none` for one that is not drained.
    func drainStatus(_ name: String) -> DrainStatus {
        guard let id = backendID(name), let drain = drains.first(where: { $0.backend == id }) else {
            return DrainStatus(backend: name, state: "none", mode: nil, flows: nil, waitingFor: nil)
        }
        let state =
            switch drain.phase {
            case .draining: "draining"
            case .yielding, .moving: "moving"
            case .drained: "drained"
            }
        return DrainStatus(
            backend: name,
            state: state,
            mode: drain.mode.rawValue,
            flows: flowsLeft(drain),
            waitingFor: obstacle(drain, now: MonotonicClock.now())?.rawValue
        )
    }
}

extension DirectorRuntime {
    /// Carries out `drain` (with `mode`), `undrain` or `drain-status`; nil for another command.
    func answerDrain(_ request: AdminRequest) -> AdminAnswer? {
        guard ["drain", "undrain", "drain-status"].contains(request.command) else { return nil }
        guard let name = request.arguments["backend"], configuration.backends.contains(where: { $0.name == name })
        else {
            let names = configuration.backends.map(\.name).joined(separator: ", ")
            return .failure(
                "no back-end \"\(request.arguments["backend"] ?? "")\" is configured; there are: \(names)")
        }
        switch request.command {
        case "drain":
            guard let mode = request.arguments["mode"].flatMap(DrainMode.init) else {
                return .failure("a drain needs a mode: wait, migrate or migrate-now")
            }
            handle(.drain(name, mode))
            countSoon()
        case "undrain": handle(.undrain(name))
        default: break
        }
        return .encoding(machine.drainStatus(name))
    }
}
