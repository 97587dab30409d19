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
                let made = try check.make(service: service.name)
                for backend in configuration.backends {
                    let endpoint = Endpoint(address: backend.address, port: check.port ?? service.firstPort)
                    let target = CheckTarget(service: service.name, backend: backend.name, endpoint: endpoint)
                    items.append(
                        HealthMonitor.Item(
                            target: target, kind: check.kind.rawValue, schedule: check.schedule, check: made))
                }
            }
        }
        return items
    }
}

extension Configuration.DirectorConfiguration.Check {
    var schedule: HealthSchedule {
        let dampening = dampening.map {
            HealthRules.Dampening(changes: $0.changes, within: $0.within, hold: $0.hold)
        }
        return HealthSchedule(
            rules: HealthRules(rise: rise, fall: fall, dampening: dampening), interval: interval, jitter: jitter,
            timeout: timeout)
    }

    func make(service: String) throws -> any HealthCheck {
        switch kind {
        case .ping: return PingCheck()
        case .tcp: return TCPCheck()
        case .tls: return TLSCheck(try tls(service))
        case .http: return HTTPCheck(expectation)
        case .https: return HTTPCheck(expectation, tls: try tls(service))
        case .dns:
            let type = DNSQuestion.RecordType.allCases.first { $0.name == recordType } ?? .a
            return DNSCheck(DNSQuestion(name: query, type: type), expected: answer)
        case .command: return CommandCheck(command)
        }
    }

    private func tls(_ service: String) throws -> CheckTLS {
        do {
            // Without a port: it is no part of a server's name.
            let name = host.map { String($0.prefix { $0 != ":" }) }
            return try CheckTLS(
                serverName: name, verifies: verify, authorities: authorities,
                protocols: kind == .https ? ["http/1.1"] : [])
        } catch {
            throw DirectorFailure(
                "service \(service): the certificates of \(authorities ?? "the system") cannot be used: \(error)")
        }
    }

    private var expectation: HTTPCheck.Expectation {
        HTTPCheck.Expectation(
            path: path, host: host, statuses: statuses, text: body.map { Array($0.utf8) },
            pattern: regex.flatMap(TextPattern.init))
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
