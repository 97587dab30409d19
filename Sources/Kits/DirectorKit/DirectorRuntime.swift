import AdminProtocol
import BuiltinModules
import Cluster
import Configuration
import ControlPlane
import HealthKit
import LinuxBPF
import LinuxBase
import LinuxNetwork
import Logging
import Model
import ModuleInterfaces
import NIOCore
import NIOPosix
import Wire

/// The director's control thread: the machine, and the edges that carry out what it wants.
///
/// Everything in it belongs to its event loop; `@unchecked` only so that it can be handed there. Heartbeats and orders
/// are worked off in the loop's own callbacks. What walks the flow table runs on a thread of its own.
final class DirectorRuntime: @unchecked Sendable {
    /// What is in force; another one comes by `apply`.
    var configuration: Configuration.DirectorConfiguration
    /// What the file says, as far as this director knows.
    var saved: Configuration.DirectorConfiguration
    let source: ConfigurationSource?
    /// The end of the last change of the configuration: the next one waits for it.
    var lastChange: EventLoopFuture<Void>
    let logger: Logger
    let loop: any EventLoop
    let failures: AuthenticationFailures
    let host: DirectorHost
    var machine: DirectorMachine
    private let key: ControlPlane.ClusterKey
    let registry: ModuleRegistry
    let walker = NIOThreadPool(numberOfThreads: 1)
    /// Waits for fence commands, several at a time.
    private let fencer = NIOThreadPool(numberOfThreads: 4)
    private var listener: SecureListener?
    private var datagrams: AuthenticatedDatagrams?
    private var admin: AdminSocket?
    var checks: ServiceChecks?
    private var sessions: [SessionID: SecureSession] = [:]
    private var nextSession: UInt64 = 1
    /// Where each back-end's datagrams came from last.
    private var peers: [IPAddress: Endpoint] = [:]
    private var timer: Scheduled<Void>?
    /// The next count of flows, and whether one is under way.
    var counting: Scheduled<Void>?
    var isCounting = false
    /// How long the last one took.
    var lastCount = TimeAmount.zero
    /// Flows that were forgotten for their idleness.
    var timedOutFlows: UInt64 = 0
    private var sampling: RepeatedTask?
    /// When the counters were read last, for the rates of `batonctl list --rate`.
    var sampledAt: Instant?
    var rates: [ServiceID: ServiceRates] = [:]
    private var fatal: (any Error)?
    private var onFatal: (any Error) -> Void = { _ in }

    /// On the loop. - Throws: before anything is changed at the interface.
    init(
        configuration: Configuration.DirectorConfiguration,
        key: ControlPlane.ClusterKey,
        registry: ModuleRegistry,
        source: ConfigurationSource? = nil,
        loop: any EventLoop,
        logger: Logger
    ) throws {
        self.configuration = configuration
        saved = configuration
        self.source = source
        lastChange = loop.makeSucceededVoidFuture()
        self.key = key
        self.registry = registry
        self.loop = loop
        self.logger = logger
        failures = AuthenticationFailures(logger: logger)
        host = try DirectorHost(configuration: configuration, logger: logger)
        machine = DirectorMachine(life: Life(rawValue: try Randomness.number()))
    }

    // MARK: Life

    func start(onFatal: @escaping (any Error) -> Void) throws {
        self.onFatal = onFatal
        walker.start()
        fencer.start()
        let address = configuration.control.address ?? host.address
        let bind = Endpoint(address: address, port: configuration.control.port)
        datagrams = try AuthenticatedDatagrams(
            bind: bind, on: loop, key: key, use: .datagrams, failures: failures, logger: logger
        ) { [unowned self] body, peer in self.received(body, from: peer) }
        listener = try SecureListener(bind: bind, on: loop, key: key, failures: failures, logger: logger) {
            [unowned self] session in self.opened(session)
        }
        admin = try AdminSocket(path: configuration.socket, on: loop, logger: logger) { [unowned self] request in
            self.answer(request)
        }
        let checks = ServiceChecks(logger: logger) { [weak self, loop] subject, pass in
            loop.execute { self?.checked(subject, pass: pass) }
        }
        self.checks = checks
        let items = try ServiceChecks.items(configuration)
        try host.announce()
        handle(.configuration(try clusterConfiguration()))
        let records = try host.records()
        if !records.isEmpty {
            logger.notice("found \(records.count) slots of an earlier run")
            handle(.restored(records))
        }
        checks.set(items)
        scheduleCounting()
        let period = TimeAmount.nanoseconds(RateEstimator.period.nanoseconds)
        sampling = loop.scheduleRepeatedTask(initialDelay: .zero, delay: period) { [unowned self] _ in self.sampleRates() }
    }

