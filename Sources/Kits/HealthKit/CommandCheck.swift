import Glibc
import Model
import NIOCore

/// `command`: a program ends with status 0. It is told by its environment what to check: BATON_SERVICE, BATON_BACKEND,
/// BATON_ADDRESS and BATON_PORT.
public struct CommandCheck: HealthCheck {
    private let words: [String]

    /// - Parameter words: the program, by an absolute path, and its arguments.
    public init(_ words: [String]) { self.words = words }

    public func begin(_ run: CheckRun) {
        let target = run.target
        let environment = [
            "BATON_SERVICE=\(target.service)", "BATON_BACKEND=\(target.backend)",
            "BATON_ADDRESS=\(target.endpoint.address)", "BATON_PORT=\(target.endpoint.port)",
        ]
        switch CommandProcess.start(words, environment: environment) {
        case .failure(let error): run.fail(oneLine("\(words.first ?? ""): \(error.text)"))
        case .success(let process): watch(process, run)
        }
    }

    /// Looks now and then whether it has ended: no thread waits.
    private func watch(_ process: CommandProcess, _ run: CheckRun) {
        let name = words.first ?? ""
        let ended = Flag()
        // Its own process group: what it has started goes with it. It is collected at the next look.
        run.whenOver { if !ended.isSet { process.kill() } }
        run.loop.scheduleRepeatedTask(initialDelay: .milliseconds(5), delay: .milliseconds(10)) { task in
            if let end = process.poll() {
                task.cancel()
                ended.isSet = true
                run.finish(end, of: name)
            }
        }
    }

    /// Belongs to the run's loop.
    private final class Flag: @unchecked Sendable { var isSet = false }
}

extension CheckRun {
    fileprivate func finish(_ end: CommandProcess.End, of name: String) {
        switch end {
        case .exited(0): pass()
        case .exited(let code): fail("\(name): exit status \(code)")
        case .signalled(let number): fail("\(name): ended by signal \(number)")
        }
    }
}
