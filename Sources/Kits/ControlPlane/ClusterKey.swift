import Crypto

/// What a key derived from the cluster key is used for; every use has a key of its own.
///
/// A tag or a session made for one use is therefore worth nothing for another.
public struct KeyUse: RawRepresentable, Hashable, Sendable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// Datagrams between the director and its agents, and between agents.
    public static let datagrams = KeyUse(rawValue: "datagrams")
    /// The pre-shared key of the TLS sessions.
    public static let secureStream = KeyUse(rawValue: "tls pre-shared key")
}

/// The secret that all daemons of a cluster share. It never leaves the process; only keys derived from it are used.
public struct ClusterKey: Sendable {
    /// The fewest bytes of key material that are accepted.
    public static let minimumBytes = 32
    /// The most bytes of key material that are accepted.
    public static let maximumBytes = 4096

    private let material: SymmetricKey

    /// Takes key material as it stands.
    /// - Throws: `ClusterKeyError` when it is shorter than 32 or longer than 4,096 bytes.
    public init(bytes: some Collection<UInt8>) throws(ClusterKeyError) {
        guard bytes.count >= ClusterKey.minimumBytes else {
            throw ClusterKeyError(
                "the cluster key has \(bytes.count) bytes; at least \(ClusterKey.minimumBytes) are needed")
        }
        guard bytes.count <= ClusterKey.maximumBytes else {
            throw ClusterKeyError("the cluster key has more than \(ClusterKey.maximumBytes) bytes")
        }
        material = SymmetricKey(data: Array(bytes))
    }

    /// The 32-byte key for one use (HKDF-SHA-256, RFC 5869).
    func derive(_ use: KeyUse) -> SymmetricKey {
        HKDF<SHA256>.deriveKey(
            inputKeyMaterial: material,
            salt: Array("baton cluster key".utf8),
            info: Array("baton 1 \(use.rawValue)".utf8),
            outputByteCount: 32
        )
    }
}

/// Why a cluster key was refused: place, cause and, where there is one, the remedy.
public struct ClusterKeyError: Error, CustomStringConvertible, Equatable {
    public let reason: String
    init(_ reason: String) { self.reason = reason }
    public var description: String { reason }
}
