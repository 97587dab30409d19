import CContract
import Model

/// Dispatch of new flows as plain Swift: what director_dispatch.h, director_load.h and director_persistence.h must do.
extension DirectorModel {
    private static let tries: UInt32 = 16
    private static let none = UInt16(BATON_NO_SLOT)

    mutating func load(_ service: UInt16, _ slot: UInt16, _ change: (inout Load) -> Void) {
        change(&loads[LoadName(service: service, slot: slot), default: Load()])
    }

    func takesNewFlows(_ slot: UInt16) -> Bool {
        guard let found = slots[slot] else { return false }
        return found.isActive && !found.isTakenOver
    }

    // MARK: Persistence

    func network(_ client: IPAddress, _ service: Service) -> AddressName {
        let netmask = service.weighing.netmask
        let bits = client.isIPv4 ? 96 + netmask.0 : netmask.1
        let mask = { (bits: Int) in bits <= 0 ? 0 : bits >= 64 ? UInt64.max : ~(UInt64.max >> UInt64(bits)) }
        return AddressName(
            address: IPAddress(high: client.high & mask(bits), low: client.low & mask(bits - 64)), service: service.id)
    }

    func slotOfClient(_ segment: ParsedFrame.Segment, _ service: Service) -> UInt16? {
        guard service.weighing.persistence > 0, let slot = clients[network(segment.source, service)],
            service.weighing.open.contains(slot), takesNewFlows(slot)
        else { return nil }
        return slot
    }

    // MARK: Plans

    mutating func dispatch(_ segment: ParsedFrame.Segment, _ service: Service) -> UInt16 {
        switch service.planKind {
        case BATON_PLAN_LEAST, BATON_PLAN_FIRST: return best(service, among: candidates(service)) ?? Self.none
        case BATON_PLAN_CACHE, BATON_PLAN_CACHE_SET: return byDestination(segment, service)
        default: break
        }
        guard !service.plan.isEmpty else { return Self.none }
        switch service.planKind {
        case BATON_PLAN_COUNTER:
            for _ in 0..<Self.tries {
                let number = cursors[service.id, default: 0]
                cursors[service.id] = number &+ 1
                let slot = service.plan[Int(number) % service.plan.count]
                if takesNewFlows(slot) { return slot }
            }
            return best(service, among: candidates(service)) ?? Self.none
        case BATON_PLAN_TWO_CHOICES: return byTwoChoices(segment, service)
        default:
            for attempt in 0..<(service.weighing.fallsBack ? Self.tries : 1) {
                let slot = service.plan[Int(hash(segment, service, attempt)) % service.plan.count]
                if takesNewFlows(slot) { return slot }
            }
            return service.weighing.fallsBack ? best(service, among: candidates(service)) ?? Self.none : Self.none
        }
    }

    private func hash(_ segment: ParsedFrame.Segment, _ service: Service, _ attempt: UInt32) -> UInt32 {
        let kind = service.planKind
        let isWhole = kind == BATON_PLAN_HASH_FLOW || kind == BATON_PLAN_TWO_CHOICES
        let none = [UInt8](repeating: 0, count: 16)
        let bytes = { (port: UInt16) in [UInt8(port >> 8), UInt8(port & 0xff)] }
        let message =
            (kind == BATON_PLAN_HASH_DESTINATION ? none : segment.source.bytes)
            + (isWhole || kind == BATON_PLAN_HASH_DESTINATION ? segment.destination.bytes : none)
            + (isWhole ? bytes(segment.destinationPort) : [0, 0])
            + (isWhole || kind == BATON_PLAN_HASH_CLIENT ? bytes(segment.sourcePort) : [0, 0])
        let secret = service.secret &+ attempt
        return halfSipHash13(message, key: (secret, secret ^ 0x9e37_79b9))
    }

    // MARK: Loads

    /// A candidate with all that counts for it.
    private struct Weighed {
        var slot: UInt16
        var weight: UInt64
        var active: UInt64 = 0
        var inactive: UInt64 = 0

        var overhead: UInt64 { active << 8 + inactive }
        var delay: UInt64 { active + 1 }
    }

    /// From a place in the list on; those that take no new flows are left out at the end.
    private func candidates(_ service: Service) -> [Weighed] {
        var all: [Weighed] = []
        for (slot, weight) in service.weighing.candidates {
            if weight > 0 { all.append(Weighed(slot: slot, weight: UInt64(weight))) }
            let name = LoadName(service: service.id, slot: slot)
            let (load, correction) = (loads[name] ?? Load(), corrections[name] ?? Load())
            guard !all.isEmpty else { continue }
            all[all.count - 1].active += UInt64(max(0, load.active &+ correction.active))
            all[all.count - 1].inactive += UInt64(max(0, load.inactive &+ correction.inactive))
        }
        return all.filter { takesNewFlows($0.slot) }
    }

    private func best(_ service: Service, among candidates: [Weighed]) -> UInt16? {
        let least = { (load: (Weighed) -> UInt64) -> UInt16? in
            var best: Weighed?
            for candidate in candidates {
                if let found = best, load(found) * candidate.weight <= load(candidate) * found.weight { continue }
                best = candidate
            }
            return best?.slot
        }
        switch service.weighing.rule {
        case BATON_RULE_ANY: return candidates.first?.slot
        case BATON_RULE_OVERFLOW: return candidates.first { $0.active <= $0.weight }?.slot
        case BATON_RULE_IDLE_FIRST: return candidates.first { $0.active == 0 }?.slot ?? least(\.delay)
        case BATON_RULE_DELAY: return least(\.delay)
        default: return least(\.overhead)
        }
    }

    private func byTwoChoices(_ segment: ParsedFrame.Segment, _ service: Service) -> UInt16 {
        let draw = { (attempt: UInt32) in
            service.plan[Int(hash(segment, service, attempt)) % service.plan.count]
        }
        let first = draw(0)
        var second = first
        for attempt in UInt32(1)..<4 where second == first { second = draw(attempt) }
        let all = candidates(service)
        let drawn = (first == second ? [first] : [first, second]).compactMap { place in
            all.first { $0.slot == service.weighing.candidates[Int(place)].slot }
        }
        return best(service, among: drawn) ?? best(service, among: all) ?? Self.none
    }

    private mutating func byDestination(_ segment: ParsedFrame.Segment, _ service: Service) -> UInt16 {
        let name = AddressName(address: segment.destination, service: service.id)
        let all = candidates(service)
        let known = destinations[name] ?? Array(repeating: nil, count: 8)
        var kept = known.map { slot in all.contains { $0.slot == slot } ? slot : nil }
        var member: Weighed?
        for candidate in all where kept.contains(candidate.slot) {
            if let found = member, found.overhead * candidate.weight <= candidate.overhead * found.weight { continue }
            member = candidate
        }
        let isHalfIdle = all.contains { $0.active * 2 < $0.weight }
        if let member, !(member.active > member.weight && isHalfIdle) {
            destinations[name] = kept
            return member.slot
        }
        guard let slot = best(service, among: all) else { return Self.none }
        if service.planKind == BATON_PLAN_CACHE { kept = Array(repeating: nil, count: 8) }
        if !kept.contains(slot), let free = kept.firstIndex(of: nil) { kept[free] = slot }
        destinations[name] = kept
        return slot
    }
}
