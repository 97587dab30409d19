import Glibc
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
        guard let program = words.first else { return .failed("no command") }
        var process = pid_t()
        let code = Self.spawn(&process, words)
        guard code == 0 else { return .failed("\(program): \(String(cString: strerror(code)))") }
        let deadline = MonotonicClock.now() + timeout
        var status: CInt = 0
        while true {
            let ended = waitpid(process, &status, WNOHANG)
            if ended == process { return Self.judge(status, program) }
            if ended < 0, errno != EINTR { return .failed("\(program): \(String(cString: strerror(errno)))") }
            guard MonotonicClock.now() < deadline else { break }
            usleep(5_000)
        }
        // Its own process group: what it has started goes with it.
        kill(-process, SIGKILL)
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        return .failed("\(program): no end within \(timeout.milliseconds) ms; killed")
    }

    private static func judge(_ status: CInt, _ program: String) -> Outcome {
        // The macros WIFEXITED and WEXITSTATUS, which Swift does not import.
        let signal = status & 0x7f
        if signal != 0 { return .failed("\(program): ended by signal \(signal)") }
        let code = (status >> 8) & 0xff
        return code == 0 ? .done : .failed("\(program): exit status \(code)")
    }

    /// With its own process group, default signals and ordinary scheduling. Of the descriptors it gets standard error
    /// only: not all of the others are close-on-exec, those of the event loop for one.
    private static func spawn(_ process: inout pid_t, _ words: [String]) -> CInt {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        var all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setpgroup(&attributes, 0)
        var ordinary = sched_param(sched_priority: 0)
        posix_spawnattr_setschedpolicy(&attributes, SCHED_OTHER)
        posix_spawnattr_setschedparam(&attributes, &ordinary)
        let flags =
            POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSCHEDULER
        posix_spawnattr_setflags(&attributes, Int16(flags))
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, 2, 1)
        for descriptor in openDescriptors() where descriptor > 2 {
            posix_spawn_file_actions_addclose(&actions, descriptor)
        }
        var pointers: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
        pointers.append(nil)
        defer { for pointer in pointers { free(pointer) } }
        guard let path = pointers.first ?? nil else { return EINVAL }
        return posix_spawn(&process, path, &actions, &attributes, pointers, environ)
    }

    /// One that is closed meanwhile is no error to posix_spawn(3).
    private static func openDescriptors() -> [CInt] {
        guard let directory = opendir("/proc/self/fd") else { return Array(3..<1024) }
        defer { closedir(directory) }
        var descriptors: [CInt] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let number = CInt(name) { descriptors.append(number) }
        }
        return descriptors
    }
}
