import Model
import Wire

/// Heartbeats, echoes, the lease that they keep alive, and the fence that ends it.
extension AgentMachine {
    // MARK: Sending

    /// One heartbeat to the director and to each required backup, and the demands of orders that still wait.
    mutating func beat(now: Instant, into effects: inout [AgentEffect]) {
        guard let director, case .member = standing else {
            nextHeartbeat = .never
            return
        }
        // From now, not from the former instant: a machine that was stopped must not make up for lost beats.
        nextHeartbeat = now + interval
        let body = Datagram.Body.heartbeat(heartbeat(director))
        send(body, to: nil, life: director.directorLife, now: now, into: &effects)
        for member in requiredBackups {
            send(body, to: member.address, life: member.life, now: now, into: &effects)
        }
        demandFences(now: now, into: &effects)
    }

    private func heartbeat(_ director: Welcome) -> Heartbeat {
        let reports = services.compactMap { service in
            service.id.map { ServiceReport(service: $0, healthy: service.healthy, handshake: service.handshake) }
        }
        return Heartbeat(lease: director.lease, load: load, services: reports)
    }

    var requiredBackups: [RingTable.Member] {
        guard let table, let backend = director?.backend else { return [] }
        return table.requiredBackups(of: backend)
    }

    mutating func send(
        _ body: Datagram.Body,
        to address: IPAddress?,
        life receiver: Life,
        from sender: Life? = nil,
        now: Instant,
        into effects: inout [AgentEffect]
    ) {
        guard let backend = director?.backend else { return }
        sequence &+= 1
        let datagram = Datagram(
            sender: backend,
            senderLife: sender ?? life,
            receiverLife: receiver,
            sequence: sequence,
            sentAt: now,
            body: body
        )
        effects.append(.datagram(datagram, to: address))
    }

    /// Tells every backup that is there what this machine has begun to reply.
    mutating func tell(_ notices: [ReplyNotice], now: Instant, into effects: inout [AgentEffect]) {
        guard case .member = standing else { return }
        for batch in ReplyNotice.batches(notices) {
            for member in requiredBackups {
                send(.replies(batch), to: member.address, life: member.life, now: now, into: &effects)
            }
        }
    }

    /// Tells every backup that is there what this machine has answered to SYNs.
    mutating func tell(_ notices: [SynAckNotice], now: Instant, into effects: inout [AgentEffect]) {
        guard case .member = standing else { return }
        for batch in SynAckNotice.batches(notices) {
            for member in requiredBackups {
                send(.synAcks(Array(batch)), to: member.address, life: member.life, now: now, into: &effects)
            }
        }
    }

    // MARK: Receiving

    mutating func received(_ datagram: Datagram, now: Instant, into effects: inout [AgentEffect]) {
        if datagram.sender == .director {
            receivedFromDirector(datagram, now: now, into: &effects)
            return
        }
        guard
            let index = peers.firstIndex(where: { $0.id == datagram.sender && $0.life == datagram.senderLife })
        else {
            drops.unknownSender &+= 1
            effects.append(.log(.datagramDropped(from: datagram.sender)))
            return
        }
        guard datagram.sequence > peers[index].lastSequence else {
            drops.stale &+= 1
            return
        }
        peers[index].lastSequence = datagram.sequence
        guard datagram.receiverLife == life else {
            receivedForFormerLife(datagram, peer: index, now: now, into: &effects)
            return
        }
        switch datagram.body {
        case .heartbeat(let heartbeat):
            echo(heartbeat, datagram, peer: index, now: now, into: &effects)
        case .echo(let echo):
            guard isOwn(echo, now: now), case .member = standing else { return }
            peers[index].echoed = max(peers[index].echoed ?? echo.sentAt, echo.sentAt)
            renew(now: now, into: &effects)
        case .fenceDemand(let fence):
            obey(fence, peer: index, now: now, into: &effects)
        case .fenceAcknowledged(let fence):
            acknowledged(fence, by: datagram, now: now, into: &effects)
        case .replies(let notices):
            if case .member = standing, peers[index].listed { effects.append(.peerReplies(notices)) }
        case .synAcks(let notices):
            if case .member = standing, peers[index].listed { effects.append(.peerSynAcks(notices)) }
        }
    }

    private mutating func receivedFromDirector(
        _ datagram: Datagram,
        now: Instant,
        into effects: inout [AgentEffect]
    ) {
        guard datagram.senderLife == director?.directorLife, datagram.receiverLife == life else {
            drops.wrongLife &+= 1
            return
        }
        guard datagram.sequence > directorSequence else {
            drops.stale &+= 1
            return
        }
        directorSequence = datagram.sequence
        switch datagram.body {
        case .echo(let echo):
            guard isOwn(echo, now: now), case .member = standing else { return }
            directorEchoed = max(directorEchoed ?? echo.sentAt, echo.sentAt)
            renew(now: now, into: &effects)
        case .heartbeat, .fenceDemand, .fenceAcknowledged, .replies, .synAcks:
            drops.unexpected &+= 1
        }
    }

