import CLab
import Glibc
import Model
import Synchronization

/// Where a standard stream of a new process goes.
public enum StandardStream: Sendable {
    /// The same as this process's.
    case inherit
    case null
    /// Appended to a file, which is made when it is missing (0644).
    case file(String)
    /// A descriptor of this process, which keeps it.
    case descriptor(Int32)
}

/// How a process ended.
public enum ExitStatus: Hashable, Sendable, CustomStringConvertible {
    case exited(Int32)
    case signalled(Int32)

    init(waitStatus: Int32) {
        let number = waitStatus & 0x7f
        self = number == 0 ? .exited(waitStatus >> 8 & 0xff) : .signalled(number)
    }

    public var isSuccess: Bool { self == .exited(0) }

    /// The status as a shell gives it: 128 + the number of a signal.
    public var shellCode: Int32 {
        switch self {
        case .exited(let code): code
        case .signalled(let number): 128 + number
        }
    }

    public var description: String {
        switch self {
        case .exited(let code): "status \(code)"
        case .signalled(let number): "signal \(number)"
        }
    }
}

/// A process that this one started, held by a pidfd, so that a reused number can never be meant.
///
/// Thread: any. The object must be waited for (`wait`), or the process stays a zombie until this one ends.
public final class ChildProcess: Sendable {
    public let identity: ProcessIdentity
    public let command: [String]
    private let pidfd: Int32
    private let status = Mutex<ExitStatus?>(nil)

    /// Starts `command[0]`, found on the path, without a shell.
    ///
    /// - Parameter newSession: keeps the terminal's Ctrl-C from the process.
    public init(
        _ command: [String],
        environment: [String: String] = [:],
        input: StandardStream = .null,
        output: StandardStream = .inherit,
        error: StandardStream = .inherit,
        newSession: Bool = true
    ) throws {
        guard let program = command.first else { throw LabError.invalid("no command given") }
        let streams = try OpenStreams(input: input, output: output, error: error)
        defer { streams.close() }
        let process = withCStrings(command) { arguments in
            withCStrings(mergedEnvironment(environment)) { variables in
                clab_spawn(
                    program, arguments, variables, streams.input, streams.output, streams.error, newSession ? 1 : 0)
            }
        }
        guard process > 0 else { throw LabError.system(program, code: -process) }
        self.command = command
        pidfd = clab_pidfd_open(process)
        // The child is ours and not waited for yet: its /proc entry is there even if it has already ended.
        identity = ProcessIdentity(current: process) ?? ProcessIdentity(process: process, startTime: 0)
        guard pidfd >= 0 else {
            let code = errno
            kill(process, SIGKILL)
            waitpid(process, nil, 0)
            throw LabError.system("pidfd_open", code: code)
        }
    }

    deinit { close(pidfd) }

    public var process: Int32 { identity.process }

    public func signal(_ number: Int32) {
        status.withLock { status in
            if status == nil { _ = clab_pidfd_send_signal(pidfd, number) }
        }
    }

    /// The exit status if the process has ended; collects the zombie.
    public func poll() -> ExitStatus? {
        status.withLock { status in
            if status == nil {
                var value: Int32 = 0
                let result = waitpid(process, &value, WNOHANG)
                if result == process { status = ExitStatus(waitStatus: value) }
                // Somebody else collected it: the status is lost, but it has ended.
                if result < 0, errno == ECHILD { status = .exited(255) }
            }
            return status
        }
    }

    /// Waits for the end. Throws `.timeout`, or `.interrupted`; the process then goes on.
    @discardableResult
    public func wait(timeout seconds: Double = .infinity) throws -> ExitStatus {
        let deadline = seconds.isFinite ? Deadline(seconds: seconds) : .never
        while true {
            if let status = poll() { return status }
            try Interrupts.check()
            if deadline.isOver { throw LabError.timeout(command.joined(separator: " "), seconds: seconds) }
            var watch = pollfd(fd: pidfd, events: Int16(POLLIN), revents: 0)
            _ = Glibc.poll(&watch, 1, deadline.pollMilliseconds(atMost: 50))
        }
    }

    /// Kills the process if it lives, and collects it.
    public func end() {
        signal(SIGKILL)
        _ = try? Interrupts.shield { try wait(timeout: 5) }
    }

    /// A copy of one of the process's descriptors; nil when there is none of that number.
    func duplicate(descriptor: Int32) -> Int32? {
        let copy = clab_pidfd_getfd(pidfd, descriptor)
        return copy >= 0 ? copy : nil
    }
}

private struct OpenStreams {
    var input: Int32 = 0
    var output: Int32 = 1
    var error: Int32 = 2
    private var opened: [Int32] = []

    init(input: StandardStream, output: StandardStream, error: StandardStream) throws {
        do {
            self.input = try descriptor(for: input, own: 0, writing: false)
            self.output = try descriptor(for: output, own: 1, writing: true)
            self.error = try descriptor(for: error, own: 2, writing: true)
        } catch {
            close()
            throw error
        }
    }

    private mutating func descriptor(for stream: StandardStream, own: Int32, writing: Bool) throws -> Int32 {
        let path: String
        switch stream {
        case .inherit: return own
        case .descriptor(let descriptor): return descriptor
        case .null: path = "/dev/null"
        case .file(let name): path = name
        }
        let flags = writing ? O_WRONLY | O_CREAT | O_APPEND : O_RDONLY
        let descriptor = open(path, flags | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw LabError.system(path, code: errno) }
        opened.append(descriptor)
        return descriptor
    }

    func close() {
        for descriptor in opened { Glibc.close(descriptor) }
    }
}

private func mergedEnvironment(_ changes: [String: String]) -> [String] {
    var result: [String] = []
    var entry = environ
    while let text = entry.pointee {
        let line = String(cString: text)
        let name = String(line.prefix { $0 != "=" })
        if changes[name] == nil { result.append(line) }
        entry = entry.advanced(by: 1)
    }
    return result + changes.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
}

func withCStrings<Result>(
    _ strings: [String],
    _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    return body(pointers)
}
