import CContract
import Glibc
import LinuxBPF
import Model
import Testing

/// `agent_exit` with real servers: an error status is a crash where the listener ends with the process, and only there.
@Suite struct AgentExitTests {
    private let sandbox: AgentSandbox

    init() throws {
        sandbox = try AgentSandbox()
        try sandbox.client.run(
            "ip addr add 8.0.0.100/32 dev lo", "ip route add 10.0.0.1/32 dev eth0 src 8.0.0.100",
            "ip neigh add 10.0.0.1 lladdr \(AgentSandbox.backendMAC) dev eth0 nud permanent"
        )
    }

    /// A server of port 80 that accepts one connection as C and then runs the rest. perl-base is on every Debian.
    private static let server = """
        use Socket; use POSIX (); $SIG{CHLD} = 'IGNORE';
        socket(S, PF_INET, SOCK_STREAM, 6); setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1);
        bind(S, sockaddr_in(80, INADDR_ANY)) or die; listen(S, 5); accept(C, S); select undef, undef, undef, 0.1;
        """

    /// perl would close its sockets itself before it leaves by `exit`: that is on purpose, whatever the status.
    private static func leave(_ status: Int) -> String { "POSIX::_exit(\(status));" }

    /// Runs the server in front of a client that has connected, and tells how it ended.
    private func run(_ script: String, prepare: (pid_t) throws -> Void = { _ in }) throws -> (
        status: Int32, seen: [AgentSandbox.Seen], events: [baton_event]
    ) {
        let process = try sandbox.server.enter {
            let words = ["perl", "-e", Self.server + script]
            var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
            defer { for argument in arguments { free(argument) } }
            var process: pid_t = 0
            try #require(posix_spawnp(&process, "perl", nil, nil, &arguments, environ) == 0)
            return process
        }
        var status: Int32 = 0
        var isOver = false
        defer {
            if !isOver {
                kill(process, SIGKILL)
                waitpid(process, &status, 0)
            }
        }
        try prepare(process)
        let caller = try connect(to: process)
        _ = sandbox.wire.segments(quiet: 2)
        waitpid(process, &status, 0)
        isOver = true
        let seen = sandbox.wire.segments(quiet: 20)
        withExtendedLifetime(caller) {}
        return (status, seen, try sandbox.fixture.events())
    }

    private func connect(to process: pid_t) throws -> TCPSocket {
        for _ in 0..<250 {
            // Local address and port, remote ones, state (proc(5)): a listener of port 80.
            if read("/proc/\(process)/net/tcp").contains("00000000:0050 00000000:0000 0A") {
                return try sandbox.client.enter {
                    try TCPSocket.connected(from: AgentFixture.client, port: 41_000, to: AgentFixture.vip, port: 80)
                }
            }
            usleep(20_000)
        }
        throw Requirement(description: "The server does not listen: is perl-base there?")
    }

    private func read(_ path: String) -> String {
        let file = open(path, O_RDONLY)
        guard file >= 0 else { return "" }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = Glibc.read(file, &bytes, bytes.count)
        return String(decoding: bytes[..<max(count, 0)], as: UTF8.self)
    }

    private func crashes(_ events: [baton_event]) -> [baton_event] {
        events.filter { $0.kind == BATON_EVENT_APPLICATION_CRASHED.rawValue }
    }

    @Test("A server that leaves with an error in the middle of a reply is silent")
    func errorStatus() throws {
        let outcome = try run("syswrite C, 'half a rep'; select undef, undef, undef, 0.3;" + Self.leave(3))
        #expect(outcome.status >> 8 == 3)
        #expect(!outcome.seen.contains { $0.flags.contains(.fin) || $0.flags.contains(.rst) })
        let crashes = crashes(outcome.events)
        #expect(crashes.count == 1)
        #expect(crashes.first?.key.clientPort == 41_000 && crashes.first?.key.servicePort == 80)
        #expect(crashes.first.map { $0.exit_code >> 8 } == 3)
        let listener = outcome.events.filter { $0.kind == BATON_EVENT_LISTENER_CLOSED.rawValue }
        #expect(listener.map { $0.exit_code >> 8 } == [3])
        #expect(try sandbox.fixture.guarded.entries().count == 1)
    }

    /// What the last one does with the connection: nobody but its process can have meant it.
    private static let onPurpose: [(name: String, script: String)] = [
        ("a clean end", leave(0)),
        ("a child that has closed the listener (sshd)", "if (!fork) { close S; \(leave(3)) } close C; sleep 1;"),
        ("a worker, whose listener its master has too (nginx)", "if (!fork) { \(leave(3)) } close C; sleep 1;"),
        ("a server that has closed its listener before", "close S;" + leave(3)),
        ("a stop by SIGTERM", "kill 'TERM', $$; sleep 1;"),
        ("a thread's end is no process's", "close C;" + leave(0)),
    ]

    @Test("Who ends on purpose, or as a part of a server that goes on, is heard", arguments: 0..<6)
    func onPurpose(number: Int) throws {
        let item = Self.onPurpose[number]
        let outcome = try run(item.script)
        let isHeard = outcome.seen.contains { $0.flags.contains(.fin) }
        #expect(isHeard, "\(item.name)")
        #expect(crashes(outcome.events).isEmpty, "\(item.name)")
        #expect(try sandbox.fixture.guarded.entries().isEmpty, "\(item.name)")
    }

    @Test("Who is killed for want of memory is silent", .enabled(if: MemoryGroup.isThere))
    func outOfMemory() throws {
        let group = try MemoryGroup(bytes: 32 << 20)
        let outcome = try run("my @all; while (1) { push @all, 'x' x 1048576; }") { try group.add($0) }
        #expect(outcome.status & 0x7f == SIGKILL)
        #expect(!outcome.seen.contains { $0.flags.contains(.fin) || $0.flags.contains(.rst) })
        #expect(crashes(outcome.events).count == 1)
        #expect(crashes(outcome.events).first.map { Int32($0.exit_code & 0x7f) } == SIGKILL)
    }
}

/// A control group whose memory is bounded; either hierarchy.
private final class MemoryGroup {
    private static let roots = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
    private let folder: String

    /// Whether one can be made here: a container may not be allowed to.
    static var isThere: Bool { (try? MemoryGroup(bytes: 32 << 20)) != nil }

    init(bytes: Int) throws {
        for (root, limit) in Self.roots {
            let folder = "\(root)/baton-test-\(getpid())"
            guard mkdir(folder, 0o700) == 0 else { continue }
            if Self.write("\(bytes)", to: "\(folder)/\(limit)") {
                self.folder = folder
                return
            }
            rmdir(folder)
        }
        throw Requirement(description: "Cannot make a control group with a bound on memory.")
    }

    deinit {
        // The kernel needs a moment to let go of the last process.
        for _ in 0..<50 where rmdir(folder) != 0 { usleep(10_000) }
    }

    func add(_ process: pid_t) throws {
        try #require(Self.write("\(process)", to: "\(folder)/cgroup.procs"))
    }

    private static func write(_ text: String, to path: String) -> Bool {
        let file = open(path, O_WRONLY)
        guard file >= 0 else { return false }
        defer { close(file) }
        return Glibc.write(file, text, text.utf8.count) == text.utf8.count
    }
}
