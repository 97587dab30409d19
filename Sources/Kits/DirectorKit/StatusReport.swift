import AdminProtocol
import CContract
import Cluster
import Configuration
import ControlPlane
import LinuxBPF
import LinuxBase
import Model
import Wire

/// Puts together what `batonctl status` shows. On the control thread.
struct StatusReport {
    let runtime: DirectorRuntime

    func make() -> DirectorStatus {
        let machine = runtime.machine
        var status = DirectorStatus(
            interface: runtime.configuration.interface,
            xdpMode: runtime.host.mode,
            epoch: machine.epoch.rawValue,
            backends: backends(),
            slots: machine.slots.map { slot in
                var shown = DirectorStatus.Slot(
                    slot: Int(slot.id.rawValue),
                    backend: machine.name(of: slot.home),
                    owner: machine.holder(of: slot.id),
                    state: machine.stateName(of: slot.id),
                    group: "\(slot.id.group)"
                )
                shown.protection = protection(of: slot.id)
                return shown
            },
            services: services(),
            flows: DirectorStatus.FlowTable(
                capacity: runtime.host.plane.flows.maxEntries,
                bytesPerFlow: bytesPerFlow
            ),
            counters: counters(),
            rejected: rejected(),
            takeovers: machine.takeOvers.reversed().map(record)
        )
        status.checks = runtime.checkStates.map(\.shown)
        status.limits = runtime.limits()
        return status
    }

    private func protection(of slot: SlotID) -> [DirectorStatus.Protection] {
        runtime.machine.protection(of: slot).map { backup, report in
            DirectorStatus.Protection(
                backup: backup,
                state: report.phase.name,
                connections: Int(report.connections),
                protected: Int(report.protected),
                missing: Int(report.missing),
                timeToProtectionMs: report.timeToProtection?.milliseconds
            )
        }
    }

    private var bytesPerFlow: Int {
        let flows = runtime.host.plane.flows
        return ((try? flows.memoryBytes()) ?? 0) / max(flows.maxEntries, 1)
    }

    func backends() -> [DirectorStatus.Backend] {
        let machine = runtime.machine
        let now = MonotonicClock.now()
        return runtime.configuration.backends.enumerated().map { index, backend in
            let id = machine.backendID(backend.name) ?? BackendID(rawValue: UInt16(index))
            let member = machine.members.first { $0.id == id }
            let state: String
            let drain = machine.drainStatus(backend.name).state
            switch member?.condition {
            case .present where drain != "none": state = drain
            case nil: state = drain == "none" ? "absent" : drain
            case .silent:
                if case .failed = member?.fencing { state = "fence-failed" } else { state = "suspect" }
            case .present: state = member?.healthy.isEmpty ?? true ? "application-down" : "live"
            }
            return DirectorStatus.Backend(
                name: backend.name,
                address: "\(backend.address)",
                weight: backend.weight,
                state: state,
                slot: member.map { Int($0.slot.rawValue) },
                backups: member.map { machine.backupNames(of: $0.slot) } ?? [],
                lastHeartbeatMs: member?.lastHeartbeat.map { (now - $0).milliseconds }
            )
        }
    }

    private func services() -> [DirectorStatus.Service] {
        zip(runtime.configuration.services, runtime.host.serviceIDs).map { service, id in
            let sums = (try? runtime.host.plane.serviceCounters.sum(UInt32(id.rawValue))) ?? [0, 0, 0, 0]
            let copies = (try? runtime.host.plane.copyCounters.sum(UInt32(id.rawValue))) ?? [0, 0]
            return DirectorStatus.Service(
                name: service.name,
                address: service.addressText,
                policy: service.policyText,
                replay: service.replay.name,
                forwarding: service.forwarding,
                configuredForwarding: runtime.savedForwarding(of: service),
                framesToOwner: sums[0],
                framesToGroup: sums[1],
                copies: copies[0],
                framesNotCopied: copies[1],
                newFlows: sums[2],
                bytes: sums[3]
            )
        }
    }

    private static let counterNames = [
        "frames", "to_owner", "to_group", "new_flows", "no_backend", "no_flow", "malformed", "fragments", "not_ours",
        "slot_down", "table_full", "errors_forwarded", "fragments_forwarded",
    ]

    private func counters() -> [String: UInt64] {
        let sums = (try? runtime.host.plane.counters.sum()) ?? []
        var counters = Dictionary(zip(Self.counterNames, sums)) { first, _ in first }
        counters["timed_out"] = runtime.timedOutFlows
        if runtime.configuration.fence != nil {
            counters["fence_commands"] = runtime.machine.fenceCommands
            counters["fence_failures"] = runtime.machine.fenceFailures
        }
        return counters
    }

    private func rejected() -> [String: UInt64] {
        var rejected = Dictionary(
            runtime.failures.nonZero.map { ($0.cause.name, $0.count) }) { first, _ in first }
        let unexpected = runtime.machine.drops.unexpected
        if unexpected > 0 { rejected["message-unexpected"] = unexpected }
        return rejected
    }

    private func record(_ takeOver: TakeOverRecord) -> TakeoverRecord {
        var record = TakeoverRecord(
            slot: Int(takeOver.slot.rawValue),
            victim: takeOver.victim,
            backup: takeOver.backup,
            sign: takeOver.sign.name,
            lastHeartbeatNs: takeOver.lastHeartbeat.nanoseconds,
            detectedNs: takeOver.detected.nanoseconds,
            orderedNs: takeOver.ordered.nanoseconds
        )
        record.settledNs = takeOver.settled?.nanoseconds
        record.tDMs = takeOver.detection.milliseconds
        guard let report = takeOver.report else { return record }
        let moments = report.moments
        record.startedNs = moments.started?.nanoseconds
        record.probeFirstNs = moments.firstProbe?.nanoseconds
        record.answerFirstNs = moments.firstAnswer?.nanoseconds
        record.adoptedFirstNs = moments.firstAdoption?.nanoseconds
        record.firstReplyNs = moments.firstReply?.nanoseconds
        record.firstNewByteNs = moments.firstNewByte?.nanoseconds
        record.settledOnBackupNs = moments.settled?.nanoseconds
        record.finishedNs = moments.finished?.nanoseconds
        record.connections = Int(report.connections)
        record.adopted = Int(report.adopted)
        record.caughtUpBytes = report.caughtUpBytes
        for cause in ResetCause.allCases where report.resets(cause) > 0 {
            record.reset[cause.name] = Int(report.resets(cause))
        }
        record.tRMs = report.times.response?.milliseconds
        record.tCMs = report.times.reconstruction?.milliseconds
        record.tAMs = report.times.application?.milliseconds
        record.tFMs = report.times.catchUp?.milliseconds
        return record
    }
}

extension Configuration.DirectorConfiguration.Service {
    /// The policy with what was said beside its name, such as `mh port size=4093`, and persistence.
    var policyText: String {
        var words = [policy]
        for (key, value) in policyOptions.sorted(by: { $0.key < $1.key }) where value != 0 {
            words.append(value == 1 ? key : "\(key)=\(value)")
        }
        if let persistence { words.append("persistent=\(durationText(persistence.timeout))") }
        return words.joined(separator: " ")
    }
}
