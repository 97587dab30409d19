import AdminProtocol
import Cluster
import Configuration
import ControlPlane
import HealthKit
import LinuxBPF
import LinuxBase
import Model
import Tracking

extension AgentRuntime {
    private static let counterNames = [
        "adoptions", "adoptions_refused", "replay_dropped", "reflected", "reflected_bytes", "clamped", "guarded",
        "fenced", "rst_guarded",
    ]

    /// What `batonctl status` shows. On the control thread.
    func status(_ data: DataStatus) -> AgentStatus {
        var counters: [String: UInt64] = [:]
        for (index, name) in Self.counterNames.enumerated() {
            counters[name] = (try? host.plane.counters.sum(UInt32(index)).first) ?? 0
        }
        var resets: [String: Int] = [:]
        for cause in ResetCause.allCases where data.resets[Int(cause.rawValue)] > 0 {
            resets[cause.name] = data.resets[Int(cause.rawValue)]
        }
        let tracker = data.tracker
        var status = AgentStatus(
            name: configuration.name,
            state: standing,
            slot: machine.slot.map { Int($0.rawValue) },
            ownedSlots: machine.membership.own.map { Int($0.rawValue) },
            tappedSlots: machine.membership.tapped.map { Int($0.rawValue) },
            backupConnections: data.connections,
            journalBytes: data.journalBytes,
            adoptedConnections: data.adoptedTotal,
            lease: lease,
            fenced: machine.fenced,
            counters: counters,
            tap: [
                "received": data.tapReceived, "dropped": data.tapDropped, "frames": tracker.frames,
                "connections": tracker.connections, "unknown": tracker.unknown, "out_of_order": tracker.outOfOrder,
                "retransmitted": tracker.retransmitted, "unprotected": tracker.unprotected,
                "table_full": tracker.tableFull, "expired": tracker.expired, "send_failures": data.sendFailures,
                "copies": tracker.copies, "copies_refused": tracker.copiesRefused, "copied_bytes": tracker.copiedBytes,
                "restored": tracker.restored, "holes_unfilled": tracker.holesUnfilled,
            ],
            rejected: Dictionary(failures.nonZero.map { ($0.cause.name, $0.count) }) { first, _ in first },
            resets: resets
        )
        status.checks = checks?.states.map(shown)
        return status
    }

    /// What the machine has made of a check: the end of a listener counts too.
    private func shown(_ state: HealthMonitor.State) -> DirectorStatus.Check {
        let service = machine.services.first { $0.configuration.name == state.target.service }
        let now = MonotonicClock.now()
        let isUp = service?.healthy ?? false
        return DirectorStatus.Check(
            service: state.target.service,
            backend: state.target.backend,
            kind: state.kind,
            target: "\(state.target.endpoint)",
            state: isUp ? "up" : service?.heldUntil.map { now < $0 } ?? false ? "held" : "down",
            failure: state.failure,
            sinceS: service?.changedAt.map { Double((now - $0).nanoseconds) / 1e9 } ?? 0,
            passed: state.passed,
            failed: state.failed,
            changes: service?.changes ?? 0,
            lastMs: state.duration?.milliseconds
        )
    }

    private var standing: String {
        switch machine.standing {
        case .unstarted: "starting"
        case .cleaning: "cleaning"
        case .none: "outside"
        case .welcomed: "welcomed"
        case .member: "member"
        case .stopped: "stopped"
        }
    }

    private var lease: String {
        switch machine.lease {
        case .none: "none"
        case .until: "renewed"
        case .unlimited: "unlimited"
        }
    }
}
