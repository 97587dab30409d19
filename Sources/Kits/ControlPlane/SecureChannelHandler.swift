import Glibc
import Model
import NIOCore
import NIOSSL
import NIOTLS

/// The last handler of a control connection, at both ends: waits for the handshake, then feeds the session.
final class SecureChannelHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private enum State {
        case handshaking
        case open(SecureSession)
        case ended
    }

    private let peer: Endpoint
    private let parameters: SecureStreamParameters
    private let failures: AuthenticationFailures
    /// Called with the session when the handshake is done; false refuses it.
    private let established: (SecureSession, SecureChannelHandler) -> Bool
    /// Called once when the handshake will not come to an end.
    private let failed: (SecureChannelHandler) -> Void
    private var state = State.handshaking
    private var deadline: Scheduled<Void>?
    private var context: ChannelHandlerContext?

    init(
        peer: Endpoint,
        parameters: SecureStreamParameters,
        failures: AuthenticationFailures,
        established: @escaping (SecureSession, SecureChannelHandler) -> Bool,
        failed: @escaping (SecureChannelHandler) -> Void
    ) {
        self.peer = peer
        self.parameters = parameters
        self.failures = failures
        self.established = established
        self.failed = failed
    }

    /// Puts TLS and this handler into a channel.
    func install(in channel: any Channel, tls: NIOSSLHandler) throws {
        try channel.pipeline.syncOperations.addHandlers([tls, self])
        let timeout = TimeAmount(parameters.handshakeTimeout)
        deadline = channel.eventLoop.assumeIsolated().scheduleTask(in: timeout) { [weak self] in
            self?.giveUp(.handshakeTimedOut)
        }
    }

    /// Closes a connection whose handshake is under way.
    func giveUp(_ cause: AuthenticationFailureCause, detail: @autoclosure () -> String = "") {
        guard case .handshaking = state else { return }
        failures.record(cause, from: peer, detail: detail())
        abandon()
    }

    /// Closes without counting: this end does not want the connection any more.
    func abandon() {
        guard case .handshaking = state else { return }
        state = .ended
        deadline?.cancel()
        failed(self)
        context?.close(promise: nil)
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case TLSUserEvent.handshakeCompleted = event {
            handshakeCompleted(context)
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    private func handshakeCompleted(_ context: ChannelHandlerContext) {
        guard case .handshaking = state else { return }
        deadline?.cancel()
        let session = SecureSession(
            channel: context.channel,
            peer: peer,
            local: Endpoint(context.channel.localAddress) ?? peer,
            parameters: parameters,
            failures: failures
        )
        state = .open(session)
        if !established(session, self) { session.close() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .open(let session) = state else { return }
        var bytes = unwrapInboundIn(data)
        session.received(&bytes)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch state {
        case .handshaking:
            giveUp(PreSharedKeyTLS.cause(ofHandshakeError: error), detail: PreSharedKeyTLS.summary(error))
        case .open(let session):
            if error is BoringSSLError {
                failures.record(.recordForged, from: peer, detail: PreSharedKeyTLS.summary(error))
            }
            state = .ended
            session.end(.closedByPeer(PreSharedKeyTLS.summary(error)))
        case .ended:
            break
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        switch state {
        case .handshaking:
            giveUp(.handshakeAbandoned)
        case .open(let session):
            state = .ended
            session.end(.closedByPeer("closed"))
        case .ended:
            break
        }
    }
}

/// The TCP options of a control connection.
enum ControlConnection {
    typealias Option = (option: ChannelOptions.Types.SocketOption, value: SocketOptionValue)

    /// Options by level, name and value: no delay, and a dead peer is noticed in seconds rather than in hours.
    static func options(_ parameters: SecureStreamParameters) -> [Option] {
        let userTimeout = SocketOptionValue(clamping: parameters.userTimeout.nanoseconds / 1_000_000)
        return [
            (.init(level: .tcp, name: .tcp_nodelay), 1),
            (.init(level: .socket, name: .so_keepalive), 1),
            (.init(level: .tcp, name: .init(rawValue: TCP_KEEPIDLE)), 1),
            (.init(level: .tcp, name: .init(rawValue: TCP_KEEPINTVL)), 1),
            (.init(level: .tcp, name: .init(rawValue: TCP_KEEPCNT)), 3),
            (.init(level: .tcp, name: .init(rawValue: TCP_USER_TIMEOUT)), userTimeout),
        ]
    }
}
