import AdminProtocol
import Cluster
import Configuration
import LinuxBPF
import Logging
import Model
import NIOCore
import NIOPosix

// Another configuration for a director that runs: read, checked and compared on a thread that may wait, applied on the
// control thread, all of it or nothing.

/// A step of applying failed; the configuration before is in force again.
struct ChangeFailure: Error, CustomStringConvertible {
    let description: String
}

extension DirectorRuntime {
    typealias ConfigurationMaker =
        @Sendable (DirectorConfiguration) throws -> DirectorConfiguration
    typealias DirectorConfiguration = Configuration.DirectorConfiguration

    /// Makes another configuration of the present one, and applies it; changes are made one after the other.
    ///
    /// - Parameters:
    ///   - make: on a thread that may wait; what it throws is said in the report.
    ///   - then: on the control thread, when the configuration that was made is in force.
    func change(
        dryRun: Bool,
        _ make: @escaping ConfigurationMaker,
        then: @escaping @Sendable (DirectorConfiguration) -> Void = { _ in }
    ) -> EventLoopFuture<ChangeReport> {
        let turn = lastChange.flatMap { [self] in
            let present = configuration
            return walker.runIfActive(eventLoop: loop) { try make(present) }
                .map { new in
                    let report = self.judge(new, dryRun: dryRun)
                    if report.isSuccess, !dryRun { then(new) }
                    return report
                }
                .recover { ChangeReport(dryRun: dryRun, failure: "\($0)") }
        }
        lastChange = turn.map { _ in }
        return turn
    }

    private func judge(_ new: DirectorConfiguration, dryRun: Bool) -> ChangeReport {
        let difference = ConfigurationDifference(from: configuration, to: new)
        var report = ChangeReport(dryRun: dryRun, changes: difference.lines, obstacles: difference.obstacles)
        guard !dryRun, !difference.isEmpty else { return report }
        guard difference.obstacles.isEmpty else {
            report.failure = "a change that needs a restart is never applied in part"
            return report
        }
        do {
            try apply(new)
            report.applied = true
        } catch {
            report.failure = "\(error)"
            report.undone = true
        }
        return report
    }

    /// All of it or nothing. A failure that cannot be undone ends the director: the next start finds the flows.
    func apply(_ new: DirectorConfiguration) throws(ChangeFailure) {
        let old = configuration
        do {
            try enact(new)
        } catch {
            do {
                try enact(old)
            } catch let second {
                fail(second)
            }
            throw ChangeFailure(description: "\(error)")
        }
        // Time-outs may be shorter than the pause that is running.
        countSoon()
        for line in ConfigurationDifference(from: old, to: new).lines { logger.notice("configuration: \(line)") }
    }

    /// What is new comes first, what is gone goes last: in between both are served.
    private func enact(_ new: DirectorConfiguration) throws {
        let old = configuration
        let items = try ServiceChecks.items(new)
        try host.adopt(new)
        try host.announce()
        configuration = new
        try host.publishLimitOfAll()
        try host.publishThresholdsAnew()
        try process(.configuration(try clusterConfiguration()))
        try publishServices(thatDifferFrom: old)
        try host.dropFormerServices()
        if Self.checksDiffer(old, new) { checks?.set(items) }
    }

    /// Whether the director's own checks try the same at the same places; those that do go on as they are.
    private static func checksDiffer(_ old: DirectorConfiguration, _ new: DirectorConfiguration) -> Bool {
        old.services.map(\.name) != new.services.map(\.name) || old.services.map(\.place) != new.services.map(\.place)
            || old.services.map(\.checks) != new.services.map(\.checks)
            || old.backends.map(\.name) != new.backends.map(\.name)
            || old.backends.map(\.address) != new.backends.map(\.address)
    }

    /// What the plan does not show is in the service's value too.
    private func publishServices(thatDifferFrom old: DirectorConfiguration) throws {
        for (service, id) in zip(configuration.services, host.serviceIDs) where !old.services.contains(service) {
            if let plan = machine.plan(of: id) {
                try perform(.plan(id, plan))
            } else if let number = forwardingNumber(of: service) {
                // After a restart the old plan is in force until the back-ends are back.
                try host.setForwarding(number, of: service)
                try host.publishLimits(of: id, sorry: nil)
            }
        }
    }
}
