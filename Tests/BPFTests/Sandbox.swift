import CLinux
import Glibc
import LinuxBPF
import Testing

/// A network namespace without a name, which goes away with its last user, however the test ends.
///
/// `enter` moves the calling thread and brings it back: the body must be synchronous.
final class Namespace {
    private let descriptor: Int32
    /// As `ip link set ... netns PATH` takes it.
    var path: String { "/proc/\(getpid())/fd/\(descriptor)" }
    /// As the kernel knows it (`struct ns_common`, inum).
    let inode: UInt32

    init() throws {
        try Requirement.root()
        let home = try Namespace.current()
        defer { close(home) }
        guard clinux_unshare_network() == 0 else { throw Requirement(description: "Cannot make a network namespace.") }
        defer { Namespace.join(home) }
        descriptor = try Namespace.current()
        var status = stat()
        fstat(descriptor, &status)
        inode = UInt32(truncatingIfNeeded: status.st_ino)
    }

    deinit { close(descriptor) }

    func enter<Result>(_ body: () throws -> Result) throws -> Result {
        let home = try Namespace.current()
        defer { close(home) }
        Namespace.join(descriptor)
        defer { Namespace.join(home) }
        return try body()
    }

    /// Runs commands in it, words separated by spaces.
    func run(_ commands: String...) throws {
        try enter { for command in commands { try execute(command) } }
    }

    private static func current() throws -> Int32 {
        let descriptor = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Requirement(description: "Cannot open the thread's network namespace.") }
        return descriptor
    }

    /// A pool thread left in a foreign namespace would spoil other tests.
    private static func join(_ descriptor: Int32) {
        precondition(clinux_join_network(descriptor) == 0, "cannot enter a network namespace")
    }
}

/// Runs one command in the calling thread's namespace, its output thrown away; its failure is an error.
func execute(_ command: String) throws {
    let words = command.split(separator: " ").map(String.init)
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
    var process: pid_t = 0
    guard posix_spawnp(&process, words[0], &actions, nil, &arguments, environ) == 0 else {
        throw Requirement(description: "Cannot start \(words[0]): is its Debian package there?")
    }
    var status: Int32 = 0
    waitpid(process, &status, 0)
    guard status == 0 else { throw Requirement(description: "\(command): wait status \(status)") }
}

/// A TUN device in the calling thread's namespace, gone when the descriptor is closed.
func openTun(_ name: String) throws -> Int32 {
    let device = clinux_tun(name)
    guard device >= 0 else {
        throw Requirement(description: "Cannot make a TUN device: is there /dev/net/tun, and CONFIG_TUN?")
    }
    return device
}

/// A BPF file system of the test's own, gone at the end.
final class PinFolder {
    let path: String
    private let mounted: String?

    init() throws {
        try Requirement.root()
        path = "/tmp/btb-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        mounted = try BPFFileSystem.prepare(folder: path)
    }

    deinit {
        if let mounted { try? BPFFileSystem.unmount(mounted) }
        rmdir(path)
    }
}
