import CContract
import Configuration
import LinuxBPF
import Model
import Wire

// Thresholds, and how many new flows may begin: what the data plane keeps by itself.

extension DirectorHost {
    /// Whether a back-end has a threshold: then the counts of flows are put right more often.
    var hasThresholds: Bool { configuration.backends.contains { $0.upperThreshold > 0 } }

    /// New flows of all services together.
    func publishLimitOfAll() throws {
        let rate = configuration.flows.rate
        try plane.flowLimits.put(
            UInt32(BATON_LIMIT_OF_ALL), baton_flow_limit(rate: rate?.rate, burst: rate?.burst ?? 1))
    }

    /// A service's limit, and who serves when nobody else does.
    func publishLimits(of id: ServiceID, sorry: SlotID?) throws {
        let rate = service(id)?.rate
        try plane.flowLimits.put(
            UInt32(id.rawValue),
            baton_flow_limit(rate: rate?.rate, burst: rate?.burst ?? 1, sorry: sorry?.rawValue))
    }

    /// A slot's thresholds, which are those of its back-end, in every service. Written before the slot is published: it
    /// has no flows yet.
    func publishThresholds(of slot: SlotID, backend name: String) throws {
        // Slots are published at every change of the ring: once is enough.
        guard Int(slot.rawValue) < Limits.slots, thresholdsWritten[slot] != name else { return }
        var threshold = baton_threshold()
        if let backend = configuration.backends.first(where: { $0.name == name }), backend.upperThreshold > 0 {
            threshold.upper = UInt32(clamping: backend.upperThreshold)
            // IPVS without a lower threshold: below three quarters (ip_vs_conn.c, ip_vs_unbind_dest).
            let lower = backend.lowerThreshold > 0 ? backend.lowerThreshold : (backend.upperThreshold * 3 + 3) / 4
            threshold.lower = UInt32(clamping: lower)
        }
        for id in serviceIDs {
            let key = UInt32(id.rawValue)
            var all = try plane.thresholds.get(key) ?? baton_thresholds()
            let before = all[Int(slot.rawValue)]
            guard before.upper != threshold.upper || before.lower != threshold.lower else { continue }
            all[Int(slot.rawValue)] = threshold
            try plane.thresholds.put(key, all)
            try Thresholds.judge(plane, service: id)
        }
        thresholdsWritten[slot] = name
    }
}

extension DirectorHost {
    /// After a change of the configuration: of all slots that have been published.
    func publishThresholdsAnew() throws {
        let written = thresholdsWritten
        thresholdsWritten = [:]
        for (slot, name) in written.sorted(by: { $0.key < $1.key }) { try publishThresholds(of: slot, backend: name) }
    }
}

/// Which slots are full, by what was counted in the table.
enum Thresholds {
    /// After a count: the program notices only flows that begin. On any thread.
    static func judge(_ plane: DirectorPlane, service: ServiceID) throws {
        let key = UInt32(service.rawValue)
        guard let limits = try plane.thresholds.get(key), let marks = try plane.fullSlots.get(key),
            let loads = try plane.loads.get(key), let corrections = try plane.loadCorrections.get(key)
        else { return }
        let judged = marks.judged(limits) { slot in
            let (load, correction) = (loads[slot], corrections[slot])
            return positive(load.active &+ correction.active) + positive(load.inactive &+ correction.inactive)
        }
        let isSame = (0..<Limits.slots).allSatisfy { marks[$0] == judged[$0] }
        if !isSame { try plane.fullSlots.put(key, judged) }
    }

    private static func positive(_ count: UInt32) -> UInt32 { UInt32(max(0, Int32(bitPattern: count))) }
}