    /// An echo can only name what was sent.
    private func isOwn(_ echo: Echo, now: Instant) -> Bool { echo.sequence <= sequence && echo.sentAt <= now }

    /// Answers a predecessor's heartbeat: the promise not to take over for the lease that it asks for.
    ///
    /// Never given to a life that this agent was ordered to take over from.
    private mutating func echo(
        _ heartbeat: Heartbeat,
        _ datagram: Datagram,
        peer index: Int,
        now: Instant,
        into effects: inout [AgentEffect]
    ) {
        guard case .member = standing, peers[index].listed, !condemned.contains(datagram.senderLife) else { return }
        peers[index].promisedUntil = max(peers[index].promisedUntil, now + Drift.covering(heartbeat.lease))
        let peer = peers[index]
        let echo = Echo(sequence: datagram.sequence, sentAt: datagram.sentAt)
        send(.echo(echo), to: peer.address, life: peer.life, now: now, into: &effects)
        for report in heartbeat.services where !peer.handshakes.contains(report) {
            guard let handshake = report.handshake else { continue }
            if peer.handshakes.contains(where: { $0.service == report.service && $0.handshake == handshake }) {
                continue
            }
            peers[index].handshakes.removeAll { $0.service == report.service }
            peers[index].handshakes.append(report)
            effects.append(.peerHandshake(peer.slot, report.service, handshake))
        }
    }

    // MARK: The lease

    /// Until when the echoes that came back let the kernel send.
    ///
    /// The director alone suffices, since it orders nobody without waiting for its own promise to run out; so do all
    /// the required backups together, since the one that is ordered stops echoing, and it is one of them.
    private func granted() -> Lease {
        guard let director, case .member = standing else { return .none }
        let required = requiredBackups
        if required.isEmpty { return .unlimited }
        var until: Instant?
        if let directorEchoed { until = directorEchoed + director.lease }
        var oldest: Instant? = .never
        for member in required {
            guard let peer = peers.first(where: { $0.id == member.id && $0.life == member.life }),
                let echoed = peer.echoed, let sofar = oldest
            else {
                oldest = nil
                break
            }
            oldest = min(sofar, echoed)
        }
        if let oldest {
            let end = oldest + director.lease
            until = max(until ?? end, end)
        }
        return until.map { .until($0) } ?? .none
    }

    /// After an echo: the lease may grow, never shrink.
    mutating func renew(now: Instant, into effects: inout [AgentEffect]) {
        relax(now: now, into: &effects)
        if reportedLeaseExpired, lease.isValid(at: now) {
            reportedLeaseExpired = false
            effects.append(.log(.leaseRegained))
            advanceOrders(now: now, into: &effects)
        }
    }

    /// Sets the lease to what is granted now, which may be less than before when the ring has changed.
    mutating func relax(now: Instant, into effects: inout [AgentEffect]) {
        setLease(granted(), into: &effects)
    }

    mutating func watchLease(now: Instant, into effects: inout [AgentEffect]) {
        guard case .member = standing, !reportedLeaseExpired, !lease.isValid(at: now) else { return }
        reportedLeaseExpired = true
        effects.append(.log(.leaseExpired))
    }

    // MARK: The fence

    /// A backup was ordered to take a slot of ours over: be silent, and only then say so.
    private mutating func obey(_ fence: Fence, peer index: Int, now: Instant, into effects: inout [AgentEffect]) {
        let former = life
        let peer = peers[index]
        switch standing {
        case .member, .welcomed: lose(.fencedBy(peer.id), into: &effects)
        case .unstarted, .cleaning, .none, .stopped:
            // Silent now, but this life may still be given a slot: nothing can be promised.
            drops.unexpected &+= 1
            return
        }
        send(.fenceAcknowledged(fence), to: peer.address, life: peer.life, from: former, now: now, into: &effects)
    }

    /// A former life is silent for good, so whoever asks may be told.
    private mutating func receivedForFormerLife(
        _ datagram: Datagram,
        peer index: Int,
        now: Instant,
        into effects: inout [AgentEffect]
    ) {
        guard case .fenceDemand(let fence) = datagram.body, endedLives.contains(datagram.receiverLife) else {
            drops.wrongLife &+= 1
            return
        }
        let peer = peers[index]
        let former = datagram.receiverLife
        send(.fenceAcknowledged(fence), to: peer.address, life: peer.life, from: former, now: now, into: &effects)
    }
}
