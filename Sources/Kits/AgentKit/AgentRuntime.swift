import AdminProtocol
import Cluster
import Configuration
import ControlPlane
import HealthKit
import LinuxBPF
import LinuxBase
import LinuxNetfilter
import LinuxNetwork
import Logging
import Model
import NIOCore
import Wire

/// The agent's control thread: the machine, and the edges that carry out what it wants.
///
/// Everything in it belongs to its event loop; `@unchecked` only so that it can be handed there. Heartbeats, leases and
/// orders are worked off in the loop's own callbacks, without a hop to any other thread.
final class AgentRuntime: @unchecked Sendable {
    let configuration: Configuration.AgentConfiguration
    let logger: Logger
    let loop: any EventLoop
    let failures: AuthenticationFailures
    var machine: AgentMachine
    let host: AgentHost
    var services: [ServiceDescription] = []
    private let key: ControlPlane.ClusterKey
    private var connector: SecureConnector?
    private var datagrams: AuthenticatedDatagrams?
    private var peers: PeerSessions?
    private var admin: AdminSocket?
    private(set) var checks: HealthChecks?
    private var timer: Scheduled<Void>?
    private var wanted = false
    private var hasStopped = false
    private(set) var fatal: (any Error)?
    private var onFatal: (any Error) -> Void = { _ in }

    /// Opens every edge; nothing of the machine is changed for good before all of them are open. On the loop.
    init(
        configuration: Configuration.AgentConfiguration,
        key: ControlPlane.ClusterKey,
        loop: any EventLoop,
        logger: Logger
    ) throws {
        self.configuration = configuration
        self.key = key
        self.loop = loop
        self.logger = logger
        failures = AuthenticationFailures(logger: logger)
        try HealthChecks.validate(configuration)
        host = try AgentHost(configuration: configuration, logger: logger)
        let identity = AgentIdentity(
            name: configuration.name,
            mac: host.interface.address,
            address: host.address,
            services: configuration.services.map {
                let rules = $0.check.rules
                return AgentService(
                    name: $0.name, rise: rules.rise, fall: rules.fall, dampening: rules.dampening,
                    restartGrace: $0.restartGrace)
            }
        )
        machine = AgentMachine(identity: identity, seed: try Randomness.number())
    }

    // MARK: Life

    func start(onFatal: @escaping (any Error) -> Void) throws {
        self.onFatal = onFatal
        datagrams = try AuthenticatedDatagrams(
            bind: Endpoint(address: host.address, port: configuration.heartbeatPort),
            on: loop,
            key: key,
            use: .datagrams,
            failures: failures,
            logger: logger
        ) { [unowned self] body, peer in self.received(body, from: peer) }
        peers = try makePeerSessions(key: key)
        connector = try SecureConnector(
            to: configuration.director,
            from: host.address,
            on: loop,
            key: key,
            failures: failures,
            logger: logger,
            random: { (try? Randomness.number()) ?? 0 }
        ) { [unowned self] session in self.opened(session) }
        admin = try AdminSocket(path: configuration.socket, on: loop, logger: logger) { [unowned self] request in
            self.answer(request)
        }
        checks = HealthChecks(
            configuration, control: loop, logger: logger,
            isListening: { [weak self] in self?.host.hasListener($0) ?? false }
        ) { [weak self] report in
            switch report {
            case .ended(let service, let passed): self?.handle(.check(service: service, passed: passed))
            case .handshake(let service, let options): self?.handle(.handshake(service: service, options))
            }
        }
        let loop = loop
        try host.startDataThread { [weak self] report in
            loop.execute { [weak self] in self?.received(report) }
        }
        handle(.start)
    }

    /// Gives everything back: slots first, so that a backup can go on, then what was changed on this machine.
    func stop() {
        if fatal == nil { handle(.stop) }
        hasStopped = true
        timer?.cancel()
        checks?.stop()
        connector?.stop()
        peers?.close()
        admin?.close()
        datagrams?.close()
        host.close()
    }

    // MARK: The machine

    func handle(_ input: AgentInput) {
        guard fatal == nil else { return }
        var effects: [AgentEffect] = []
        machine.handle(input, now: MonotonicClock.now(), into: &effects)
        for effect in effects {
            do {
                try perform(effect)
            } catch {
                fail(error)
                return
            }
        }
    }

    /// A fence or a lease that the kernel does not take must not be followed by messages that claim it.
    private func fail(_ error: any Error) {
        logger.critical("\(error)")
        fatal = error
        onFatal(error)
    }

    private func perform(_ effect: AgentEffect) throws {
        switch effect {
        case .connect:
            wanted = true
            if let session = connector?.session { opened(session) } else { connector?.start() }
        case .disconnect:
            wanted = false
            connector?.session?.close()
        case .send(let message): connector?.session?.send(message.encodeBody())
        case .datagram(let datagram, let address):
            let peer = address.map { Endpoint(address: $0, port: configuration.heartbeatPort) }
            datagrams?.send(body: datagram.encode(), to: peer ?? configuration.director)
        case .lease(let lease): try host.setLease(lease)
        case .fence(let on): try host.setFence(on)
        case .membership(let membership): try host.setMembership(membership)
        case .destroyServiceSockets:
            // A take-over that is not aborted yet could adopt one more.
            let loop = loop
            host.mailbox.post(.barrier { [weak self] in loop.execute { self?.destroyServiceSockets() } })
        case .startTakeOver(let start): host.mailbox.post(.startTakeOver(start))
        case .abortTakeOver(let slot): host.mailbox.post(.abortTakeOver(slot))
        case .services(let new):
            services = new
            try host.setServices(new)
            try checks?.set(new.map { ($0.name, $0.endpoint) })
        case .lookForListener(let name): look(for: name)
        case .readopt(let name):
            for service in services where service.name == name { host.mailbox.post(.readopt(service.endpoint)) }
        case .peerHandshake(let slot, let service, let options):
            host.mailbox.post(.profile(slot, service, options))
        case .peerReplies(let notices): host.mailbox.post(.replies(notices))
        case .peerSynAcks(let notices): host.mailbox.post(.synAcks(notices))
        case .sources(let sources): peers?.set(sources)
        case .resetConnections(let flows): host.resetConnections(flows)
        case .timer(let instant): schedule(instant)
        case .log(let event): event.log(to: logger)
        }
    }

