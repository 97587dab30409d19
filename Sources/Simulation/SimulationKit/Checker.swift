import Cluster
import HTTP
import Model
import Tracking
import Wire

/// What the checkers remember.
struct Checker {
    /// Who alone may send to the clients of a slot: the back-end that it was made for, then whoever has started its
    /// take-over.
    var talkers: [SlotID: Int] = [:]
    var lastTaker: Int?
    /// Clients that must end whole whatever happens: one failure, and the backups knew everything.
    var mustSurvive: Set<Int> = []
    /// Where HTTP is spoken: the reply that each of them was reading then. What is known of the next one is not known.
    var reading: [Int: Int] = [:]
    var struck = 0
    /// By client, how often its server was taken from it while it was protected.
    var losses: [Int: Int] = [:]
    /// When each client had everything that it has asked for over HTTP.
    var answered: [Int: TrueTime] = [:]
    /// When something has struck, was healed, or a take-over began, last.
    var disturbedAt: TrueTime = 0
    /// Clients whose end was judged.
    var ended: Set<Int> = []
}

extension Simulation {
    func violate(_ text: String) {
        trace("VIOLATION \(text)")
        violations.append("\(now / 1000) us: \(text)")
    }

    // MARK: One talker a slot

    func noteSlot(_ publication: SlotPublication) {
        guard checker.talkers[publication.slot] == nil else { return }
        checker.talkers[publication.slot] = hosts.firstIndex { $0.name == publication.record.backend }
    }

    /// From here on nobody but the taker may be heard for the slot.
    func noteTakeOver(of slot: SlotID, by host: Int) {
        counts.takeOversStarted += 1
        checker.disturbedAt = now
        if let former = checker.talkers[slot], former != host, mayTalk(former, for: slot) {
            violate("\(hosts[host].name) takes \(slot) over while \(hosts[former].name) may still talk for it")
        }
        checker.talkers[slot] = host
        checker.lastTaker = host
        trigger { if case .takingOver(let delay) = $0 { delay } else { nil } }
    }

    private func mayTalk(_ host: Int, for slot: SlotID) -> Bool {
        guard hosts[host].powered, let kernel = hosts[host].kernel, kernel.maySpeak else { return false }
        return kernel.sockets.contains { plane.slot(of: $0.flow) == slot }
    }

    func checkTalker(_ flow: FlowKey, _ host: Int) {
        guard let slot = plane.slot(of: flow), let talker = checker.talkers[slot], talker != host else { return }
        if plane.formerSlots[flow]?.contains(where: { checker.talkers[$0] == host }) == true { return }
        violate("\(hosts[host].name) talks for \(slot) of \(hosts[talker].name)")
    }

    // MARK: What must survive

    /// At a failure: whose request and handshake every backup has.
    func noteProtection(victim: Int) {
        checker.struck += 1
        guard faults.count == 1 || scenario.succession else { return }
        if checker.struck > 1 { counts.further += 1 }
        for (index, client) in clients.enumerated() where client.outcome == nil {
            // What is under way from client to backup at this moment may be lost with the server.
            guard isProtected(client) else {
                checker.mustSurvive.remove(index)
                continue
            }
            checker.mustSurvive.insert(index)
            checker.reading[index] = client.web?.completed
            if plane.slot(of: client.plan.flow).flatMap({ checker.talkers[$0] }) == victim {
                checker.losses[index, default: 0] += 1
            }
        }
    }

    private func isProtected(_ client: ModelClient) -> Bool {
        let flow = client.plan.flow
        guard client.state == .open, client.plan.options.mss >= 536, let slot = plane.slot(of: flow),
            let talker = checker.talkers[slot], let socket = hosts[talker].kernel?.socket(flow), socket.state == .open,
            let entry = director?.table.slots.first(where: { $0.slot == slot }), !entry.backups.isEmpty
        else { return false }
        guard entry.backups.allSatisfy({ knows(Int($0.rawValue) + 1, flow, acknowledged: socket.rcvNxt) }) else {
            return false
        }
        guard let web = client.web else { return true }
        if web.hasAll {
            let received = UInt64(client.received)
            return client.plan.serverCloses
                && entry.backups.allSatisfy { knowsEnd(Int($0.rawValue) + 1, flow, received: received) }
        }
        return isProvable(client, web) && entry.backups.allSatisfy { knowsReply(Int($0.rawValue) + 1, flow) }
    }

