import Crypto
import Model
import NIOCore
import NIOSSL

/// The TLS of the control sessions: TLS 1.2 with one suite, ECDHE-PSK-CHACHA20-POLY1305-SHA256 (RFC 7905).
///
/// The key of the suite proves both ends to each other, so no certificates exist and none are verified; ECDHE keeps old
/// sessions secret should the cluster key be stolen later. BoringSSL knows external pre-shared keys in TLS 1.2 only.
enum PreSharedKeyTLS {
    /// TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256: the only one of BoringSSL's ECDHE-PSK suites that is an AEAD.
    static let suite = NIOTLSCipher(rawValue: 0xCCAC)
    private static let identity = "baton"

    private struct UnknownIdentity: Error {}

    /// The context of a server.
    static func server(key: ClusterKey, parameters: SecureStreamParameters) throws -> NIOSSLContext {
        var configuration = common(parameters)
        let secret = secureBytes(key)
        configuration.pskServerProvider = { context in
            guard context.clientIdentity == identity else { throw UnknownIdentity() }
            return PSKServerIdentityResponse(key: secret)
        }
        return try NIOSSLContext(configuration: configuration)
    }

    /// The context of a client.
    static func client(key: ClusterKey, parameters: SecureStreamParameters) throws -> NIOSSLContext {
        var configuration = common(parameters)
        let secret = secureBytes(key)
        configuration.pskClientProvider = { _ in PSKClientIdentityResponse(key: secret, identity: identity) }
        return try NIOSSLContext(configuration: configuration)
    }

    private static func common(_ parameters: SecureStreamParameters) -> TLSConfiguration {
        var configuration = TLSConfiguration.makePreSharedKeyConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        configuration.maximumTLSVersion = .tlsv12
        configuration.cipherSuiteValues = [suite]
        configuration.curves = [.x25519, .secp256r1]
        configuration.certificateVerification = .none
        // No roots: the system's store would be read from disk for nothing.
        configuration.trustRoots = .certificates([])
        configuration.renegotiationSupport = .none
        configuration.shutdownTimeout = TimeAmount(parameters.shutdownTimeout)
        return configuration
    }

    private static func secureBytes(_ key: ClusterKey) -> NIOSSLSecureBytes {
        var bytes = NIOSSLSecureBytes()
        key.derive(.secureStream).withUnsafeBytes { bytes.append($0) }
        return bytes
    }

    /// The cause to count for an error before the handshake's end.
    ///
    /// BoringSSL's reasons are to be had as text only. One that is not listed still counts as a failed handshake.
    static func cause(ofHandshakeError error: any Error) -> AuthenticationFailureCause {
        let text = String(describing: error)
        let reasons: [(String, AuthenticationFailureCause)] = [
            ("EOF during handshake", .handshakeAbandoned),
            ("BAD_DECRYPT", .handshakeWrongKey),
            ("BAD_RECORD_MAC", .handshakeWrongKey),
            ("DIGEST_CHECK_FAILED", .handshakeWrongKey),
            ("DECRYPT_ERROR", .handshakeWrongKey),
            ("HTTP_REQUEST", .handshakeNotTLS),
            ("HTTPS_PROXY_REQUEST", .handshakeNotTLS),
            ("WRONG_VERSION_NUMBER", .handshakeNotTLS),
            ("UNEXPECTED_RECORD", .handshakeNotTLS),
            ("NO_SHARED_CIPHER", .handshakeWithoutKey),
            ("WRONG_CIPHER", .handshakeWithoutKey),
            ("UNKNOWN_CIPHER", .handshakeWithoutKey),
            ("UNSUPPORTED_PROTOCOL", .handshakeWithoutKey),
            ("PROTOCOL_VERSION", .handshakeWithoutKey),
            ("ALERT_HANDSHAKE_FAILURE", .handshakeWithoutKey),
            ("PSK_IDENTITY", .handshakeWithoutKey),
        ]
        if let (_, cause) = reasons.first(where: { text.contains($0.0) }) { return cause }
        return error is NIOSSLError || error is BoringSSLError ? .handshakeNotTLS : .handshakeAbandoned
    }

    /// Short text of an error, for the log: BoringSSL's reason without its source lines.
    static func summary(_ error: any Error) -> String {
        let text = String(describing: error)
        if text.contains("EOF during handshake") { return "closed by the peer" }
        // "... error:1000010d:SSL routines:OPENSSL_internal:NO_SHARED_CIPHER at ..."
        let parts = text.split(separator: ":")
        guard let index = parts.firstIndex(of: "OPENSSL_internal"), index + 1 < parts.count else { return text }
        return String(parts[index + 1].prefix { $0 != " " })
    }
}