    private func destroyServiceSockets() {
        guard fatal == nil, !hasStopped else { return }
        do {
            try host.destroyServiceSockets()
        } catch {
            fail(error)
            return
        }
        handle(.serviceSocketsDestroyed)
    }

    private func look(for name: String) {
        guard let service = services.first(where: { $0.name == name }), host.hasListener(service.endpoint) else { return }
        loop.execute { [weak self] in self?.handle(.listenerFound(service: name)) }
    }

    private func schedule(_ instant: Instant) {
        timer?.cancel()
        timer = nil
        guard instant != .never else { return }
        timer = loop.scheduleTask(deadline: .uptimeNanoseconds(instant.nanoseconds)) { [unowned self] in
            self.handle(.timer)
        }
    }

    // MARK: Network

    private func opened(_ session: SecureSession) {
        guard wanted else { return }
        session.onFrame = { [unowned self] body in
            do {
                self.handle(.received(try StreamMessage(decoding: body)))
            } catch {
                self.failures.record(.messageMalformed, from: self.configuration.director, detail: "\(error)")
            }
        }
        session.onClosed = { [weak self] _ in self?.handle(.disconnected) }
        handle(.connected)
    }

    private func received(_ body: [UInt8], from peer: Endpoint) {
        do {
            let before = machine.drops
            handle(.datagram(try Datagram(decoding: body)))
            let now = machine.drops
            if now.stale > before.stale { failures.record(.messageOld, from: peer) }
            if now.wrongLife > before.wrongLife { failures.record(.messageOfAnotherLife, from: peer) }
            if now.unknownSender > before.unknownSender { failures.record(.peerUnknown, from: peer) }
        } catch {
            failures.record(.messageMalformed, from: peer, detail: "\(error)")
        }
    }

    private func makePeerSessions(key: ControlPlane.ClusterKey) throws -> PeerSessions {
        try PeerSessions(
            address: host.address,
            port: configuration.heartbeatPort,
            on: loop,
            key: key,
            failures: failures,
            logger: logger,
            mailbox: host.mailbox,
            knowledge: PeerSessions.Knowledge(
                hello: { [unowned self] owner in
                    self.machine.director.map {
                        PeerHello(sender: $0.backend, senderLife: self.machine.life, receiverLife: owner)
                    }
                },
                isPeer: { [unowned self] hello in self.machine.isPeer(hello) },
                mayTell: { [unowned self] slot, hello in
                    self.machine.mayTell(slot, to: hello.sender, life: hello.senderLife)
                }
            )
        )
    }

    // MARK: The data thread

    private func received(_ report: DataReport) {
        switch report {
        case .takeOver(let news): handle(.takeOver(news))
        case .readopted(let news):
            let resets = news.resets.reduce(0, +)
            let counts = "\(news.adopted) of \(news.connections) connections again, \(resets) were reset"
            logger.notice("\(news.slot): the restarted application has \(counts)")
        case .replies(let notices): handle(.replies(notices))
        case .synAcks(let notices): handle(.synAcks(notices))
        case .handshake(let endpoint, let options):
            for service in services where service.endpoint == endpoint {
                handle(.handshake(service: service.name, options))
            }
        case .applicationCrashed(let endpoint, let hadConnections):
            for service in services where service.endpoint.matches(endpoint) {
                let name = service.name
                handle(hadConnections ? .applicationCrashed(service: name) : .listenerCrashed(service: name))
            }
        case .listenerClosed(let endpoint):
            for service in services where service.endpoint.matches(endpoint) && !host.hasListener(service.endpoint) {
                handle(.listenerClosed(service: service.name))
            }
        case .peerRequest(let message, let owner): peers?.send(message, to: owner)
        case .synchronised(let slot, let after):
            logger.notice("\(slot): synchronised with its owner after \(after.milliseconds) ms")
        case .protection(let slots): handle(.protection(slots))
        case .failed(let text): fail(AgentFailure(text))
        }
    }

    // MARK: Status

    private func answer(_ request: AdminRequest) -> AdminAnswer {
        guard request.command == "status" else {
            return .failure("unknown command \"\(request.command)\"; an agent knows: status")
        }
        let promise = loop.makePromise(of: [UInt8].self)
        host.mailbox.post(
            .status { [loop] data in
                loop.execute { [weak self] in
                    guard let self else { return promise.fail(AgentFailure("the agent ends")) }
                    promise.completeWith(Result { try AdminJSON.encode(self.status(data)) })
                }
            }
        )
        return .later(promise.futureResult)
    }
}

/// What ended the agent.
struct AgentFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

extension Endpoint {
    /// Whether a socket bound to `bound`, which may be a wildcard, serves this address.
    fileprivate func matches(_ bound: Endpoint) -> Bool {
        guard port == bound.port else { return false }
        let isWildcard = bound.address.ipv4 == 0 || (bound.address.high == 0 && bound.address.low == 0)
        return isWildcard || address == bound.address
    }
}
