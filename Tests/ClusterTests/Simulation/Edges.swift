import Model
import ModuleInterfaces
import Wire

@testable import Cluster
@testable import SimulationKit

/// The false edges: what the effects of the machines do.
extension World {
    func carryOut(_ effects: [AgentEffect], _ node: Int) {
        let incarnation = nodes[node].incarnation
        for effect in effects {
            if diesHere() {
                killAndRestart(node)
                return
            }
            carryOut(effect, node)
            guard nodes[node].incarnation == incarnation, isAlive(node) else { return }
        }
    }

    private func killAndRestart(_ node: Int) {
        kill(node)
        queue.push(.start(node: node), at: now + random.milliseconds(1...400))
    }

    private func carryOut(_ effect: AgentEffect, _ node: Int) {
        let incarnation = nodes[node].incarnation
        switch effect {
        case .connect: beginConnecting(node)
        case .disconnect: if let session = nodes[node].session { close(session, byAgent: true) }
        case .send(let message): send(message, node: node)
        case .datagram(let datagram, let address):
            transmit(datagram, from: node, to: address.flatMap { self.node($0) } ?? 0)
        case .lease(let lease):
            nodes[node].kernel.lease = lease
            checkTalkers("a lease of \(name(node))")
        case .fence(let on):
            nodes[node].kernel.fenced = on
            checkTalkers("a fence of \(name(node))")
        case .membership(let groups):
            for slot in groups.own where !nodes[node].kernel.sockets.contains(slot) {
                nodes[node].kernel.sockets.append(slot)
            }
            checkTalkers("groups of \(name(node))")
        case .destroyServiceSockets:
            counts.livesLost += 1
            queue.push(.socketsDestroyed(node: node, incarnation: incarnation), at: now + random.milliseconds(0...5))
        case .startTakeOver(let start):
            counts.takeOversStarted += 1
            trace("\(name(node)) starts the take-over of \(start.slot)")
            if !nodes[node].kernel.sockets.contains(start.slot) { nodes[node].kernel.sockets.append(start.slot) }
            checkTalkers("the take-over of \(start.slot) by \(name(node))")
            proceed(start, node)
        case .abortTakeOver(let slot):
            nodes[node].kernel.sockets.removeAll { $0 == slot }
        case .sources, .resetConnections: break
        case .timer(let instant):
            nodes[node].timerGeneration += 1
            schedule(node, instant)
        case .log(let event):
            mix(UInt64(node))
            if case .fenceAcknowledged = event { counts.fencesAcknowledged += 1 }
            trace("\(name(node)): \(event)")
        case .lookForListener(let service):
            let event = Event.look(node: node, incarnation: incarnation, service: service)
            queue.push(event, at: now + random.milliseconds(0...2))
        case .readopt: counts.readoptions += 1
        case .services, .peerHandshake, .peerReplies, .peerSynAcks: break
        }
    }

    private func proceed(_ start: TakeOverStart, _ node: Int) {
        let incarnation = nodes[node].incarnation
        let fails = random.chance(1, in: 40)
        let report = { (phase: TakeOverReport.Phase) in
            TakeOverReport(slot: start.slot, epoch: start.epoch, phase: phase)
        }
        var time = now + random.milliseconds(1...30)
        queue.push(.takeOver(node: node, incarnation: incarnation, report(fails ? .failed : .settled)), at: time)
        time += random.milliseconds(1...50)
        if !fails { queue.push(.takeOver(node: node, incarnation: incarnation, report(.finished)), at: time) }
    }

    func carryOut(_ effects: [DirectorEffect]) {
        for effect in effects {
            if diesHere() {
                killAndRestart(0)
                return
            }
            switch effect {
            case .send(let message, let session): sendDown(message, session: Int(session.rawValue))
            case .close(let session): close(Int(session.rawValue), byAgent: false)
            case .datagram(let datagram, let address):
                if let node = self.node(address) { transmit(datagram, from: 0, to: node) }
            case .publish(let publication):
                records[publication.slot] = publication.record
                publications.append(publication)
            case .plan(_, let plan): dispatch = plan.table
            case .fenceCommand(let name, let slot, _):
                trace("the fence command runs for \(name)")
                fenceRuns += 1
                let fails = fenceRuns <= plan.fenceFailures
                queue.push(.fenceEnded(slot, incarnation: nodes[0].incarnation, fails: fails), at: now + 30_000_000)
            case .timer(let instant):
                nodes[0].timerGeneration += 1
                schedule(0, instant)
            case .log(let event):
                mix(99)
                events.append(event)
                if case .slotOrphaned = event { counts.orphans += 1 }
                if case .yieldOrdered = event { counts.yields += 1 }
                if case .drained(let name) = event { checkDrained(name) }
                trace("director: \(event)")
            }
        }
    }

    private func schedule(_ node: Int, _ instant: Instant) {
        guard instant != .never else { return }
        let time = nodes[node].clock.time(instant, notBefore: now)
        // A loop is never exactly in time.
        let late = UInt64(random.number(0...200_000))
        let (incarnation, generation) = (nodes[node].incarnation, nodes[node].timerGeneration)
        queue.push(.timer(node: node, incarnation: incarnation, generation: generation), at: time + late)
    }

    // MARK: Planted bugs

    func sabotage(_ effects: inout [AgentEffect]) {
        switch plan.sabotage {
        case .leaseOfTwoWindows:
            for index in effects.indices {
                guard case .lease(.until(let end)) = effects[index] else { continue }
                effects[index] = .lease(.until(end - Self.timings.lease + Self.timings.window * 2))
            }
        case .leaseSurvivesNewRing:
            let applies = effects.contains { if case .send(.ringAcknowledged) = $0 { true } else { false } }
            guard applies else { return }
            effects.removeAll { if case .lease = $0 { true } else { false } }
        case .emptyFence:
            let acknowledges = effects.contains {
                if case .datagram(let datagram, _) = $0, case .fenceAcknowledged = datagram.body { true } else { false }
            }
            if acknowledges { effects.removeAll { $0 == .fence(true) || $0 == .lease(.none) } }
        case .noWaiting, .echoAfterOrder, .anySuccessor, nil: break
        }
    }

    /// Before a step of an agent; answers what has to be undone after it.
    func prepare(_ machine: inout AgentMachine, _ input: AgentInput) -> [Life]? {
        switch plan.sabotage {
        case .noWaiting:
            for index in machine.peers.indices { machine.peers[index].promisedUntil = Instant(nanoseconds: 0) }
            return nil
        case .echoAfterOrder:
            guard case .datagram = input else { return nil }
            let condemned = machine.condemned
            machine.condemned = []
            for index in machine.peers.indices { machine.peers[index].listed = true }
            return condemned
        case .leaseOfTwoWindows, .anySuccessor, .leaseSurvivesNewRing, .emptyFence, nil: return nil
        }
    }

    func sabotage(_ machine: inout DirectorMachine) {
        guard plan.sabotage == .anySuccessor else { return }
        let everybody = machine.slots.map(\.id)
        for index in machine.slots.indices {
            machine.slots[index].asked = [DirectorMachine.AskedSet(epoch: Epoch(rawValue: .max), backups: everybody)]
        }
    }
}
