import Model
import Wire

/// The session with the director, and the way into the ring and out of it.
extension AgentMachine {
    mutating func connect(now: Instant, into effects: inout [AgentEffect]) {
        session = .connecting(since: now)
        effects.append(.connect)
    }

    mutating func closeSession(retryAt: Instant, into effects: inout [AgentEffect]) {
        session = .closed(retryAt: retryAt)
        effects.append(.disconnect)
    }

    mutating func connected(now: Instant, into effects: inout [AgentEffect]) {
        guard case .connecting = session else { return }
        let held: SlotID? =
            switch standing {
            case .member(let slot), .welcomed(let slot): slot
            case .unstarted, .cleaning, .none, .stopped: nil
            }
        session = .joining(since: now)
        let profiles = services.compactMap { service in
            service.handshake.map { ServiceProfile(service: service.configuration.name, handshake: $0) }
        }
        let join = Join(
            name: identity.name,
            life: life,
            mac: identity.mac,
            address: identity.address,
            heldSlot: held,
            epoch: table?.epoch ?? Epoch(rawValue: 0),
            profiles: profiles
        )
        effects.append(.send(.join(join)))
    }

    mutating func disconnected(now: Instant, into effects: inout [AgentEffect]) {
        switch session {
        case .closed: return
        case .connecting, .joining: break
        case .open: effects.append(.log(.sessionLost))
        }
        // While cleaning, the end of the cleaning connects.
        session = .closed(retryAt: standing == .cleaning ? .never : now + Self.retry)
    }

    mutating func socketsDestroyed(now: Instant, into effects: inout [AgentEffect]) {
        guard standing == .cleaning else { return }
        standing = .none
        connect(now: now, into: &effects)
    }

    mutating func received(_ message: StreamMessage, now: Instant, into effects: inout [AgentEffect]) {
        switch (message, session) {
        case (.welcome(let welcome), .joining): welcomed(welcome, now: now, into: &effects)
        case (.welcome(let welcome), .open): changed(welcome, into: &effects)
        case (.refused(let refusal), .joining): refused(refusal, now: now, into: &effects)
        case (.ring(let table), .open): apply(table, now: now, into: &effects)
        case (.takeOver(let order), .open): ordered(order, now: now, into: &effects)
        case (.fence(let fence), .open): fencedByDirector(fence, into: &effects)
        case (.yield(let fence), .open): yield(fence, into: &effects)
        case (.resetFlows(let flows), .open): reset(flows, into: &effects)
        case (.welcome, .closed), (.welcome, .connecting),
            (.refused, .closed), (.refused, .connecting), (.refused, .open),
            (.ring, .closed), (.ring, .connecting), (.ring, .joining),
            (.takeOver, .closed), (.takeOver, .connecting), (.takeOver, .joining),
            (.fence, .closed), (.fence, .connecting), (.fence, .joining),
            (.yield, .closed), (.yield, .connecting), (.yield, .joining),
            (.resetFlows, .closed), (.resetFlows, .connecting), (.resetFlows, .joining):
            unexpected("a message of the director before its turn", into: &effects)
        case (.join, _), (.ringAcknowledged, _), (.takeOverReport, _), (.sign, _), (.protection, _):
            unexpected("a message that only agents send", into: &effects)
        }
    }

    mutating func unexpected(_ what: String, into effects: inout [AgentEffect]) {
        drops.unexpected &+= 1
        effects.append(.log(.unexpectedMessage(what)))
    }

    private mutating func welcomed(_ welcome: Welcome, now: Instant, into effects: inout [AgentEffect]) {
        switch standing {
        case .none, .welcomed: standing = .welcomed(welcome.slot)
        case .member(let slot):
            guard slot == welcome.slot else {
                lose(.refused(.lifeUnknown), into: &effects)
                return
            }
        case .unstarted, .cleaning, .stopped: return
        }
        session = .open
        // What the former life of the director has granted stays granted: a new one waits it out before it condemns.
        if director?.directorLife != welcome.directorLife { directorSequence = 0 }
        take(welcome, into: &effects)
        effects.append(.log(.joined(welcome.backend, welcome.slot, director: welcome.directorLife)))
        nextHeartbeat = now
    }

    /// The director's configuration has changed under an open session: it may bring other services, and nothing else.
    private mutating func changed(_ welcome: Welcome, into effects: inout [AgentEffect]) {
        guard let director, director.backend == welcome.backend, director.slot == welcome.slot,
            director.directorLife == welcome.directorLife
        else {
            unexpected("a second welcome that is not for this life", into: &effects)
            return
        }
        take(welcome, into: &effects)
        sendSigns(into: &effects)
    }

    /// The services as the director has them now. What the agent's own configuration leaves out is served all the same,
    /// checked in the usual way.
    private mutating func take(_ welcome: Welcome, into effects: inout [AgentEffect]) {
        let known = director?.services
        director = welcome
        services.removeAll { state in
            let isOurs = identity.services.contains { $0.name == state.configuration.name }
            return !isOurs && !welcome.services.contains { $0.name == state.configuration.name }
        }
        for service in welcome.services where index(of: service.name) == nil && services.count < Limits.services {
            services.append(ServiceState(configuration: AgentService(name: service.name)))
        }
        for index in services.indices {
            let new = welcome.services.first { $0.name == services[index].configuration.name }
            if let new, let old = known?.first(where: { $0.name == new.name }), old.endpoint != new.endpoint {
                // Another address: whether anybody listens there is still to be seen.
                services[index].tally = HealthTally(services[index].tally.rules, isUp: false)
            }
            services[index].id = new?.id
        }
        if known != welcome.services { effects.append(.services(welcome.services)) }
    }

