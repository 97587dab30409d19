import Cluster
import LinuxBase
import LinuxCapture
import Model
import Takeover
import Tracking
import Wire

/// What the control thread asks for, and what it is told.
extension DataThread {
    func obey(_ command: DataCommand) {
        switch command {
        case .membership(let new): changeMembership(new)
        case .services(let new): changeServices(new)
        case .profile(let slot, let id, let options):
            guard let service = services.first(where: { $0.id == id }) else { return }
            tracker.learn(ServiceHandshake(service: service.endpoint, options: options), slot: slot)
        case .replies(let notices): noted(notices)
        case .synAcks(let notices):
            noted(notices)
        case .startTakeOver(let start):
            attempt { try releaseTap() }
            runner.start(start, tracker: tracker, profile: profile(of: start.slot), now: MonotonicClock.now())
            settle(MonotonicClock.now())
        case .abortTakeOver(let slot):
            runner.abort(slot)
            tracker.drop(slot: slot)
        case .readopt(let service): readopt(service, MonotonicClock.now())
        case .sources(let sources): resynchronisation.set(sources, MonotonicClock.now())
        case .peerConnected(let owner, let isOpen): resynchronisation.connected(owner, isOpen, MonotonicClock.now())
        case .peerAnswer(let message, let owner):
            resynchronisation.received(message, from: owner, &tracker, MonotonicClock.now(), report)
        case .peerRequest(let request, let answer):
            if let message = tracker.answer(request, now: MonotonicClock.now()) { answer(message.encodeBody()) }
        case .status(let answer): answer(status())
        case .barrier(let reached): reached()
        case .stop: running = false
        }
    }

    /// What an adoption has to look like: the dead owner's SYN-ACKs if it told, else our own (configured alike).
    func profile(of slot: SlotID) -> (Endpoint) -> AdoptionProfile {
        var known: [Endpoint: AdoptionProfile] = [:]
        for service in services {
            known[service.endpoint] = AdoptionProfile(
                replay: service.replay,
                server: tracker.handshake(of: service.endpoint, slot: slot) ?? profiles[service.endpoint],
                http: service.http
            )
        }
        return { [known] in known[$0] ?? AdoptionProfile(replay: .none, server: nil) }
    }

    /// Our own connections are tracked as well, for those who come to back them up.
    func tell(_ notices: [ReplyNotice]) {
        noted(notices)
        report(.replies(notices))
    }

    func noted(_ notices: [ReplyNotice]) {
        for notice in notices {
            guard let service = services.first(where: { $0.id == notice.service }) else { continue }
            let flow = FlowKey(client: notice.client, service: service.endpoint)
            tracker.reported(flow, sequence: notice.sequence, notice.facts)
        }
    }

    /// Our own connections are tracked as well. What the client has closed by now is over as a rule; where it is not, the
    /// list of connections tells.
    func tell(_ notices: [SynAckNotice]) {
        noted(notices)
        let open = notices.filter { notice in
            guard let service = services.first(where: { $0.id == notice.service }),
                let handle = tracker.handle(of: FlowKey(client: notice.client, service: service.endpoint)),
                let connection = tracker[handle]
            else { return true }
            return connection.certainISS != notice.iss || connection.finOffset == nil
        }
        if !open.isEmpty { report(.synAcks(open)) }
    }

    func noted(_ notices: [SynAckNotice]) {
        // Their SYNs may lie in our tap.
        attempt { try tap.dispatch(max: 512) { bytes, length, at in received(bytes, length, at) } }
        for notice in notices {
            guard let service = services.first(where: { $0.id == notice.service }) else { continue }
            let flow = FlowKey(client: notice.client, service: service.endpoint)
            tracker.announced(flow, iss: notice.iss, acknowledged: notice.acknowledged)
        }
    }

    func changeMembership(_ new: Cluster.GroupMembership) {
        // What was ours is no more: nobody here may go on with its connections.
        for slot in membership.own where !new.own.contains(slot) { runner.abort(slot) }
        for slot in membership.tapped + membership.own where !new.tapped.contains(slot) && !new.own.contains(slot) {
            if !runner.isActive(slot) { tracker.drop(slot: slot) }
        }
        membership = new
    }

    func changeServices(_ new: [ServiceDescription]) {
        let former = services
        services = new
        let http = new.filter { $0.replay == .http }
        tracker.setHTTP(http.map(\.endpoint))
        do {
            if http != former.filter({ $0.replay == .http }) { try watchReplies() }
            let addresses = Set(new.map(\.endpoint.address)).sorted()
            if synAcks?.addresses != addresses {
                // As with `watchReplies`: the next one listens before the one in use goes.
                let next = try SynAckWatch(interface: interface, addresses: addresses)
                readSynAcks()
                if let rest = synAcks?.due(.never), !rest.isEmpty { tell(rest) }
                synAcks = next
            }
        } catch {
            report(.failed("\(error)"))
        }
    }

    /// The next watch listens before the one in use goes: a reply that is missed cannot be taken over.
    func watchReplies() throws {
        let next = try ReplyWatch(interface: interface, services: services)
        if var old = replies {
            tell(try old.read() + old.due(.never))
            try poller.remove(old.descriptor)
        }
        replies = next
        if let next { try poller.add(next.descriptor, token: Token.replies.rawValue) }
    }

    func status() -> DataStatus {
        let capture = try? tap.statistics()
        return DataStatus(
            connections: tracker.count,
            journalBytes: tracker.journalBytesInUse,
            tracker: tracker.counters,
            tapReceived: UInt64(capture?.received ?? 0),
            tapDropped: UInt64(capture?.droppedByKernel ?? 0),
            resets: runner.resets,
            adoptedTotal: runner.adoptedTotal,
            sendFailures: runner.failures
        )
    }
}
