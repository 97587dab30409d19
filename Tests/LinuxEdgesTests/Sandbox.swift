import CLinux
import Glibc
import LinuxBase
import LinuxNetwork
import Model

/// A network namespace without a name: it is gone, with all that is in it, when the last reference is, however the test
/// ends.
final class Namespace: Sendable {
    private let descriptor: FileDescriptor

    init() throws(LinuxError) {
        try Privilege.requireRoot(for: "test the Linux edges in namespaces")
        let home = try Namespace.current()
        _ = try systemCall("make network namespace") { clinux_unshare_network() }
        defer { Namespace.return(to: home) }
        descriptor = try Namespace.current()
    }

    /// Runs the body on this very thread, inside the namespace. The body is synchronous, so that the thread stays.
    @discardableResult
    func enter<Result>(_ body: () throws -> Result) throws -> Result {
        let home = try Namespace.current()
        _ = try systemCall("enter network namespace") { clinux_join_network(descriptor.rawValue) }
        defer { Namespace.return(to: home) }
        return try body()
    }

    /// The namespace as `ip link set ... netns` takes it: this process's descriptor.
    var path: String { "/proc/\(getpid())/fd/\(descriptor.rawValue)" }

    private static func current() throws(LinuxError) -> FileDescriptor {
        FileDescriptor(
            owning: try systemCall("open network namespace") {
                open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
            }
        )
    }

    /// A pool thread left in a foreign namespace would spoil other tests.
    private static func `return`(to home: FileDescriptor) {
        precondition(clinux_join_network(home.rawValue) == 0, "cannot return to the first network namespace")
    }
}

/// Two namespaces joined by a veth pair: `eth0` in each, 10.77.0.1/24 and 10.77.0.2/24, fd77::1/64 and fd77::2/64.
struct Pair {
    let left: Namespace
    let right: Namespace
    static let leftMAC = "02:00:00:00:77:01"
    static let rightMAC = "02:00:00:00:77:02"

    init() throws {
        left = try Namespace()
        right = try Namespace()
        try left.enter {
            try run("ip link add eth0 address \(Pair.leftMAC) type veth peer name bte-peer address \(Pair.rightMAC)")
            try run("ip link set bte-peer netns \(right.path)")
        }
        try right.enter { try run("ip link set bte-peer name eth0") }
        for (namespace, number) in [(left, 1), (right, 2)] {
            try namespace.enter {
                try run("ip link set lo up")
                // Neighbour solicitations need the link-local address: no waiting for duplicate address detection.
                try Sysctl.write("net/ipv6/conf/eth0/accept_dad", "0")
                try run("ip addr add 10.77.0.\(number)/24 dev eth0")
                try run("ip addr add fd77::\(number)/64 dev eth0 nodad")
                try run("ip link set eth0 up")
            }
        }
    }
}

/// What a command did wrong.
struct CommandFailure: Error, CustomStringConvertible {
    var description: String
}

/// Runs a command (split at spaces) in the calling thread's namespace; gives what it printed on both outputs.
@discardableResult
func run(_ command: String, expecting status: Int32 = 0) throws -> String {
    let words = command.split(separator: " ").map(String.init)
    return try run(words: words, expecting: status)
}

@discardableResult
func run(words: [String], expecting expected: Int32 = 0) throws -> String {
    let child = try Child(words)
    let output = child.output.readAll()
    let status = child.wait()
    guard status == expected else {
        throw CommandFailure(description: "\(words.joined(separator: " ")): status \(status): \(output)")
    }
    return output
}

/// A child process in the calling thread's namespace, killed with its last reference.
final class Child {
    let output: FileDescriptor
    private var pid: pid_t = 0
    private var status: Int32?

    init(_ words: [String]) throws {
        var ends: [Int32] = [0, 0]
        // Not a pipe: pipe2, which marks it close-on-exec at once, is not in Glibc's module, and a child of another
        // test would hold the end open.
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw LinuxError.last("make socket pair", "") }
        output = FileDescriptor(owning: ends[0])
        let input = FileDescriptor(owning: ends[1])
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, input.rawValue, 1)
        posix_spawn_file_actions_adddup2(&actions, input.rawValue, 2)
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { arguments.forEach { free($0) } }
        let result = posix_spawnp(&pid, words[0], &actions, nil, &arguments, environ)
        guard result == 0 else {
            pid = 0
            throw LinuxError("start", words[0], errno: result, remedy: "install the Debian package that has it")
        }
    }

    /// The exit status; minus the signal number if a signal ended it.
    @discardableResult
    func wait() -> Int32 {
        if let status { return status }
        var raw: Int32 = 0
        waitpid(pid, &raw, 0)
        let ended = raw & 0x7f == 0 ? raw >> 8 & 0xff : -(raw & 0x7f)
        status = ended
        return ended
    }

    /// Waits until the child has printed this line.
    func waitForLine(_ line: String) throws {
        var seen = ""
        while try output.waitReadable(timeout: .seconds(10)) {
            let part = output.readSome()
            if part.isEmpty { break }
            seen += part
            if seen.contains(line + "\n") { return }
        }
        throw CommandFailure(description: "waited for \"\(line)\", got: \(seen)")
    }

    deinit {
        if status == nil, pid > 0 {
            kill(pid, SIGKILL)
            wait()
        }
    }
}

extension FileDescriptor {
    func readSome() -> String {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = read(rawValue, &buffer, buffer.count)
        return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : ""
    }

    func readAll() -> String {
        var text = ""
        while true {
            let part = readSome()
            if part.isEmpty { return text }
            text += part
        }
    }
}

/// Tries until it is so, for at most two seconds.
func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
    for _ in 0..<400 {
        if try condition() { return true }
        usleep(5_000)
    }
    return try condition()
}

/// The LinuxError that the body throws, nil if it throws none.
func failure(_ body: () throws -> Void) -> LinuxError? {
    do {
        try body()
        return nil
    } catch {
        return error as? LinuxError
    }
}