    private mutating func refused(_ refusal: Refusal, now: Instant, into effects: inout [AgentEffect]) {
        effects.append(.log(.refused(refusal)))
        switch refusal.reason {
        case .lifeEnded, .lifeUnknown:
            lose(.refused(refusal.reason), into: &effects)
        case .unknownName, .duplicateName, .noSlotFree, .protocolVersion, .unexpected:
            closeSession(retryAt: now + Self.retry, into: &effects)
        }
    }

    // MARK: Ring tables

    /// Lives by a new ring table, and only then says so: the director relies on the acknowledged one.
    private mutating func apply(_ new: RingTable, now: Instant, into effects: inout [AgentEffect]) {
        if let table, new.epoch < table.epoch {
            unexpected("a ring table older than the one in force", into: &effects)
            return
        }
        guard let backend = director?.backend, let mine = new.member(backend), mine.life == life else {
            unexpected("a ring table without this agent", into: &effects)
            return
        }
        switch standing {
        case .welcomed(let slot), .member(let slot):
            guard slot == mine.slot, new.slots.contains(where: { $0.slot == slot && $0.owner == backend }) else {
                lose(.condemned, into: &effects)
                return
            }
            standing = .member(slot)
        case .unstarted, .cleaning, .none, .stopped: return
        }
        table = new
        updatePeers(new, now: now)
        dropLostOrders(new, backend: backend, into: &effects)
        setMembership(membership(in: new, backend: backend), into: &effects)
        // Another set of backups is asked from now on; what the former set has granted is void.
        relax(now: now, into: &effects)
        setFence(false, into: &effects)
        effects.append(.send(.ringAcknowledged(new.epoch)))
        effects.append(.log(.ringApplied(new.epoch, own: membership.own, tapped: membership.tapped)))
        sendSigns(into: &effects)
        sendProtection(into: &effects)
        if nextHeartbeat == .never { nextHeartbeat = now }
    }

    private mutating func updatePeers(_ new: RingTable, now: Instant) {
        for index in peers.indices { peers[index].listed = false }
        for member in new.members where member.id != director?.backend {
            if let index = peers.firstIndex(where: { $0.id == member.id && $0.life == member.life }) {
                peers[index].listed = true
                peers[index].address = member.address
            } else {
                peers.append(Peer(id: member.id, life: member.life, slot: member.slot, address: member.address))
            }
        }
        // A promise outlives the table that it was given under.
        peers.removeAll { !$0.listed && $0.promisedUntil <= now }
        peers.sort { ($0.id, $0.life.rawValue) < ($1.id, $1.life.rawValue) }
    }

    private mutating func dropLostOrders(
        _ new: RingTable,
        backend: BackendID,
        into effects: inout [AgentEffect]
    ) {
        let mine = { (slot: SlotID) in new.slots.contains { $0.slot == slot && $0.owner == backend } }
        for order in orders where !mine(order.slot) && order.started {
            effects.append(.abortTakeOver(order.slot))
        }
        orders.removeAll { !mine($0.slot) }
        for report in settled where !mine(report.slot) { effects.append(.abortTakeOver(report.slot)) }
        settled.removeAll { !mine($0.slot) }
    }

    /// A slot that is being taken over here is still for the tap alone: the kernel would answer its frames with RSTs.
    func membership(in table: RingTable, backend: BackendID) -> GroupMembership {
        var groups = GroupMembership()
        for entry in table.slots {
            if entry.owner == backend {
                let pending = entry.state == .takingOver || orders.contains { $0.slot == entry.slot }
                let done = !pending || settled.contains { $0.slot == entry.slot }
                if done { groups.own.append(entry.slot) } else { groups.tapped.append(entry.slot) }
            } else if entry.backups.contains(backend) {
                groups.tapped.append(entry.slot)
            }
        }
        return groups
    }

    // MARK: The end of a life

    private mutating func fencedByDirector(_ fence: Fence, into effects: inout [AgentEffect]) {
        lose(.condemned, into: &effects)
    }

    /// The operator drains this host: silent first, then said so, so that the backup need not wait for a lease.
    private mutating func yield(_ fence: Fence, into effects: inout [AgentEffect]) {
        guard case .member(let slot) = standing, slot == fence.slot else {
            unexpected("an order to yield a slot that this life does not have", into: &effects)
            return
        }
        fenced = true
        effects.append(.fence(true))
        effects.append(.send(.sign(Sign(service: ServiceID(rawValue: 0), kind: .yielded))))
        lose(.yielded, into: &effects)
    }

    /// Ends this life: silent at once and for good, then clean, then back with a new one.
    mutating func lose(_ reason: LossReason, into effects: inout [AgentEffect]) {
        let lost = slot
        fenced = true
        effects.append(.fence(true))
        setLease(.none, into: &effects)
        for order in orders where order.started { effects.append(.abortTakeOver(order.slot)) }
        for report in settled { effects.append(.abortTakeOver(report.slot)) }
        orders = []
        settled = []
        for index in services.indices { services[index].restart = nil }
        setMembership(GroupMembership(), into: &effects)
        effects.append(.log(.slotLost(lost, reason)))
        switch session {
        case .closed: session = .closed(retryAt: .never)
        case .connecting, .joining, .open: closeSession(retryAt: .never, into: &effects)
        }
        endedLives.append(life)
        if endedLives.count > 8 { endedLives.removeFirst() }
        life = Life(rawValue: random.next())
        directorEchoed = nil
        directorSequence = 0
        nextHeartbeat = .never
        reportedLeaseExpired = false
        table = nil
        // The peers stay, so that late demands to fence can be answered; their echoes were for the life that ended.
        for index in peers.indices { peers[index].echoed = nil }
        guard standing != .stopped else { return }
        standing = .cleaning
        effects.append(.destroyServiceSockets)
        effects.append(.log(.rejoining(life)))
    }
}
