import Crypto
import Model
import NIOCore

/// The form of an authenticated datagram: the body, then a 32-byte HMAC-SHA-256 (RFC 2104) over the body.
///
/// It says that the sender has the cluster key, and nothing about when it sent: that is for the body to say (life and
/// sequence number), because a datagram can be recorded and sent again.
public struct DatagramSeal: Sendable {
    /// Bytes of the tag.
    public static let tagBytes = 32
    /// The longest body: the datagram with its tag is at most `Limits.datagramBytes`.
    public static let bodyLimit = Limits.datagramBytes - tagBytes

    /// The outcome of reading a datagram.
    public enum Opened: Equatable, Sendable {
        case body([UInt8])
        case refused(AuthenticationFailureCause)
    }

    // The state after both key blocks; a copy of it starts every tag, which saves two of four compressions.
    private let keyed: HMAC<SHA256>

    public init(key: ClusterKey, use: KeyUse) {
        keyed = HMAC<SHA256>(key: key.derive(use))
    }

    /// The datagram for a body; nil when the body is empty or longer than `bodyLimit`.
    public func seal(_ body: [UInt8]) -> [UInt8]? {
        guard !body.isEmpty, body.count <= DatagramSeal.bodyLimit else { return nil }
        var authenticator = keyed
        authenticator.update(data: body)
        let tag = authenticator.finalize()
        var datagram: [UInt8] = []
        datagram.reserveCapacity(body.count + DatagramSeal.tagBytes)
        datagram.append(contentsOf: body)
        tag.withUnsafeBytes { datagram.append(contentsOf: $0) }
        return datagram
    }

    /// Checks the tag (in constant time) and gives the body.
    public func open(_ datagram: UnsafeRawBufferPointer) -> Opened {
        guard datagram.count > DatagramSeal.tagBytes else { return .refused(.datagramTooShort) }
        guard datagram.count <= Limits.datagramBytes else { return .refused(.datagramTooLong) }
        let split = datagram.count - DatagramSeal.tagBytes
        let body = UnsafeRawBufferPointer(rebasing: datagram[..<split])
        var authenticator = keyed
        authenticator.update(data: body)
        let tag = UnsafeRawBufferPointer(rebasing: datagram[split...])
        guard authenticator.finalize() == tag else { return .refused(.datagramForged) }
        return .body(Array(body))
    }

    /// As the other one, for bytes in an array.
    public func open(_ datagram: [UInt8]) -> Opened {
        datagram.withUnsafeBytes { open($0) }
    }
}
