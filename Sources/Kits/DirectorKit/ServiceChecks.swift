import AdminProtocol
import Cluster
import Configuration
import HealthKit
import LinuxBase
import Logging
import Model
import NIOCore
import NIOPosix

/// The director's own health checks, on a thread of their own: nothing between a failure and its take-over waits for them.
final class ServiceChecks: Sendable {
    private let group: MultiThreadedEventLoopGroup
    private let monitor: HealthMonitor

    /// - Parameter changed: called on the checks' thread when all checks of a service at a back-end pass again, or some
    ///   does not any more.
    init(logger: Logger, changed: @escaping @Sendable (HealthMonitor.Subject, _ pass: Bool) -> Void) {
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        monitor = HealthMonitor(loop: group.next(), logger: logger, changed: changed)
    }

    /// Runs exactly these from now on.
    func set(_ items: [HealthMonitor.Item]) { monitor.set(items) }

    func stop() {
        monitor.stop()
        group.shutdownGracefully { _ in }
    }

    var states: [HealthMonitor.State] { monitor.states }

    /// All checks of all services at all back-ends.
    /// - Throws: for certificates that cannot be read.
    static func items(_ configuration: Configuration.DirectorConfiguration) throws -> [HealthMonitor.Item] {
        var items: [HealthMonitor.Item] = []
        for service in configuration.services {
            for check in service.checks {
                guard let made = try check.check(of: service.name, by: "baton-director") else { continue }
                for backend in configuration.backends {
                    let endpoint = Endpoint(address: backend.address, port: check.port ?? service.firstPort)
                    let target = CheckTarget(service: service.name, backend: backend.name, endpoint: endpoint)
                    items.append(
                        HealthMonitor.Item(
                            target: target, kind: check.kind.rawValue, schedule: check.schedule(counting: check.rules),
                            check: made))
                }
            }
        }
        return items
    }
}

extension HealthMonitor.State {
    /// For `batonctl status`.
    var shown: DirectorStatus.Check {
        let now = MonotonicClock.now()
        return DirectorStatus.Check(
            service: target.service,
            backend: target.backend,
            kind: kind,
            target: "\(target.endpoint)",
            state: isUp ? "up" : heldUntil.map { now < $0 } ?? false ? "held" : "down",
            failure: failure,
            sinceS: Double((now - since).nanoseconds) / 1e9,
            passed: passed,
            failed: failed,
            changes: changes,
            lastMs: duration?.milliseconds
        )
    }
}
