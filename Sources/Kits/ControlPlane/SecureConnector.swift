import Logging
import Model
import NIOCore
import NIOPosix
import NIOSSL

/// Keeps a control session to one peer: connects, and connects again whenever the session ends, until stopped.
///
/// Make and use it on the event loop given only.
public final class SecureConnector {
    /// The peer to connect to.
    public let peer: Endpoint
    /// The session, while there is one.
    public private(set) var session: SecureSession?
    /// Attempts to connect since the start.
    public private(set) var attempts: UInt64 = 0

    private let local: IPAddress?
    private let eventLoop: any EventLoop
    private let context: NIOSSLContext
    private let parameters: SecureStreamParameters
    private let failures: AuthenticationFailures
    private let logger: Logger
    private let random: () -> UInt64
    private var onSession: (SecureSession) -> Void
    private var backoff: ReconnectBackoff
    private var isRunning = false
    private var attemptPending = false
    private var handshake: SecureChannelHandler?
    private var retry: Scheduled<Void>?
    private var lastFailure = ""

    /// Makes a connector that does nothing yet.
    ///
    /// - Parameters:
    ///   - local: The address to connect from; nil leaves it to the kernel.
    ///   - random: The source of the jitter between attempts.
    ///   - onSession: Called for each session, after the peer has proved the key; set the session's handlers in it.
    /// - Throws: An error of NIOSSL when TLS cannot be set up.
    public init(
        to peer: Endpoint,
        from local: IPAddress? = nil,
        on eventLoop: any EventLoop,
        key: ClusterKey,
        parameters: SecureStreamParameters = SecureStreamParameters(),
        failures: AuthenticationFailures,
        logger: Logger,
        random: @escaping () -> UInt64,
        onSession: @escaping (SecureSession) -> Void
    ) throws {
        eventLoop.preconditionInEventLoop()
        self.peer = peer
        self.local = local
        self.eventLoop = eventLoop
        self.parameters = parameters
        self.failures = failures
        self.logger = logger
        self.random = random
        self.onSession = onSession
        backoff = ReconnectBackoff(parameters)
        context = try PreSharedKeyTLS.client(key: key, parameters: parameters)
    }

    /// Starts to connect.
    public func start() {
        eventLoop.preconditionInEventLoop()
        guard !isRunning else { return }
        isRunning = true
        connect()
    }

    /// Ends the session and connects no more.
    public func stop() {
        eventLoop.preconditionInEventLoop()
        isRunning = false
        retry?.cancel()
        retry = nil
        handshake?.abandon()
        session?.close()
    }

    // MARK: One attempt

    private func connect() {
        guard isRunning, session == nil, !attemptPending else { return }
        attempts &+= 1
        attemptPending = true
        let attempt = attempts
        let owner = NIOLoopBound(self, eventLoop: eventLoop)
        do {
            var bootstrap = ClientBootstrap(group: eventLoop)
                .connectTimeout(TimeAmount(parameters.connectTimeout))
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture { try owner.value.prepare(channel) }
                }
            for (option, value) in ControlConnection.options(parameters) {
                bootstrap = bootstrap.channelOption(option, value: value)
            }
            if let local {
                bootstrap = bootstrap.bind(to: try Endpoint(address: local, port: 0).socketAddress())
            }
            bootstrap.connect(to: try peer.socketAddress()).assumeIsolated().whenFailure { [self] error in
                // After stop() and start() another attempt may be under way.
                if attempt == attempts { attemptFailed(describeConnectError(error)) }
            }
        } catch {
            attemptFailed(describeConnectError(error))
        }
    }

    private func prepare(_ channel: any Channel) throws {
        let handler = SecureChannelHandler(
            peer: peer,
            parameters: parameters,
            failures: failures,
            established: { [weak self] session, _ in self?.established(session) ?? false },
            failed: { [weak self] _ in self?.attemptFailed("the TLS handshake failed") }
        )
        handshake = handler
        try handler.install(in: channel, tls: NIOSSLClientHandler(context: context, serverHostname: nil))
    }

    private func attemptFailed(_ reason: String) {
        guard attemptPending else { return }
        attemptPending = false
        let unfinished = handshake
        handshake = nil
        unfinished?.abandon()
        if isRunning, reason != lastFailure {
            lastFailure = reason
            logger.notice("cannot connect to \(peer): \(reason); trying on")
        }
        retryLater()
    }

    private func established(_ session: SecureSession) -> Bool {
        attemptPending = false
        handshake = nil
        guard isRunning else { return false }
        lastFailure = ""
        self.session = session
        let since = NIODeadline.now()
        session.onEnded = { [weak self] in self?.ended(since: since) }
        onSession(session)
        return true
    }

    private func ended(since: NIODeadline) {
        session = nil
        // A peer that takes the session and ends it at once is not to be asked twenty times a second.
        if NIODeadline.now() - since >= TimeAmount(parameters.reconnectMaximum) { backoff.reset() }
        retryLater()
    }

    private func retryLater() {
        guard isRunning, retry == nil else { return }
        let delay = backoff.next(random: random())
        retry = eventLoop.assumeIsolated().scheduleTask(in: delay) { [weak self] in
            self?.retry = nil
            self?.connect()
        }
    }
}

/// The text of an error of `connect`, without NIO's type names where the errno says it all.
private func describeConnectError(_ error: any Error) -> String {
    if let error = error as? IOError { return errorText(error.errnoCode) }
    if let error = error as? ChannelError, case .connectTimeout = error { return "no answer in time" }
    return "\(error)"
}
