import Cluster
import Model
import Wire

/// Which links are cut, one direction at a time, and when the last frame of each arrives.
///
/// Places: the hosts by their index, and the clients' side of the router behind them.
struct Links {
    private let places: Int
    private var cuts: [Int]
    private var arrivals: [TrueTime]

    init(places: Int) {
        self.places = places
        cuts = Array(repeating: 0, count: places * places)
        arrivals = Array(repeating: 0, count: places * places)
    }

    mutating func cut(_ from: Int, _ to: Int) { cuts[from * places + to] += 1 }
    mutating func mend(_ from: Int, _ to: Int) { cuts[from * places + to] -= 1 }
    func isCut(_ from: Int, _ to: Int) -> Bool { cuts[from * places + to] > 0 }

    /// A link of the LAN keeps the order of its frames.
    mutating func arrival(_ from: Int, _ to: Int, at time: TrueTime) -> TrueTime {
        let index = from * places + to
        arrivals[index] = max(arrivals[index] + 1, time)
        return arrivals[index]
    }
}

/// A TLS session between an agent and the director: two queues that keep their order.
struct ControlSession {
    enum Item {
        case message(StreamMessage)
        case end
    }

    struct Direction {
        var items: [Item] = []
        var pumping = false
        var blockedSince: TrueTime?
        /// The receiver hears nothing more.
        var deaf = false
    }

    var host: Int
    var agentIncarnation: Int
    var directorIncarnation: Int
    var up = Direction()
    var down = Direction()
}

extension Simulation {
    /// The clients' side, as a place of the links.
    var outside: Int { hosts.count }

    // MARK: Frames

    /// From the clients' side to the director's NIC, or to a client: delay, loss, duplication, reordering.
    func crossRouter(_ from: Int, _ to: Int, _ event: Event) {
        guard !links.isCut(from, to), !random.chance(scenario.loss, in: 10_000) else { return }
        for _ in 0..<(random.chance(scenario.duplication, in: 10_000) ? 2 : 1) {
            let usual = UInt64(scenario.clientDelay * 1000) + (from < hosts.count ? hosts[from].pathDelay : 0)
            let time = now + usual + random.microseconds(0...scenario.clientDelay / 4 + 10)
            if random.chance(scenario.reordering, in: 10_000) {
                queue.push(event, at: time + random.microseconds(0...scenario.clientDelay * 3))
            } else {
                queue.push(event, at: links.arrival(from, to, at: time))
            }
        }
    }

    /// A frame on the LAN, to a host or to a group.
    func transmit(_ frame: [UInt8], from: Int, to destination: MACAddress) {
        let slot = SlotID(group: destination)
        for host in hosts.dropFirst() {
            guard let kernel = host.kernel, host.powered else { continue }
            if let slot {
                guard kernel.own.contains(slot) || kernel.tapped.contains(slot) else { continue }
            } else if host.mac != destination {
                continue
            }
            guard !links.isCut(from, host.index), !random.chance(scenario.lanLoss, in: 10_000) else { continue }
            let time = links.arrival(from, host.index, at: now + random.microseconds(15...80))
            queue.push(.frame(frame, to: host.index, kernelLife: host.kernelLife), at: time)
        }
    }

    // MARK: Datagrams

    func transmit(_ datagram: Datagram, from: Int, to: Int) {
        guard !links.isCut(from, to), hosts[to].powered, !random.chance(scenario.datagramLoss, in: 10_000) else {
            return
        }
        let isLate = random.chance(scenario.datagramLoss, in: 10_000)
        let delay = isLate ? random.microseconds(1_000...400_000) : random.microseconds(20...600)
        queue.push(.datagram(datagram, to: to), at: now + delay)
        if random.chance(scenario.duplication, in: 10_000) {
            queue.push(.datagram(datagram, to: to), at: now + delay + random.microseconds(1...5_000))
        }
    }

    // MARK: Sessions

    func connect(_ host: Int) {
        hosts[host].session = nil
        let reachable = !links.isCut(host, 0) && !links.isCut(0, host) && director != nil
        let delay = reachable ? random.microseconds(500...4_000) : random.microseconds(20_000...200_000)
        queue.push(.connected(host: host, incarnation: hosts[host].incarnation, open: reachable), at: now + delay)
    }

