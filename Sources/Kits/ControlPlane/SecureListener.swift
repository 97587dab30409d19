import Glibc
import Logging
import Model
import NIOCore
import NIOPosix
import NIOSSL

/// Accepts control sessions: TLS with the cluster's pre-shared key over TCP.
///
/// Peers that cannot prove the key cost at most `handshakeLimit` connections of `handshakeTimeout` each; when more
/// come, the oldest unfinished handshake makes room, so that waiting peers cannot lock honest ones out. Make and use it
/// on the event loop given only.
public final class SecureListener {
    /// Where it listens, with the port that the kernel chose when 0 was asked for.
    public let localEndpoint: Endpoint
    /// Connections whose handshake is under way.
    public var handshakeCount: Int { handshakes.count }
    /// Sessions that are open, in the order of their coming.
    public private(set) var sessions: [SecureSession] = []

    private let eventLoop: any EventLoop
    private let context: NIOSSLContext
    private let parameters: SecureStreamParameters
    private let failures: AuthenticationFailures
    private let logger: Logger
    private var onSession: (SecureSession) -> Void
    private var handshakes: [SecureChannelHandler] = []
    private var channel: (any Channel)?
    private var isClosed = false

    /// Binds and listens.
    ///
    /// - Parameter onSession: Called for each session whose peer has proved the key; set the session's handlers in it.
    /// - Throws: `SocketError` when the address cannot be bound; an error of NIOSSL when TLS cannot be set up.
    public init(
        bind endpoint: Endpoint,
        on eventLoop: any EventLoop,
        key: ClusterKey,
        parameters: SecureStreamParameters = SecureStreamParameters(),
        failures: AuthenticationFailures,
        logger: Logger,
        onSession: @escaping (SecureSession) -> Void
    ) throws {
        eventLoop.preconditionInEventLoop()
        self.eventLoop = eventLoop
        self.parameters = parameters
        self.failures = failures
        self.logger = logger
        self.onSession = onSession
        context = try PreSharedKeyTLS.server(key: key, parameters: parameters)
        let descriptor = try BoundSocket.listener(endpoint)
        localEndpoint = Endpoint(localAddressOf: descriptor) ?? endpoint
        listen(descriptor)
    }

    /// Stops to listen and ends all sessions.
    public func close() {
        eventLoop.preconditionInEventLoop()
        guard !isClosed else { return }
        isClosed = true
        channel?.close(promise: nil)
        channel = nil
        for handshake in handshakes { handshake.abandon() }
        for session in sessions { session.close() }
        onSession = { _ in }
    }

    private func listen(_ descriptor: CInt) {
        let owner = NIOLoopBound(self, eventLoop: eventLoop)
        let again = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
        var bootstrap = ServerBootstrap(group: eventLoop, childGroup: eventLoop)
            .serverChannelOption(.maxMessagesPerRead, value: 16)
            .childChannelInitializer { child in
                child.eventLoop.makeCompletedFuture { try owner.value.admit(child) }
            }
        for (option, value) in ControlConnection.options(parameters) {
            bootstrap = bootstrap.childChannelOption(option, value: value)
        }
        bootstrap.withBoundSocket(descriptor).assumeIsolated().whenComplete { [self] result in
            BoundSocket.restoreAcceptQueue(again)
            Glibc.close(again)
            switch result {
            case .success(let channel):
                if isClosed {
                    channel.close(promise: nil)
                } else {
                    self.channel = channel
                }
            case .failure(let error):
                logger.error("TCP \(localEndpoint): cannot accept connections: \(error)")
            }
        }
    }

    private func admit(_ child: any Channel) throws {
        guard !isClosed, let peer = Endpoint(child.remoteAddress) else {
            child.close(promise: nil)
            return
        }
        if handshakes.count >= parameters.handshakeLimit, let oldest = handshakes.first {
            oldest.giveUp(.handshakeCrowdedOut)
        }
        let handler = SecureChannelHandler(
            peer: peer,
            parameters: parameters,
            failures: failures,
            established: { [weak self] session, handler in self?.established(session, handler) ?? false },
            failed: { [weak self] handler in self?.forget(handler) }
        )
        handshakes.append(handler)
        do {
            try handler.install(in: child, tls: NIOSSLServerHandler(context: context))
        } catch {
            handler.abandon()
            throw error
        }
    }

    private func forget(_ handler: SecureChannelHandler) {
        handshakes.removeAll { $0 === handler }
    }

    private func established(_ session: SecureSession, _ handler: SecureChannelHandler) -> Bool {
        forget(handler)
        guard !isClosed else { return false }
        guard sessions.count < parameters.sessionLimit else {
            failures.record(.sessionsTooMany, from: session.peer)
            return false
        }
        sessions.append(session)
        session.onEnded = { [weak self, unowned session] in self?.sessions.removeAll { $0 === session } }
        onSession(session)
        return true
    }
}
