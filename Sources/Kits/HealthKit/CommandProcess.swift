import Glibc

/// A command of the operator's: in a process group of its own, with default signals and ordinary scheduling, whatever the
/// daemon has.
public struct CommandProcess: Sendable {
    public let process: pid_t

    public enum End: Hashable, Sendable {
        case exited(CInt)
        case signalled(CInt)
    }

    /// Why it could not be started.
    public struct Failure: Error, Hashable, Sendable {
        public var text: String
    }

    /// - Parameters:
    ///   - words: the program, by its path, and its arguments.
    ///   - environment: `NAME=value`, before what the daemon itself has.
    public static func start(_ words: [String], environment: [String] = []) -> Result<CommandProcess, Failure> {
        guard !words.isEmpty else { return .failure(Failure(text: "no command")) }
        var process = pid_t()
        let code = spawn(&process, words, environment)
        guard code == 0 else { return .failure(Failure(text: String(cString: strerror(code)))) }
        return .success(CommandProcess(process: process))
    }

    /// How it has ended; nil while it runs. Not to be called again after that.
    public func poll() -> End? { wait(WNOHANG) }

    /// Kills it with all that it has started in its group.
    public func kill() { Glibc.kill(-process, SIGKILL) }

    /// Waits for its end.
    public func end() -> End { wait(0) ?? .signalled(SIGKILL) }

    private func wait(_ options: CInt) -> End? {
        var status: CInt = 0
        while true {
            let ended = waitpid(process, &status, options)
            if ended == 0 { return nil }
            if ended < 0, errno == EINTR { continue }
            guard ended == process else { return .signalled(SIGKILL) }
            // The macros WIFEXITED and WEXITSTATUS, which Swift does not import.
            let signal = status & 0x7f
            return signal != 0 ? .signalled(signal) : .exited((status >> 8) & 0xff)
        }
    }

    /// Of the descriptors it gets standard error only: not all of the others are close-on-exec, those of the event loop
    /// for one.
    private static func spawn(_ process: inout pid_t, _ words: [String], _ environment: [String]) -> CInt {
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
        var variables: [UnsafeMutablePointer<CChar>?] = (environment + inherited(without: environment)).map { strdup($0) }
        variables.append(nil)
        defer { for pointer in pointers + variables { free(pointer) } }
        guard let path = pointers.first ?? nil else { return EINVAL }
        return posix_spawn(&process, path, &actions, &attributes, pointers, variables)
    }

    private static func inherited(without own: [String]) -> [String] {
        let names = own.map { $0.prefix { $0 != "=" } + "=" }
        var found: [String] = []
        var place = environ
        while let text = place.pointee {
            let entry = String(cString: text)
            if !names.contains(where: { entry.hasPrefix($0) }) { found.append(entry) }
            place += 1
        }
        return found
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