    func connected(_ host: Int, open: Bool) {
        guard hosts[host].isAlive, hosts[host].session == nil else { return }
        guard open, director != nil else {
            give(.disconnected, to: host)
            return
        }
        hosts[host].session = sessions.count
        sessions.append(
            ControlSession(
                host: host, agentIncarnation: hosts[host].incarnation, directorIncarnation: hosts[0].incarnation))
        give(.connected, to: host)
    }

    func sendUp(_ message: StreamMessage, from host: Int) {
        guard let session = hosts[host].session else { return }
        sessions[session].up.items.append(.message(message))
        startPump(session, up: true)
    }

    func sendDown(_ message: StreamMessage, session: Int) {
        guard sessions[session].directorIncarnation == hosts[0].incarnation else { return }
        sessions[session].down.items.append(.message(message))
        startPump(session, up: false)
    }

    func close(_ session: Int, byAgent: Bool) {
        if byAgent {
            sessions[session].up.items.append(.end)
            sessions[session].down.deaf = true
            hosts[sessions[session].host].session = nil
        } else {
            sessions[session].down.items.append(.end)
            sessions[session].up.deaf = true
        }
        startPump(session, up: byAgent)
    }

    /// The kernel of a dead process closes its sessions; that of a dead machine does not.
    func closeSessions(of host: Int) {
        for index in sessions.indices {
            if host == 0, sessions[index].directorIncarnation == hosts[0].incarnation, !sessions[index].up.deaf {
                close(index, byAgent: false)
            } else if host == sessions[index].host, hosts[host].session == index {
                close(index, byAgent: true)
            }
        }
    }

    private func startPump(_ session: Int, up: Bool) {
        guard !(up ? sessions[session].up.pumping : sessions[session].down.pumping) else { return }
        if up { sessions[session].up.pumping = true } else { sessions[session].down.pumping = true }
        queue.push(.pump(session: session, up: up), at: now + random.microseconds(40...900))
    }

    func pump(_ index: Int, up: Bool) {
        let host = sessions[index].host
        var direction = up ? sessions[index].up : sessions[index].down
        // TCP needs both ways.
        if links.isCut(host, 0) || links.isCut(0, host) || !hosts[host].powered {
            let since = direction.blockedSince ?? now
            direction.blockedSince = since
            store(direction, index, up)
            if now - since > 1_500_000_000 {
                breakDown(index)
            } else {
                queue.push(.pump(session: index, up: up), at: now + random.microseconds(10_000...60_000))
            }
            return
        }
        direction.blockedSince = nil
        direction.pumping = false
        let items = direction.items
        direction.items = []
        store(direction, index, up)
        for item in items { deliver(item, index, up: up) }
    }

    private func store(_ direction: ControlSession.Direction, _ index: Int, _ up: Bool) {
        if up { sessions[index].up = direction } else { sessions[index].down = direction }
    }

    private func deliver(_ item: ControlSession.Item, _ index: Int, up: Bool) {
        let session = sessions[index]
        if up {
            guard !session.up.deaf, session.directorIncarnation == hosts[0].incarnation else { return }
            let id = SessionID(rawValue: UInt64(index))
            switch item {
            case .message(let message): give(.received(message, from: id))
            case .end:
                sessions[index].up.deaf = true
                give(.sessionClosed(id))
            }
        } else {
            guard session.agentIncarnation == hosts[session.host].incarnation, hosts[session.host].isAlive else {
                // The machine has started anew and knows no such connection: RST.
                if !session.up.deaf, session.directorIncarnation == hosts[0].incarnation {
                    sessions[index].up.deaf = true
                    give(.sessionClosed(SessionID(rawValue: UInt64(index))))
                }
                return
            }
            guard !session.down.deaf, hosts[session.host].session == index else { return }
            switch item {
            case .message(let message): give(.received(message), to: session.host)
            case .end: hangUp(index)
            }
        }
    }

    private func hangUp(_ index: Int) {
        sessions[index].down.deaf = true
        hosts[sessions[index].host].session = nil
        give(.disconnected, to: sessions[index].host)
    }

    /// TCP gives up: each end learns it by itself.
    private func breakDown(_ index: Int) {
        let session = sessions[index]
        sessions[index].up.items = []
        sessions[index].down.items = []
        if !session.up.deaf, session.directorIncarnation == hosts[0].incarnation {
            sessions[index].up.deaf = true
            give(.sessionClosed(SessionID(rawValue: UInt64(index))))
        }
        if !session.down.deaf, hosts[session.host].session == index,
            session.agentIncarnation == hosts[session.host].incarnation {
            hangUp(index)
        }
    }
}
