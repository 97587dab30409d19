import Glibc
import HealthKit
import LinuxBase
import Model

/// The operator's fence command (a power switch, Debian's fence-agents): run before a forced take-over.
///
/// Blocking: on a thread that may wait.
struct FenceCommand: Sendable {
    /// Program and arguments; the back-end's name and address are appended.
    var arguments: [String]
    var timeout: Interval

    enum Outcome: Hashable, Sendable {
        case done
        case failed(String)
    }

    func run(backend: String, address: String) -> Outcome {
        let words = arguments + [backend, address]
        let program = words.first ?? ""
        switch CommandProcess.start(words) {
        case .failure(let error): return .failed("\(program): \(error.text)")
        case .success(let process): return wait(for: process, program)
        }
    }

    private func wait(for process: CommandProcess, _ program: String) -> Outcome {
        let deadline = MonotonicClock.now() + timeout
        while true {
            switch process.poll() {
            case .exited(0): return .done
            case .exited(let code): return .failed("\(program): exit status \(code)")
            case .signalled(let signal): return .failed("\(program): ended by signal \(signal)")
            case nil: break
            }
            guard MonotonicClock.now() < deadline else { break }
            usleep(5_000)
        }
        // Its own process group: what it has started goes with it.
        process.kill()
        _ = process.end()
        return .failed("\(program): no end within \(timeout.milliseconds) ms; killed")
    }
}
