import Model

/// What one run of the demonstration showed; its JSON is what `demo --json` prints.
public struct DemoReport: Sendable, Codable {
    public struct Client: Sendable, Codable {
        public var before: String?
        public var after: String?
        public var bytes: Int
        public var sha256: String
        public var right: Bool
        /// The longest time in which the application got nothing, at or after the failure.
        public var stallMs: Double
        /// The same for bytes in order at the client's TCP; nil when it was not measured.
        public var arrivalStallMs: Double?
        public var error: String

        enum CodingKeys: String, CodingKey {
            case before, after, bytes, sha256, right, error
            case stallMs = "stall_ms"
            case arrivalStallMs = "arrival_stall_ms"
        }
    }

    public var how: String
    public var victim: String
    public var backup: String?
    /// CLOCK_MONOTONIC of the failure.
    public var failureNs: UInt64
    public var bytesAtFailure: Int
    public var size: Int
    public var sha256: String
    public var takeover: TakeoverReport?
    public var clients: [Client]
    /// Why the demonstration did not show what it should; empty when it did.
    public var complaints: [String]

    public var passed: Bool { complaints.isEmpty }

    enum CodingKeys: String, CodingKey {
        case how, victim, backup, size, sha256, takeover, clients, complaints
        case failureNs = "failure_ns"
        case bytesAtFailure = "bytes_at_failure"
    }

    /// The clients whose server died.
    public var hit: [Client] { clients.filter { $0.before == victim } }

    /// Says what must hold for success: every sum right, and every hit download finished by another back-end.
    mutating func judge() {
        for (number, client) in clients.enumerated() where !client.right {
            let why = client.error.isEmpty ? "the SHA-256 differs" : client.error
            complaints.append("client \(number + 1): \(client.bytes) of \(size) bytes; \(why)")
        }
        if hit.isEmpty { complaints.append("no download was on \(victim) when it failed") }
        for (number, client) in clients.enumerated() where client.before == victim {
            if client.after == nil || client.after == victim {
                complaints.append("client \(number + 1): no other back-end was seen to finish the download")
            }
        }
    }
}
