import BuiltinModules
import Cluster
import HTTP
import Model
import ModuleInterfaces
import Takeover
import Wire

/// The control threads of director and agents: machines, and false edges that do what their effects say.
extension Simulation {
    func isFrozen(_ host: Int) -> Bool { hosts[host].frozenUntil > now }

    // MARK: Agents

    func give(_ input: AgentInput, to host: Int) {
        let node = hosts[host]
        guard node.isAlive else { return }
        if isFrozen(host) {
            // Socket buffers are finite.
            if node.inbox.count < 400 { node.inbox.append(input) }
            return
        }
        step(host, input)
    }

    private func step(_ host: Int, _ input: AgentInput) {
        let node = hosts[host]
        var effects: [AgentEffect] = []
        node.agent?.handle(input, now: node.clock.local(now), into: &effects)
        node.agent?.checkInvariants()
        for effect in effects { carryOut(effect, node) }
    }

    private func carryOut(_ effect: AgentEffect, _ node: Host) {
        let host = node.index
        guard let kernel = node.kernel else { return }
        switch effect {
        case .connect: connect(host)
        case .disconnect: if let session = node.session { close(session, byAgent: true) }
        case .send(let message): sendUp(message, from: host)
        case .datagram(let datagram, let address):
            transmit(datagram, from: host, to: address.flatMap(place) ?? 0)
        case .lease(let lease):
            switch lease {
            case .none: if scenario.chaos != .emptyFence { kernel.leaseUntil = Instant(nanoseconds: 0) }
            case .until(let end): kernel.leaseUntil = end
            case .unlimited: kernel.leaseUntil = .never
            }
        case .fence(let on): kernel.fenced = on && scenario.chaos != .emptyFence
        case .membership(let groups):
            kernel.own = groups.own
            kernel.tapped = groups.tapped
            post(.membership(groups), to: host, source: 0)
        case .destroyServiceSockets:
            if scenario.chaos == .barrierMissing { kernel.destroySockets() }
            post(.barrier, to: host, source: 0)
        case .startTakeOver(let start):
            noteTakeOver(of: start.slot, by: host)
            post(.startTakeOver(start), to: host, source: 0)
        case .abortTakeOver(let slot): post(.abortTakeOver(slot), to: host, source: 0)
        case .services(let services):
            kernel.hasVIP = true
            post(.services(services), to: host, source: 0)
            queue.push(.healthCheck(host: host, incarnation: node.incarnation), at: now + 1_000_000)
        case .peerHandshake(let slot, let service, let options):
            post(.profile(slot, service, options), to: host, source: 0)
        case .peerReplies(let notices): post(.replies(notices), to: host, source: 0)
        case .peerSynAcks(let notices): post(.synAcks(notices), to: host, source: 0)
        case .lookForListener(let service):
            guard kernel.hasListener else { return }
            let time = now + random.microseconds(20...300)
            queue.push(.report(.listenerFound(service: service), host: host, incarnation: node.incarnation), at: time)
        case .readopt: post(.readopt, to: host, source: 0)
        case .sources(let sources): post(.sources(sources), to: host, source: 0)
        // No flow of the simulation is idle for so long.
        case .resetConnections: break
        case .timer(let instant):
            node.timerGeneration += 1
            guard instant != .never else { return }
            // A loop is never exactly in time.
            let time = node.clock.time(instant, notBefore: now) + random.microseconds(0...150)
            queue.push(
                .agentTimer(host: host, incarnation: node.incarnation, generation: node.timerGeneration), at: time)
        case .log(let event): trace("\(node.name): \(event)")
        }
    }

    func queueDestruction(on host: Int) {
        let time = now + random.microseconds(20...2_000)
        queue.push(.socketsDestroyed(host: host, incarnation: hosts[host].incarnation), at: time)
    }

    /// The data thread has nothing more under way that could make a socket.
    func destroySockets(_ host: Int, _ incarnation: Int) {
        guard hosts[host].incarnation == incarnation, hosts[host].isAlive else { return }
        if scenario.chaos != .emptyFence, scenario.chaos != .barrierMissing { hosts[host].kernel?.destroySockets() }
        give(.serviceSocketsDestroyed, to: host)
    }

    private func place(_ address: IPAddress) -> Int? {
        address.ipv4.map { Int($0 & 0xff) }.flatMap { $0 < hosts.count ? $0 : nil }
    }

    func checkHealth(_ host: Int, _ incarnation: Int) {
        let node = hosts[host]
        guard node.incarnation == incarnation, node.isAlive else { return }
        let isUp = node.application != nil && node.kernel?.hasListener == true
        if isUp { give(.handshake(service: Host.serviceName, ModelSocket.announced), to: host) }
        give(.check(service: Host.serviceName, passed: isUp), to: host)
        queue.push(.healthCheck(host: host, incarnation: incarnation), at: now + 50_000_000)
    }

