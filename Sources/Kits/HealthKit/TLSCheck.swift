import NIOCore
import NIOSSL
import NIOTLS

/// How a check speaks TLS.
public struct CheckTLS: Sendable {
    let context: NIOSSLContext
    /// The name that is asked for (SNI, RFC 6066 3), and that the certificate is held against.
    let serverName: String?

    /// - Parameters:
    ///   - verifies: whether the certificate must be valid, and the server name's where there is one.
    ///   - authorities: a file of trusted certificates (PEM); nil: the system's.
    /// - Throws: when the file cannot be read.
    public init(serverName: String?, verifies: Bool, authorities: String?, protocols: [String] = []) throws {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.certificateVerification =
            verifies ? (serverName == nil ? .noHostnameVerification : .fullVerification) : .none
        if let authorities { configuration.trustRoots = .file(authorities) }
        configuration.applicationProtocols = protocols
        context = try NIOSSLContext(configuration: configuration)
        self.serverName = serverName
    }

    func handlers(_ run: CheckRun) throws -> [any ChannelHandler] {
        [try NIOSSLClientHandler(context: context, serverHostname: serverName)]
    }
}

/// `tls`: the handshake is completed.
public struct TLSCheck: HealthCheck {
    private let tls: CheckTLS

    public init(_ tls: CheckTLS) { self.tls = tls }

    public func begin(_ run: CheckRun) {
        let tls = tls
        run.connect(handlers: { try tls.handlers(run) + [HandshakeWatch(run)] }, opened: { _ in })
    }
}

private final class HandshakeWatch: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let run: CheckRun

    init(_ run: CheckRun) { self.run = run }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted? = event as? TLSUserEvent { run.pass() }
        context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
        run.fail("the connection was closed in the TLS handshake")
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        run.fail(oneLine("TLS: \(error)"))
        context.close(promise: nil)
    }
}
