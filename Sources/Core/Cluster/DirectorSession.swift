import Model
import ModuleInterfaces
import Wire

/// What agents say: joins, acknowledgements, signs, reports, heartbeats.
extension DirectorMachine {
    mutating func received(
        _ message: StreamMessage,
        from session: SessionID,
        now: Instant,
        into effects: inout [DirectorEffect]
    ) {
        if case .join(let join) = message {
            joined(join, session: session, now: now, into: &effects)
            return
        }
        guard let index = memberIndex(session: session) else {
            unexpected("a message of a session that has not joined", into: &effects)
            effects.append(.close(session))
            return
        }
        switch message {
        case .join: break
        case .ringAcknowledged(let epoch): acknowledged(epoch, member: index, now: now, into: &effects)
        case .sign(let sign): received(sign, member: index, now: now, into: &effects)
        case .takeOverReport(let report): received(report, member: index, now: now, into: &effects)
        case .protection(let slots): received(slots, member: index, now: now, into: &effects)
        case .welcome, .refused, .ring, .takeOver, .fence, .yield, .resetFlows:
            unexpected("a message that only the director sends", into: &effects)
        }
    }

    mutating func unexpected(_ what: String, into effects: inout [DirectorEffect]) {
        drops.unexpected &+= 1
        effects.append(.log(.unexpectedMessage(what)))
    }

    mutating func sessionClosed(_ session: SessionID, into effects: inout [DirectorEffect]) {
        guard let index = memberIndex(session: session) else { return }
        members[index].session = nil
        effects.append(.log(.sessionLost(name(of: members[index].id))))
    }

    // MARK: Joining

    private mutating func joined(
        _ join: Join,
        session: SessionID,
        now: Instant,
        into effects: inout [DirectorEffect]
    ) {
        guard memberIndex(session: session) == nil else {
            unexpected("a second join on one session", into: &effects)
            return
        }
        guard let id = backend(named: join.name) else {
            refuse(join, session, .unknownName, "no back-end of this name is configured", into: &effects)
            return
        }
        if let slot = slots.first(where: { $0.home == id && $0.life == join.life }) {
            if let index = memberIndex(slot: slot.id) {
                resume(index, join, session: session, now: now, into: &effects)
            } else {
                refuse(join, session, .lifeEnded, "\(slot.id) was given to another", into: &effects)
            }
            return
        }
        if let held = join.heldSlot {
            refuse(join, session, .lifeUnknown, "no record of \(held) in this life", into: &effects)
            return
        }
        if let index = memberIndex(id) {
            guard case .silent = members[index].condition else {
                refuse(join, session, .duplicateName, "another agent of this name lives", into: &effects)
                return
            }
            condemn(members[index].slot, .restarted, now: now, into: &effects)
        }
        admit(join, id, session: session, now: now, into: &effects)
    }

    private mutating func refuse(
        _ join: Join,
        _ session: SessionID,
        _ reason: Refusal.Reason,
        _ text: String,
        into effects: inout [DirectorEffect]
    ) {
        let refusal = Refusal(reason: reason, text: text)
        effects.append(.send(.refused(refusal), to: session))
        effects.append(.close(session))
        effects.append(.log(.refused(join.name, refusal)))
    }

    /// A new life. Its agent has silenced and cleared away every former one before it joined, so these are out of
    /// every contest.
    private mutating func admit(
        _ join: Join,
        _ id: BackendID,
        session: SessionID,
        now: Instant,
        into effects: inout [DirectorEffect]
    ) {
        guard let configuration, let slot = freeSlot(now: now) else {
            refuse(join, session, .noSlotFree, "all \(Limits.slots) slots are in use", into: &effects)
            effects.append(.log(.limitReached("slots")))
            return
        }
        let formerLives = slots.filter { $0.home == id }.map(\.id)
        for index in slots.indices {
            slots[index].contenders.removeAll { formerLives.contains($0.slot) }
        }
        slots.removeAll { $0.id == slot }
        slots.append(
            Slot(
                id: slot, home: id, life: join.life, address: join.address, mac: join.mac, holder: .owned(by: slot),
                asked: [AskedSet(epoch: Epoch(rawValue: 0), backups: [])]))
        slots.sort { $0.id < $1.id }
        let parameters = DetectorParameters(
            interval: timings.heartbeatInterval, window: timings.window, start: now)
        members.append(
            Member(id: id, slot: slot, session: session, detector: configuration.detector(parameters)))
        members.sort { $0.id < $1.id }
        effects.append(.log(.joined(join.name, slot, join.life)))
        // The record is safe before the agent hears of its slot.
        publishSlots(into: &effects)
        welcome(id, slot, session, into: &effects)
        assignSlots(now: now, into: &effects)
    }

