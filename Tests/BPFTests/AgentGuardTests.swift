import CContract
import Glibc
import LinuxBPF
import Model
import Testing

/// `agent_guard` and `agent_egress` with real processes: what a dying one sends does not leave, all else does.
///
/// The process is a shell with a connection from the VIP to a service at the other end of the cable: the programs do
/// not care who called whom.
@Suite struct AgentGuardTests {
    private let sandbox: AgentSandbox
    private let service: TCPSocket

    init() throws {
        sandbox = try AgentSandbox()
        try sandbox.client.run(
            "ip addr add 8.0.0.100/32 dev lo", "ip route add 10.0.0.1/32 dev eth0 src 8.0.0.100",
            "ip neigh add 10.0.0.1 lladdr \(AgentSandbox.backendMAC) dev eth0 nud permanent"
        )
        service = try sandbox.client.enter { try TCPSocket.listening(isIPv6: false, port: 7000) }
    }

    /// A bash in the server's namespace that connects and then runs the script.
    private func start(_ script: String) throws -> pid_t {
        try sandbox.server.enter {
            let text = "exec 3<>/dev/tcp/8.0.0.100/7000; " + script
            let words = ["bash", "-c", text]
            var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
            defer { for argument in arguments { free(argument) } }
            var process: pid_t = 0
            let code = posix_spawnp(&process, "bash", nil, nil, &arguments, environ)
            try #require(code == 0)
            return process
        }
    }

    private func end(_ process: pid_t, _ signal: Int32?) {
        if let signal { kill(process, signal) }
        var status: Int32 = 0
        waitpid(process, &status, 0)
    }

    private static let killed: [(name: String, script: String, unread: Bool, signal: Int32)] = [
        ("SIGKILL", "kill -STOP $$", false, SIGKILL),
        ("SIGKILL with unread bytes, which is answered by a RST", "kill -STOP $$", true, SIGKILL),
        ("SIGSEGV", "while :; do :; done", false, SIGSEGV),
    ]

    @Test(arguments: [0, 1, 2])
    func aKilledProcessIsSilent(number: Int) throws {
        let item = Self.killed[number]
        let process = try start(item.script)
        let peer = try service.accept()
        if item.unread {
            try peer.write([1, 2, 3])
            usleep(50_000)
        }
        _ = try sandbox.fixture.events()
        _ = sandbox.wire.segments(quiet: 3)
        end(process, item.signal)
        let seen = sandbox.wire.segments(quiet: 20)
        #expect(seen.isEmpty, "\(item.name): \(seen.map(\.flags))")
        let events = try sandbox.fixture.events().filter { $0.kind == BATON_EVENT_APPLICATION_CRASHED.rawValue }
        #expect(events.count == 1, "\(item.name)")
        #expect(events.first?.key.serviceAddress == AgentFixture.vip && events.first?.key.clientPort == 7000)
        #expect(events.first?.key.servicePort != 0)
        #expect(events.first.map { Int32($0.exit_code & 0x7f) } == item.signal)
        #expect(try sandbox.fixture.guarded.entries().count == 1)
        #expect(peer.info.state == 1)
    }

    @Test(arguments: ["exec 3>&-; kill -STOP $$", "exit 0", "exit 3", "kill -TERM $$", "kill -INT $$", "kill -HUP $$"])
    func whoClosesOnPurposeIsHeard(script: String) throws {
        let process = try start(script)
        let peer = try service.accept()
        #expect(peer.read(1).isEmpty)
        #expect(sandbox.wire.segments(quiet: 10).contains { $0.flags.contains(.fin) })
        #expect(peer.info.state == 8)  // CLOSE_WAIT
        end(process, SIGKILL)
        #expect(try sandbox.fixture.guarded.entries().isEmpty)
    }

    /// Whatever an entry says about an old connection of the port pair, the new one speaks.
    @Test func aNewConnectionOfThePortPairIsHeard() throws {
        let listener = try sandbox.listen()
        let key = baton_connection_key(
            client: AgentFixture.client, clientPort: 41_000, service: AgentFixture.vip, servicePort: 80)
        try sandbox.fixture.guarded.put(key, 1)
        let caller = try sandbox.client.enter {
            try TCPSocket.connected(from: AgentFixture.client, port: 41_000, to: AgentFixture.vip, port: 80)
        }
        let accepted = try listener.accept()
        try accepted.write([7])
        #expect(caller.read(1) == [7])
        #expect(try sandbox.fixture.guarded.entries().isEmpty)
    }
}
