import Model
import Wire

/// Resynchronisation, as far as the cluster's machine has to do with it: whom to ask, who may ask, what the director is
/// told (docs/design/0005-resynchronisation.md).
extension AgentMachine {
    /// Says whom to ask when the ring has changed that.
    mutating func noteSources(into effects: inout [AgentEffect]) {
        let new = currentSources
        guard new != sources else { return }
        sources = new
        // What was reported of slots that are not backed up any more is void.
        protection.removeAll { report in !new.contains { $0.slot == report.slot } }
        effects.append(.sources(new))
    }

    /// A slot that is being taken over by another has that one for its owner: he has what there is.
    private var currentSources: [SlotSource] {
        guard case .member = standing, let table, let backend = director?.backend, !membership.tapped.isEmpty else {
            return []
        }
        return table.slots.compactMap { entry in
            guard let owner = entry.owner, owner != backend, entry.backups.contains(backend),
                let member = table.member(owner), member.present
            else { return nil }
            return SlotSource(slot: entry.slot, owner: owner, ownerLife: member.life, address: member.address)
        }
    }

    /// Whether a peer may know the connections of a slot: we serve it or take it over, and the peer backs it up.
    public func mayTell(_ slot: SlotID, to peer: BackendID, life peerLife: Life) -> Bool {
        guard case .member = standing, let table, let backend = director?.backend,
            let member = table.member(peer), member.life == peerLife
        else { return false }
        return table.slots.contains { $0.slot == slot && $0.owner == backend && $0.backups.contains(peer) }
    }

    /// Whether a hello names this agent, and a member of the ring.
    public func isPeer(_ hello: PeerHello) -> Bool {
        guard case .member = standing, hello.receiverLife == life else { return false }
        return table?.member(hello.sender)?.life == hello.senderLife
    }

    mutating func report(_ slots: [SlotProtection], into effects: inout [AgentEffect]) {
        protection = slots.filter { report in sources.contains { $0.slot == report.slot } }
        sendProtection(into: &effects)
    }

    func sendProtection(into effects: inout [AgentEffect]) {
        guard case .open = session, case .member = standing else { return }
        var rest = protection[...]
        // A report replaces the former one of its slots only, so that it may come in parts.
        while !rest.isEmpty {
            effects.append(.send(.protection(Array(rest.prefix(PeerLimits.slots)))))
            rest = rest.dropFirst(PeerLimits.slots)
        }
    }
}
