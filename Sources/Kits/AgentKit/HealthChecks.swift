import Configuration
import Glibc
import HealthKit
import Logging
import Model
import NIOCore
import NIOPosix

/// Checks the local applications: connects to them or asks them, as clients do, or looks whether they listen.
///
/// A connection that opens also shows the options of the application's SYN-ACKs (TCP_INFO), so that they are known
/// before the first client comes. Belongs to the event loop.
final class HealthChecks {
    typealias Outcome = (_ service: String, _ passed: Bool, _ handshake: HandshakeOptions?) -> Void

    private struct Item {
        var name: String
        var endpoint: Endpoint
        var check: Configuration.AgentConfiguration.Check
        var next: Scheduled<Void>?
        /// Why the last check failed; nil when it passed, or there was none yet.
        var failure: String?
    }

    private let loop: any EventLoop
    private let logger: Logger
    private let isListening: (Endpoint) -> Bool
    private let outcome: Outcome
    private var items: [Item] = []
    private var round: UInt64 = 0

    /// - Parameters:
    ///   - isListening: whether a process of this machine listens there.
    ///   - outcome: called once for each check.
    init(
        loop: any EventLoop,
        logger: Logger,
        isListening: @escaping (Endpoint) -> Bool,
        outcome: @escaping Outcome
    ) {
        self.loop = loop
        self.logger = logger
        self.isListening = isListening
        self.outcome = outcome
    }

    /// Checks exactly these services from now on.
    func set(_ services: [(String, Endpoint, Configuration.AgentConfiguration.Check)]) {
        stop()
        items = services.map { Item(name: $0.0, endpoint: $0.1, check: $0.2) }
        for index in items.indices { start(index, round: round) }
    }

    func stop() {
        round += 1
        for item in items { item.next?.cancel() }
        items = []
    }

    private func start(_ index: Int, round: UInt64) {
        guard round == self.round, index < items.count else { return }
        let item = items[index]
        let owner = NIOLoopBound(self, eventLoop: loop)
        items[index].next = loop.scheduleTask(in: .nanoseconds(item.check.interval.nanoseconds)) {
            owner.value.start(index, round: round)
        }
        switch item.check.kind {
        case .none: report(index, nil, round: round)
        case .process: report(index, isListening(item.endpoint) ? nil : "no process listens", round: round)
        case .tcp, .http: connect(index, round: round)
        }
    }

    /// Opens a connection, asks what is to be asked, and closes it; all of it within the check's timeout.
    private func connect(_ index: Int, round: UInt64) {
        let (endpoint, check) = (items[index].endpoint, items[index].check)
        guard let address = try? SocketAddress(ipAddress: "\(endpoint.address)", port: Int(endpoint.port)) else { return }
        let owner = NIOLoopBound(self, eventLoop: loop)
        let status = loop.makePromise(of: Int.self)
        let timeout = TimeAmount.nanoseconds(check.timeout.nanoseconds)
        let timer = loop.scheduleTask(in: timeout) { status.fail(CheckFailure.noAnswer) }
        let request =
            check.kind == .http
            ? HTTPProbe.request(endpoint, path: check.path, host: check.host, agent: "baton-agent") : nil
        let connection = ClientBootstrap(group: loop)
            .connectTimeout(timeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if request != nil { try channel.pipeline.syncOperations.addHandler(StatusReader(status)) }
                }
            }
            .connect(to: address)
        connection.whenFailure { status.fail(CheckFailure.connection("\($0)")) }
        connection.flatMap { channel in
            if let request {
                channel.writeAndFlush(channel.allocator.buffer(bytes: request), promise: nil)
            } else {
                status.succeed(check.status.lowerBound)
            }
            return HealthChecks.handshake(of: channel)
        }
        .and(status.futureResult)
        .whenComplete { result in
            timer.cancel()
            connection.whenSuccess { $0.close(promise: nil) }
            switch result {
            case .failure(let error): owner.value.report(index, "\(error)", round: round)
            case .success((let handshake, let code)):
                let failure = check.status.contains(code) ? nil : "the status is \(code)"
                owner.value.report(index, failure, handshake, round: round)
            }
        }
    }

    private static func handshake(of channel: any Channel) -> EventLoopFuture<HandshakeOptions?> {
        guard let provider = channel as? any SocketOptionProvider else {
            return channel.eventLoop.makeSucceededFuture(nil)
        }
        return provider.getTCPInfo().map { HandshakeOptions?.some(HandshakeOptions($0)) }.recover { _ in nil }
    }

    /// Why a check fails is said when that changes.
    private func report(_ index: Int, _ failure: String?, _ handshake: HandshakeOptions? = nil, round: UInt64) {
        guard round == self.round, index < items.count else { return }
        let item = items[index]
        if let failure, failure != item.failure {
            logger.notice("the check of \(item.name) at \(item.endpoint) fails: \(failure)")
        }
        items[index].failure = failure
        outcome(item.name, failure == nil, handshake)
    }
}

extension HandshakeOptions {
    /// What the other end announced, from `struct tcp_info` (include/uapi/linux/tcp.h).
    fileprivate init(_ info: tcp_info) {
        let options = info.tcpi_options
        let usesScale = options & 4 != 0
        // MSS says nothing here: loopback's is not the network's.
        self.init(
            mss: 1460,
            windowScale: usesScale ? info.tcpi_snd_wscale : nil,
            sackPermitted: options & 2 != 0,
            timestamps: options & 1 != 0
        )
    }
}