    /// Leaves the data plane in place, so that traffic goes on until the next start.
    func stop() {
        timer?.cancel()
        counting?.cancel()
        sampling?.cancel()
        checks?.stop()
        admin?.close()
        listener?.close()
        datagrams?.close()
        walker.shutdownGracefully { _ in }
        fencer.shutdownGracefully { _ in }
    }

    /// The configuration in the machine's own terms.
    func clusterConfiguration() throws -> Cluster.DirectorConfiguration {
        let services = try zip(configuration.services, host.serviceIDs).map { service, id in
            guard let policy = registry.dispatch(named: service.policy) else {
                throw DirectorFailure("service \(service.name): no dispatch policy \(service.policy)")
            }
            let description = ServiceDescription(
                id: id,
                name: service.name,
                endpoint: service.agentEndpoint,
                replay: service.replay,
                http: service.http
            )
            return ServiceConfiguration(
                description, policy: policy(ModuleOptions(service.policyOptions)), sorry: service.sorry)
        }
        guard let detector = registry.detection(named: configuration.detector), let ring = registry.ring.first else {
            throw DirectorFailure("no failure detector \(configuration.detector)")
        }
        let threshold = Double(configuration.heartbeat.threshold)
        return Cluster.DirectorConfiguration(
            backends: configuration.backends.map {
                BackendConfiguration(name: $0.name, address: $0.address, weight: UInt16(clamping: $0.weight))
            },
            services: services,
            backups: configuration.backups,
            ring: ring.make(),
            detector: { parameters in
                var parameters = parameters
                parameters.threshold = threshold
                return detector(parameters)
            },
            fencesByCommand: configuration.fence != nil,
            timings: ClusterTimings(
                heartbeatInterval: configuration.heartbeat.interval,
                window: configuration.heartbeat.window
            )
        )
    }

    // MARK: The machine

    func handle(_ input: DirectorInput) {
        guard fatal == nil else { return }
        do {
            try process(input)
        } catch {
            fail(error)
        }
    }