    /// The lowest number never used, or else the one that has rested longest.
    private func freeSlot(now: Instant) -> SlotID? {
        for raw in 0..<UInt16(Limits.slots) where slotIndex(SlotID(rawValue: raw)) == nil {
            return SlotID(rawValue: raw)
        }
        let rested = slots.filter { slot in
            slot.holder == .retired && (slot.restingSince.map { now - $0 >= timings.slotRest } ?? false)
        }
        return rested.min { ($0.restingSince ?? .never) < ($1.restingSince ?? .never) }?.id
    }

    /// The same life again, after a lost session or a restart of the director: it keeps what it has.
    private mutating func resume(
        _ index: Int,
        _ join: Join,
        session: SessionID,
        now: Instant,
        into effects: inout [DirectorEffect]
    ) {
        guard let configuration, let slot = slotIndex(members[index].slot) else { return }
        if let former = members[index].session { effects.append(.close(former)) }
        members[index].session = session
        slots[slot].address = join.address
        slots[slot].mac = join.mac
        // Silence before the first heartbeat of this run counts from here, not from the end of the grace.
        if members[index].lastHeartbeat == nil {
            let parameters = DetectorParameters(
                interval: timings.heartbeatInterval, window: timings.window, start: now)
            members[index].detector = configuration.detector(parameters)
            members[index].condition = .present
        }
        trimAsked(slot, acknowledged: join.epoch)
        let id = members[index].id
        let own = members[index].slot
        effects.append(.log(.rejoined(join.name, own)))
        welcome(id, own, session, into: &effects)
        if members[index].condition == .present {
            for held in held(by: own) { slots[held].reachable = true }
        }
        if !rebuild(now: now, into: &effects) { sendTable(to: index, into: &effects) }
        for held in held(by: own) where slots[held].holder == .takingOver(by: own) {
            sendOrder(held, now: now, into: &effects)
        }
        assignSlots(now: now, into: &effects)
    }

    /// The services have changed while agents are connected: they are told by another welcome. What was known of the
    /// applications of a number that means another service now is forgotten until the agents say it anew.
    mutating func announceServices(former: [ServiceDescription], into effects: inout [DirectorEffect]) {
        let present = configuration?.services.map(\.description) ?? []
        for index in members.indices {
            members[index].healthy.removeAll { id in
                guard let new = present.first(where: { $0.id == id }) else { return true }
                return former.first { $0.id == id }?.name != new.name
            }
            guard let session = members[index].session else { continue }
            welcome(members[index].id, members[index].slot, session, into: &effects)
        }
    }

    private func welcome(
        _ id: BackendID,
        _ slot: SlotID,
        _ session: SessionID,
        into effects: inout [DirectorEffect]
    ) {
        let welcome = Welcome(
            backend: id,
            slot: slot,
            directorLife: life,
            heartbeatInterval: timings.heartbeatInterval,
            window: timings.window,
            lease: timings.lease,
            services: configuration?.services.map(\.description) ?? []
        )
        effects.append(.send(.welcome(welcome), to: session))
    }

    // MARK: Members' messages

    private mutating func acknowledged(
        _ acknowledged: Epoch,
        member index: Int,
        now: Instant,
        into effects: inout [DirectorEffect]
    ) {
        guard acknowledged <= epoch, let slot = slotIndex(members[index].slot) else {
            unexpected("an acknowledgement of a ring table that was never sent", into: &effects)
            return
        }
        trimAsked(slot, acknowledged: acknowledged)
        if !members[index].settledIn {
            members[index].settledIn = true
            members[index].settledAt = now
        }
        // Who listens from the beginning takes its place on the ring.
        noteListening(members[index].slot, acknowledged: acknowledged, now: now)
        rebuild(now: now, into: &effects)
        evaluate(now: now, into: &effects)
        updatePlans(into: &effects)
    }

