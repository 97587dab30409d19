import CContract
import Configuration
import LinuxBPF
import Model
import ModuleInterfaces
import Wire

/// A policy's plan in the terms of contract.h.
struct PlanPublication {
    /// Slots, or places in `entries` where the kind is `twoChoices`.
    let table: [UInt16]
    /// Candidates, each followed by the slots that it has taken over, with weight 0.
    let entries: [(slot: UInt16, weight: UInt16)]
    /// Where persistent clients may have new flows.
    let open: [UInt16]

    init(_ plan: DispatchPlan) {
        var entries: [(slot: UInt16, weight: UInt16)] = []
        var places = [UInt16](repeating: UInt16(BATON_NO_SLOT), count: Limits.slots)
        for candidate in plan.candidates {
            let count = 1 + candidate.takenOver.count
            guard entries.count + count <= Int(BATON_MAX_CANDIDATES) else { break }
            places[Int(candidate.slot.rawValue)] = UInt16(entries.count)
            entries.append((candidate.slot.rawValue, candidate.weight))
            entries += candidate.takenOver.map { ($0.rawValue, 0) }
        }
        self.entries = entries
        open = plan.slots.map(\.rawValue)
        let slots = plan.table.map(\.rawValue)
        table = plan.kind == .twoChoices ? slots.map { places[Int($0)] } : slots
    }
}

extension DirectorHost {
    /// Writes table and candidates beside those in use, then points the service there.
    func publish(_ plan: DispatchPlan, of service: ServiceID, forwarding: UInt8) throws {
        let publication = PlanPublication(plan)
        let row = Int(BATON_PLAN_ROW)
        let number = service.rawValue
        guard let start = planRoom.take((publication.table.count + row - 1) / row, for: number) else {
            throw DirectorFailure("no room for a table of \(publication.table.count) places; make tables of mh smaller")
        }
        try plane.putTable(publication.table, from: UInt32(start * row))
        let half = 1 - (planHalf[service] ?? 1)
        let element = UInt32(number) * 2 + half
        try plane.candidates.put(element, baton_candidates(entries: publication.entries, open: publication.open))
        var value = baton_service()
        value.id = number
        value.forwarding = forwarding
        value.plan_kind = plan.kind.rawValue
        value.plan_rule = plan.rule.rawValue
        value.plan_flags = plan.fallsBack ? UInt8(BATON_PLAN_FALLBACK.rawValue) : 0
        value.plan_offset = UInt32(start * row)
        value.plan_length = UInt32(publication.table.count)
        value.candidates = element
        value.cache_s = plan.cacheSeconds
        value.hash_secret = secrets[service] ?? 0
        let entry = self.service(service)
        if let entry, entry.transport == .udp {
            // Not less than was asked for: the program counts in seconds, and notes when it saw a flow to a second.
            value.idle_s = UInt32(clamping: (entry.timeouts.udp.nanoseconds + 999_999_999) / 1_000_000_000 + 1)
        }
        if let persistence = entry?.persistence {
            value.persistence_s = UInt32(clamping: persistence.timeout.nanoseconds / 1_000_000_000)
            value.persistence_bits = UInt8(clamping: 96 + persistence.netmask)
            value.persistence_bits_ipv6 = UInt8(clamping: persistence.netmaskIPv6)
        }
        try publishLimits(of: service, sorry: plan.sorry)
        try plane.setService(value, singlePorts: entry?.singlePortKeys ?? [])
        // The former table stays until the next one: a frame that is being looked at may still read it.
        if let former = formerStart[service] { planRoom.keepOnly(start, former, of: number) }
        formerStart[service] = start
        planHalf[service] = half
        if plan.kind.usesCandidates || hasThresholds { weighing.insert(service) } else { weighing.remove(service) }
    }
}