    /// Lets the next failure of a succession come when everything is protected again that was protected at the last.
    func watchProtection(since: TrueTime) {
        guard activeFaults > 0, let next = faults.firstIndex(where: \.isArmed),
            case .protected(_, let delay) = faults[next].trigger
        else { return }
        let open = checker.mustSurvive.filter { clients[$0].outcome == nil }
        // A cable that is back may have been away for long enough all the same: its server is condemned a little later.
        let isJudged = now - since > Self.judgementTime
        if isJudged, open.allSatisfy({ isProtected(clients[$0]) }) {
            arm(next, now + delay)
        } else if now - since > Self.protectionTime {
            let index = open.filter { !isProtected(clients[$0]) }.min() ?? 0
            violate("client \(index) is not protected again after \(Self.protectionTime / 1_000_000_000) s")
        } else {
            queue.push(.watch(since: since), at: now + 5_000_000)
        }
    }

    /// The window, and the order that follows from it.
    private static let judgementTime = TrueTime(timings.window.nanoseconds) + 20_000_000
    /// More than a director that was killed, a back-end that comes back, and its grace take together.
    private static let protectionTime: TrueTime = 10_000_000_000

    /// The client reads the body of a reply that is the same on every server, and says so by a strong tag.
    private func isProvable(_ client: ModelClient, _ web: WebReader) -> Bool {
        guard web.isInsideBody, client.plan.depth == 1, let request = web.current, request.method == "GET" else {
            return false
        }
        return site?.uniform[request.file] == true
    }

    private func knowsReply(_ host: Int, _ flow: FlowKey) -> Bool {
        guard let data = hosts[host].data, let handle = data.tracker.handle(of: flow),
            let conversation = data.tracker.conversation(handle), let last = conversation.heads.last
        else { return false }
        return !last.isInterim && conversation.requests.count == 1
    }

    private func knowsEnd(_ host: Int, _ flow: FlowKey, received: UInt64) -> Bool {
        guard let data = hosts[host].data, let handle = data.tracker.handle(of: flow),
            var conversation = data.tracker.conversation(handle)
        else { return false }
        // The last ACK, which is empty, goes to the owner alone; the answer to the probe says the same.
        conversation.acknowledged(to: received)
        return conversation.lastEnd != nil
    }

    private func knows(_ host: Int, _ flow: FlowKey, acknowledged: Int) -> Bool {
        guard let data = hosts[host].data, let handle = data.tracker.handle(of: flow),
            let connection = data.tracker[handle]
        else { return false }
        return connection.isProtected && Int(connection.journalLength) >= acknowledged
            && data.tracker.handshake(of: flow.service, slot: connection.slot) != nil
    }

    // MARK: Ends

    func checkOutcome(_ index: Int, _ outcome: ModelClient.Outcome) {
        trace("client \(index): \(outcome) after \(clients[index].received) bytes")
        switch outcome {
        case .whole:
            counts.whole += 1
            if checker.mustSurvive.contains(index) { counts.protected += 1 }
            if checker.losses[index, default: 0] > 1 { counts.adoptedAgain += 1 }
            checkClose(index)
        case .reset, .gaveUp:
            if outcome == .reset { counts.reset += 1 } else { counts.gaveUp += 1 }
            let isNext = checker.reading[index].map { $0 != clients[index].web?.completed } ?? false
            if checker.mustSurvive.contains(index), !isNext {
                violate("client \(index) was protected, and was lost all the same: \(outcome)")
            }
            if checker.struck == 0 { violate("client \(index) was lost without any failure: \(outcome)") }
        }
        if clients.allSatisfy({ $0.outcome != nil }) { disarm() }
    }

    /// Who has everything is not left waiting for the server's FIN, whatever becomes of the server.
    private func checkClose(_ index: Int) {
        guard clients[index].plan.serverCloses, let answered = checker.answered[index] else { return }
        if checker.losses[index] != nil, checker.reading[index] == clients[index].web?.completed { counts.closed += 1 }
        let waited = now - max(answered, checker.disturbedAt)
        if waited > Self.closeTime { violate("client \(index) has waited \(waited / 1_000_000) ms for its end") }
    }

    /// Detection, take-over, and a few segments that are lost.
    private static let closeTime: TrueTime = 5_000_000_000

    func checkEnd() {
        for (index, client) in clients.enumerated() where client.outcome == nil {
            violate("client \(index) hangs at \(client.received) of \(client.plan.replyBytes) bytes")
        }
    }
}
