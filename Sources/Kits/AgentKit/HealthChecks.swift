import Cluster
import Configuration
import Glibc
import HealthKit
import LinuxBase
import Logging
import Model
import NIOCore
import NIOPosix
import Synchronization

/// Checks the local applications: asks them, as clients do, or looks whether they listen.
///
/// On a thread of its own, of ordinary priority: a slow handshake or expression must not delay a heartbeat. What is
/// reported comes on the control loop, and is counted there: the end of a listener counts too.
///
/// A connection that opens also shows the options of the application's SYN-ACKs (TCP_INFO), so that they are known
/// before the first client comes.
final class HealthChecks: Sendable {
    enum Report: Sendable {
        case ended(service: String, passed: Bool)
        case handshake(service: String, HandshakeOptions)
    }

    private let configuration: Configuration.AgentConfiguration
    private let control: any EventLoop
    private let group: MultiThreadedEventLoopGroup
    private let monitor: HealthMonitor
    private let isListening: @Sendable (Endpoint) -> Bool
    private let current: Current

    /// What is checked now: outcomes of anything else are late.
    private final class Current: Sendable {
        let targets = Mutex<Set<CheckTarget>>([])
        func has(_ target: CheckTarget) -> Bool { targets.withLock { $0.contains(target) } }
    }

    /// - Parameters:
    ///   - control: where `isListening` and `report` are called.
    ///   - isListening: whether a process of this machine listens there.
    ///   - report: called for each outcome.
    init(
        _ configuration: Configuration.AgentConfiguration,
        control: any EventLoop,
        logger: Logger,
        isListening: @escaping @Sendable (Endpoint) -> Bool,
        report: @escaping @Sendable (Report) -> Void
    ) {
        self.configuration = configuration
        self.control = control
        self.isListening = isListening
        let current = Current()
        self.current = current
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loop = group.next()
        loop.execute { RealtimeThread.demoteCurrent() }
        let tell: @Sendable (CheckTarget, Report) -> Void = { target, news in
            control.execute { if current.has(target) { report(news) } }
        }
        monitor = HealthMonitor(
            loop: loop,
            logger: logger,
            changed: { _, _ in },
            ended: { target, passed in tell(target, .ended(service: target.service, passed: passed)) },
            connected: { target, channel in
                guard let provider = channel as? any SocketOptionProvider else { return }
                provider.getTCPInfo().whenSuccess {
                    tell(target, .handshake(service: target.service, HandshakeOptions($0)))
                }
            }
        )
    }

    /// Whether every check of a configuration can be made.
    ///
    /// - Throws: `CheckRefusal` for certificates that cannot be read.
    static func validate(_ configuration: Configuration.AgentConfiguration) throws {
        for service in configuration.services { _ = try service.check.check(of: service.name, by: program) }
    }

    /// Checks exactly these services from now on.
    ///
    /// - Throws: as `validate`.
    func set(_ services: [(name: String, endpoint: Endpoint)]) throws {
        let items = try services.map { try item($0.name, $0.endpoint) }
        current.targets.withLock { $0 = Set(items.map(\.target)) }
        monitor.set(items)
    }

    func stop() {
        current.targets.withLock { $0 = [] }
        monitor.stop()
        group.shutdownGracefully { _ in }
    }

    /// Of the last outcomes; up and down are not in it.
    var states: [HealthMonitor.State] { monitor.states }

    private static let program = "baton-agent"

    private func item(_ service: String, _ endpoint: Endpoint) throws -> HealthMonitor.Item {
        var check = configuration.check(of: service)
        let port = check.port ?? endpoint.port
        // A service that is forwarded only (UDP, several ports) has no port of its own to be asked at.
        if port == 0, check.kind != .command { check.kind = .none }
        let target = CheckTarget(
            service: service, backend: configuration.name, endpoint: Endpoint(address: endpoint.address, port: port))
        let silent: any HealthCheck =
            check.kind == .process ? ListenerCheck(control: control, isListening: isListening) : NoCheck()
        return HealthMonitor.Item(
            target: target,
            kind: check.kind.rawValue,
            schedule: check.schedule(counting: nil),
            check: try check.check(of: service, by: Self.program) ?? silent
        )
    }
}

/// `process`: a process of this machine listens there.
private struct ListenerCheck: HealthCheck {
    /// Where the kernel is asked.
    let control: any EventLoop
    let isListening: @Sendable (Endpoint) -> Bool

    func begin(_ run: CheckRun) {
        let isListening = isListening
        control.execute {
            let found = isListening(run.target.endpoint)
            run.loop.execute { if found { run.pass() } else { run.fail("no process listens") } }
        }
    }
}

/// `none`.
private struct NoCheck: HealthCheck {
    func begin(_ run: CheckRun) { run.pass() }
}

extension HandshakeOptions {
    /// What the other end announced, from `struct tcp_info` (include/uapi/linux/tcp.h).
    fileprivate init(_ info: tcp_info) {
        let options = info.tcpi_options
        let usesScale = options & 4 != 0
        // MSS says nothing here: loopback's is not the network's.
        self.init(
            mss: 1460,
            windowScale: usesScale ? info.tcpi_snd_wscale : nil,
            sackPermitted: options & 2 != 0,
            timestamps: options & 1 != 0
        )
    }
}