    // MARK: Data threads

    /// Sources: 0 the mailbox, 1 the tap, 2 the eBPF programs' ring, 4 the tap for replies, 5 the TUN device, 6 the tap for
    /// answers, 7 that for SYN-ACKs; 3 is the way back to the control thread. Each keeps its order, and nothing orders one against the other.
    func post(_ input: DataInput, to host: Int, source: Int) {
        let node = hosts[host]
        guard node.data != nil else { return }
        let time = max(now + random.microseconds(3...60), node.lastArrival[source])
        node.lastArrival[source] = time
        queue.push(.data(input, host: host, incarnation: node.incarnation), at: time)
    }

    func tapped(_ frame: [UInt8], at host: Int) { post(.frame(frame), to: host, source: 1) }

    func tappedAnswer(_ frame: [UInt8], at host: Int) { post(.answer(frame), to: host, source: 6) }

    func tell(_ event: KernelEvent, _ flow: FlowKey, _ host: Int) {
        trace("\(hosts[host].name): kernel says \(event) of \(flow)")
        post(.event(event, flow), to: host, source: 2)
    }

    func held(_ packet: [UInt8], at host: Int) { post(.held(packet), to: host, source: 5) }

    /// A trial: the application answers, or there is none.
    func tryRequest(_ bytes: [UInt8], of flow: FlowKey, on host: Int) {
        let node = hosts[host]
        var facts: ReplyFacts?
        var delay = random.microseconds(50...3_000)
        if node.application != nil, let site, let (request, _) = WebRequest.parse(bytes),
            case .facts(let head) = ReplyHead.parse(site.reply(to: request, on: host, number: 0, at: now))
        {
            facts = head
            delay += UInt64(request.thinking) * 1_000_000
        }
        queue.push(.data(.tried(flow, facts), host: host, incarnation: node.incarnation), at: now + delay)
    }

    func giveData(_ input: DataInput, to host: Int) {
        let node = hosts[host]
        guard node.isAlive, let data = node.data else { return }
        if isFrozen(host) {
            if node.dataInbox.count < 600 { node.dataInbox.append(input) }
            return
        }
        data.handle(input, now: node.clock.local(now))
        for report in data.reports {
            let time = max(now + random.microseconds(3...60), node.lastArrival[3])
            node.lastArrival[3] = time
            queue.push(.report(report, host: host, incarnation: node.incarnation), at: time)
        }
        data.reports = []
        let next = data.nextTick
        guard next != .never else { return }
        let time = node.clock.time(next, notBefore: now) + 1
        if time < node.wakeAt {
            node.wakeAt = time
            queue.push(.wake(host: host, incarnation: node.incarnation), at: time)
        }
    }

    // MARK: Director

    func give(_ input: DirectorInput) {
        guard director != nil else { return }
        if isFrozen(0) {
            if directorInbox.count < 400 { directorInbox.append(input) }
            return
        }
        var effects: [DirectorEffect] = []
        director?.handle(input, now: hosts[0].clock.local(now), into: &effects)
        director?.checkInvariants()
        for effect in effects { carryOut(effect) }
    }

    private func carryOut(_ effect: DirectorEffect) {
        switch effect {
        case .send(let message, let session): sendDown(message, session: Int(session.rawValue))
        case .close(let session): close(Int(session.rawValue), byAgent: false)
        case .datagram(let datagram, let address): if let host = place(address) { transmit(datagram, from: 0, to: host) }
        case .publish(let publication):
            plane.publish(publication)
            noteSlot(publication)
        case .plan(_, let plan): plane.publish(plan)
        case .timer(let instant):
            directorTimer.generation += 1
            guard instant != .never else { return }
            let time = hosts[0].clock.time(instant, notBefore: now) + random.microseconds(0...150)
            queue.push(
                .directorTimer(incarnation: hosts[0].incarnation, generation: directorTimer.generation), at: time)
        case .log(let event): trace("director: \(event)")
        case .fenceCommand: break  // the configuration here has none
        }
    }

    func startDirector() {
        guard director == nil else { return }
        hosts[0].incarnation += 1
        directorTimer = (directorTimer.generation + 1, false)
        directorInbox = []
        director = DirectorMachine(life: Life(rawValue: random.next()))
        trace("director starts")
        give(.configuration(configuration()))
        let records = plane.records.values.sorted { $0.slot < $1.slot }
        if !records.isEmpty { give(.restored(records)) }
    }