    /// What is older than the table that the agent lives by is no longer asked.
    private mutating func trimAsked(_ slot: Int, acknowledged: Epoch) {
        guard slots[slot].asked.contains(where: { $0.epoch >= acknowledged }) else { return }
        slots[slot].asked.removeAll { $0.epoch < acknowledged }
    }

    private mutating func received(
        _ sign: Sign,
        member index: Int,
        now: Instant,
        into effects: inout [DirectorEffect]
    ) {
        let name = name(of: members[index].id)
        switch sign.kind {
        case .up:
            setHealth(sign.service, true, member: index, into: &effects)
        case .down, .listenerClosed:
            setHealth(sign.service, false, member: index, into: &effects)
        case .crashed:
            effects.append(.log(.serviceCrashed(name, sign.service)))
            condemn(members[index].slot, .application(sign.service), now: now, into: &effects)
            assignSlots(now: now, into: &effects)
        case .leaving:
            condemn(members[index].slot, .leaving, now: now, into: &effects)
            assignSlots(now: now, into: &effects)
        case .yielded:
            condemn(members[index].slot, .planned, now: now, into: &effects)
            assignSlots(now: now, into: &effects)
        }
        updatePlans(into: &effects)
    }

    private mutating func setHealth(
        _ service: ServiceID,
        _ healthy: Bool,
        member index: Int,
        into effects: inout [DirectorEffect]
    ) {
        guard let configuration, configuration.services.contains(where: { $0.description.id == service }),
            members[index].healthy.contains(service) != healthy
        else { return }
        let name = name(of: members[index].id)
        if healthy {
            members[index].healthy.append(service)
            members[index].healthy.sort()
            effects.append(.log(.serviceUp(name, service)))
        } else {
            members[index].healthy.removeAll { $0 == service }
            effects.append(.log(.serviceDown(name, service)))
        }
    }

    // MARK: Heartbeats

    mutating func received(_ datagram: Datagram, now: Instant, into effects: inout [DirectorEffect]) {
        guard let index = memberIndex(datagram.sender), let slot = slotIndex(members[index].slot) else {
            drops.unknownSender &+= 1
            return
        }
        guard datagram.receiverLife == life, datagram.senderLife == slots[slot].life else {
            drops.wrongLife &+= 1
            return
        }
        guard datagram.sequence > members[index].lastSequence else {
            drops.stale &+= 1
            return
        }
        switch datagram.body {
        case .heartbeat(let heartbeat):
            members[index].lastSequence = datagram.sequence
            members[index].lastHeartbeat = now
            members[index].load = heartbeat.load
            members[index].detector.heartbeat(at: now)
            slots[slot].promisedUntil = max(slots[slot].promisedUntil, now + Drift.covering(heartbeat.lease))
            echo(datagram, to: slots[slot], now: now, into: &effects)
            takeHealth(heartbeat, member: index, into: &effects)
            if case .silent = members[index].condition { recover(index, now: now, into: &effects) }
        case .echo, .fenceDemand, .fenceAcknowledged, .replies, .synAcks:
            drops.unexpected &+= 1
        }
    }

    private mutating func echo(
        _ heartbeat: Datagram,
        to slot: Slot,
        now: Instant,
        into effects: inout [DirectorEffect]
    ) {
        sequence &+= 1
        let echo = Datagram(
            sender: .director,
            senderLife: life,
            receiverLife: slot.life,
            sequence: sequence,
            sentAt: now,
            body: .echo(Echo(sequence: heartbeat.sequence, sentAt: heartbeat.sentAt))
        )
        effects.append(.datagram(echo, to: slot.address))
    }

    /// Heartbeats repeat what signs said, so that a lost sign is made good.
    private mutating func takeHealth(
        _ heartbeat: Heartbeat,
        member index: Int,
        into effects: inout [DirectorEffect]
    ) {
        let before = members[index].healthy
        for report in heartbeat.services {
            setHealth(report.service, report.healthy, member: index, into: &effects)
        }
        if members[index].healthy != before { updatePlans(into: &effects) }
    }

    private mutating func recover(_ index: Int, now: Instant, into effects: inout [DirectorEffect]) {
        members[index].condition = .present
        members[index].fencing = .none
        for held in held(by: members[index].slot) { slots[held].reachable = true }
        effects.append(.log(.recovered(name(of: members[index].id))))
        rebuild(now: now, into: &effects)
        updatePlans(into: &effects)
    }
}
