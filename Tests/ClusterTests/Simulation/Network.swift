import Model
import Wire

@testable import Cluster
@testable import SimulationKit

extension World {
    // MARK: Datagrams

    func transmit(_ datagram: Datagram, from: Int, to: Int) {
        guard !links.isCut(from, to), nodes[to].powered, !random.chance(plan.loss, in: 10_000) else { return }
        for _ in 0..<(random.chance(plan.doubling, in: 10_000) ? 2 : 1) {
            var delay = UInt64(random.number(30_000...1_500_000))
            if random.chance(plan.lateness, in: 10_000) { delay = random.milliseconds(1...400) }
            queue.push(.datagram(datagram, to: to), at: now + delay)
        }
    }

    // MARK: Sessions

    func beginConnecting(_ node: Int) {
        nodes[node].session = nil
        let reachable = !links.isCut(node, 0) && !links.isCut(0, node) && isAlive(0)
        let delay = reachable ? random.milliseconds(1...4) : random.milliseconds(20...300)
        queue.push(
            .connectResult(node: node, incarnation: nodes[node].incarnation, open: reachable), at: now + delay)
    }

    func finishConnecting(_ node: Int, open: Bool) {
        guard isAlive(node), nodes[node].session == nil else { return }
        guard open, isAlive(0) else {
            give(node, .agent(.disconnected))
            return
        }
        nodes[node].session = sessions.count
        sessions.append(
            ControlSession(
                host: node, agentIncarnation: nodes[node].incarnation, directorIncarnation: nodes[0].incarnation))
        give(node, .agent(.connected))
    }

    func send(_ message: StreamMessage, node: Int) {
        guard let session = nodes[node].session else { return }
        sessions[session].up.items.append(.message(message))
        startPump(session, toDirector: true)
    }

    func sendDown(_ message: StreamMessage, session: Int) {
        guard sessions[session].directorIncarnation == nodes[0].incarnation else { return }
        sessions[session].down.items.append(.message(message))
        startPump(session, toDirector: false)
    }

    func close(_ session: Int, byAgent: Bool) {
        if byAgent {
            sessions[session].up.items.append(.end)
            sessions[session].down.deaf = true
            nodes[sessions[session].host].session = nil
        } else {
            sessions[session].down.items.append(.end)
            sessions[session].up.deaf = true
        }
        startPump(session, toDirector: byAgent)
    }

    /// The kernel of a dead process closes its sessions.
    func closeSessions(of node: Int) {
        for index in sessions.indices {
            if node == 0, sessions[index].directorIncarnation == nodes[0].incarnation, !sessions[index].up.deaf {
                close(index, byAgent: false)
            } else if node == sessions[index].host, nodes[node].session == index {
                close(index, byAgent: true)
            }
        }
    }

    private func startPump(_ session: Int, toDirector: Bool) {
        let pumping = toDirector ? sessions[session].up.pumping : sessions[session].down.pumping
        guard !pumping else { return }
        if toDirector { sessions[session].up.pumping = true } else { sessions[session].down.pumping = true }
        let delay = UInt64(random.number(50_000...2_000_000))
        queue.push(.pump(session: session, toDirector: toDirector), at: now + delay)
    }

    func pump(_ index: Int, toDirector: Bool) {
        let node = sessions[index].host
        let (from, to) = toDirector ? (node, 0) : (0, node)
        var direction = toDirector ? sessions[index].up : sessions[index].down
        // TCP needs both ways.
        if links.isCut(from, to) || links.isCut(to, from) || !nodes[to].powered || !nodes[from].powered {
            let since = direction.blockedSince ?? now
            direction.blockedSince = since
            store(direction, index, toDirector)
            if now - since > 1_500_000_000 {
                breakDown(index)
            } else {
                queue.push(.pump(session: index, toDirector: toDirector), at: now + random.milliseconds(10...60))
            }
            return
        }
        direction.blockedSince = nil
        direction.pumping = false
        let items = direction.items
        direction.items = []
        store(direction, index, toDirector)
        for item in items { deliver(item, index, toDirector: toDirector) }
    }

    private func store(_ direction: ControlSession.Direction, _ index: Int, _ toDirector: Bool) {
        if toDirector { sessions[index].up = direction } else { sessions[index].down = direction }
    }

    private func deliver(_ item: ControlSession.Item, _ index: Int, toDirector: Bool) {
        let session = sessions[index]
        if toDirector {
            guard !session.up.deaf, session.directorIncarnation == nodes[0].incarnation else { return }
            let id = SessionID(rawValue: UInt64(index))
            switch item {
            case .message(let message): give(0, .director(.received(message, from: id)))
            case .end:
                sessions[index].up.deaf = true
                give(0, .director(.sessionClosed(id)))
            }
        } else {
            guard !session.down.deaf, nodes[session.host].session == index,
                session.agentIncarnation == nodes[session.host].incarnation
            else { return }
            switch item {
            case .message(let message): give(session.host, .agent(.received(message)))
            case .end: hangUp(index)
            }
        }
    }

    private func hangUp(_ index: Int) {
        sessions[index].down.deaf = true
        nodes[sessions[index].host].session = nil
        give(sessions[index].host, .agent(.disconnected))
    }

    /// TCP gives up: each end learns it by itself.
    private func breakDown(_ index: Int) {
        let session = sessions[index]
        sessions[index].up.items = []
        sessions[index].down.items = []
        if !session.up.deaf, session.directorIncarnation == nodes[0].incarnation {
            sessions[index].up.deaf = true
            give(0, .director(.sessionClosed(SessionID(rawValue: UInt64(index)))))
        }
        if !session.down.deaf, nodes[session.host].session == index,
            session.agentIncarnation == nodes[session.host].incarnation {
            hangUp(index)
        }
    }
}