    private func configuration() -> DirectorConfiguration {
        let registry = BuiltinModules.registry
        let service = ServiceDescription(
            id: ServiceID(rawValue: 0), name: Host.serviceName, endpoint: Host.service,
            replay: scenario.http == nil ? .stream : .http, http: scenario.http ?? HTTPReplay())
        return DirectorConfiguration(
            backends: hosts.dropFirst().map { BackendConfiguration(name: $0.name, address: $0.address) },
            services: [ServiceConfiguration(service, policy: RoundRobin())],
            backups: scenario.backups,
            ring: SuccessorRing(),
            detector: registry.detection[0].make,
            timings: Self.timings
        )
    }

    // MARK: Processes

    func startAgent(_ host: Int) {
        let node = hosts[host]
        guard node.powered, node.agent == nil, let kernel = node.kernel else { return }
        node.incarnation += 1
        node.timerGeneration += 1
        node.timerWaiting = false
        (node.inbox, node.dataInbox) = ([], [])
        node.session = nil
        node.wakeAt = .max
        // AgentHost.init: fenced from the first instant, the table made anew.
        kernel.fenced = true
        kernel.leaseUntil = Instant(nanoseconds: 0)
        (kernel.own, kernel.tapped) = ([], [])
        node.data = DataThread(self, host: host, kernel: kernel)
        let identity = AgentIdentity(
            name: node.name, mac: node.mac, address: node.address,
            services: [
                AgentService(
                    name: Host.serviceName, rise: 1, fall: 2,
                    restartGrace: .milliseconds(Int64(scenario.restartGrace)))
            ])
        node.agent = AgentMachine(identity: identity, seed: random.next())
        trace("\(node.name): agent starts")
        give(.start, to: host)
    }

    /// The process is gone; its kernel goes on with what it was told last.
    func killAgent(_ host: Int) {
        let node = hosts[host]
        guard node.agent != nil else { return }
        closeSessions(of: host)
        node.agent = nil
        node.data = nil
        trace("\(node.name): agent dies")
    }

    func startApplication(_ host: Int) {
        let node = hosts[host]
        guard node.powered, node.application == nil, let kernel = node.kernel else { return }
        applicationLife[host] += 1
        node.application = ModelApplication(self, host: host)
        kernel.hasListener = true
    }

    func wakeApplication(_ host: Int, _ socket: ModelSocket) {
        guard let application = hosts[host].application, !socket.isOrphan, application.schedules(socket) else { return }
        let time = now + random.microseconds(10...200)
        queue.push(.application(host: host, life: applicationLife[host], socket: socket.id), at: time)
    }

    func serve(_ host: Int, _ life: Int, _ id: Int) {
        let node = hosts[host]
        guard applicationLife[host] == life, let application = node.application, let kernel = node.kernel,
            let socket = kernel.socket(id: id)
        else { return }
        if isFrozen(host) {
            let time = node.frozenUntil + random.microseconds(10...200)
            queue.push(.application(host: host, life: life, socket: id), at: time)
            return
        }
        if let again = application.serve(socket, kernel), application.schedules(socket) {
            queue.push(.application(host: host, life: life, socket: id), at: again)
        }
    }

    func watch(_ host: Int, _ socket: ModelSocket) {
        guard socket.deadline < socket.timerAt else { return }
        socket.timerAt = socket.deadline
        let event = Event.socketTimer(host: host, kernelLife: hosts[host].kernelLife, socket: socket.id)
        queue.push(event, at: max(now, socket.deadline))
    }

    func thaw(_ host: Int) {
        guard !isFrozen(host) else { return }
        trace("\(hosts[host].name) thaws")
        if host == 0 {
            let inputs = directorInbox
            directorInbox = []
            let waiting = directorTimer.waiting
            directorTimer.waiting = false
            let timerFirst = random.chance(1, in: 2)
            if waiting, timerFirst { give(.timer) }
            for input in inputs { give(input) }
            if waiting, !timerFirst { give(.timer) }
            return
        }
        let node = hosts[host]
        let inputs = node.inbox
        // The taps' rings are finite; what the control thread has said is never lost.
        let isWhole = random.chance(1, in: 2)
        let data = node.dataInbox.filter { isWhole || $0.isCommand }
        (node.inbox, node.dataInbox) = ([], [])
        let waiting = node.timerWaiting
        node.timerWaiting = false
        let timerFirst = random.chance(1, in: 2)
        let dataFirst = random.chance(1, in: 2)
        if dataFirst { for input in data { giveData(input, to: host) } }
        if waiting, timerFirst { give(.timer, to: host) }
        for input in inputs { give(input, to: host) }
        if waiting, !timerFirst { give(.timer, to: host) }
        if !dataFirst { for input in data { giveData(input, to: host) } }
        giveData(.wake, to: host)
    }
}