    /// Carries out what the machine wants, in order.
    ///
    /// - Throws: after all the rest, where a plan cannot be had: nothing else rests on it. Any other failure ends the
    ///   director at once: what comes after it must not be said.
    func process(_ input: DirectorInput) throws {
        var effects: [DirectorEffect] = []
        machine.handle(input, now: MonotonicClock.now(), into: &effects)
        var failure: (any Error)?
        for effect in effects {
            do {
                try perform(effect)
            } catch {
                guard case .plan = effect else {
                    fail(error)
                    throw error
                }
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
    }

    /// Ends the director; the data plane stays for the next start.
    func fail(_ error: any Error) {
        guard fatal == nil else { return }
        logger.critical("\(error)")
        fatal = error
        onFatal(error)
    }

    func perform(_ effect: DirectorEffect) throws {
        switch effect {
        case .send(let message, let id): sessions[id]?.send(message.encodeBody())
        case .close(let id): sessions[id]?.close()
        case .datagram(let datagram, let address):
            if let peer = peers[address] { datagrams?.send(body: datagram.encode(), to: peer) }
        case .publish(let publication): try host.publish(publication)
        case .plan(let service, let plan):
            guard let entry = host.service(service) else { return }
            try host.publish(plan, of: service, forwarding: forwardingNumber(of: entry) ?? 2)
        case .fenceCommand(let name, let slot, let address): runFenceCommand(name, slot, address)
        case .timer(let instant): schedule(instant)
        case .log(let event): event.log(to: logger)
        }
    }

    /// Power switches take seconds: never on the control thread.
    private func runFenceCommand(_ name: String, _ slot: SlotID, _ address: IPAddress) {
        guard let fence = configuration.fence else { return }
        let command = FenceCommand(arguments: fence.command, timeout: fence.timeout)
        let text = "\(address)"
        fencer.runIfActive(eventLoop: loop) { command.run(backend: name, address: text) }.whenComplete { result in
            switch result {
            case .success(.done): self.handle(.fenceCommandEnded(slot, failure: nil))
            case .success(.failed(let why)): self.handle(.fenceCommandEnded(slot, failure: why))
            case .failure(let error): self.handle(.fenceCommandEnded(slot, failure: "\(error)"))
            }
        }
    }

    private func schedule(_ instant: Instant) {
        timer?.cancel()
        timer = nil
        guard instant != .never else { return }
        timer = loop.scheduleTask(deadline: .uptimeNanoseconds(instant.nanoseconds)) { [unowned self] in
            self.handle(.timer)
        }
    }

    // MARK: Health checks

    var checkStates: [HealthMonitor.State] { checks?.states ?? [] }

    private func checked(_ subject: HealthMonitor.Subject, pass: Bool) {
        guard let index = configuration.services.firstIndex(where: { $0.name == subject.service }) else { return }
        handle(.checks(of: host.serviceIDs[index], at: subject.backend, pass: pass))
    }

    // MARK: Network

    private func opened(_ session: SecureSession) {
        let id = SessionID(rawValue: nextSession)
        nextSession += 1
        sessions[id] = session
        session.onFrame = { [unowned self] body in
            do {
                self.handle(.received(try StreamMessage(decoding: body), from: id))
            } catch {
                self.failures.record(.messageMalformed, from: session.peer, detail: "\(error)")
                session.close()
            }
        }
        session.onClosed = { [weak self] _ in
            self?.sessions[id] = nil
            self?.handle(.sessionClosed(id))
        }
    }

    private func received(_ body: [UInt8], from peer: Endpoint) {
        do {
            let datagram = try Datagram(decoding: body)
            let dropped = machine.drops
            handle(.datagram(datagram))
            // Only what the machine took may say where answers go: an old heartbeat sent again must not.
            if machine.drops == dropped, isBackend(peer.address) { peers[peer.address] = peer }
            record(dropped, peer)
        } catch {
            failures.record(.messageMalformed, from: peer, detail: "\(error)")
        }
    }

    private func isBackend(_ address: IPAddress) -> Bool {
        configuration.backends.contains { $0.address == address }
    }

    /// Counts and logs, once for each peer and cause, what the machine has dropped.
    private func record(_ before: DropCounters, _ peer: Endpoint) {
        let now = machine.drops
        if now.stale > before.stale { failures.record(.messageOld, from: peer) }
        if now.wrongLife > before.wrongLife { failures.record(.messageOfAnotherLife, from: peer) }
        if now.unknownSender > before.unknownSender { failures.record(.peerUnknown, from: peer) }
    }

    // MARK: Admin

    private func answer(_ request: AdminRequest) -> AdminAnswer {
        if let answer = answerConfiguration(request) ?? answerList(request) { return answer }
        switch request.command {
        case "drain", "undrain", "drain-status": return answerDrain(request) ?? .failure("not a request")
        case "status": return .encoding(status())
        case "flows":
            let plane = host.plane
            let limit = request.arguments["limit"].flatMap { Int($0) } ?? 1000
            let names = FlowWalk.Names(machine: machine, host: host)
            return .later(
                walker.runIfActive(eventLoop: loop) {
                    try AdminJSON.encode(try FlowWalk.list(plane, limit: limit, names: names))
                }
            )
        case "route": return answerRoute(request.arguments)
        case "service-forwarding": return changeForwarding(request.arguments)
        case let other:
            return .failure(
                "unknown command \"\(other)\"; a director knows: status, flows, route, service-forwarding, drain, undrain, "
                    + "drain-status, " + (Self.configurationCommands + Self.listCommands).joined(separator: ", "))
        }
    }

    private func status() -> DirectorStatus { StatusReport(runtime: self).make() }
}

/// What ended the director.
struct DirectorFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
