import Model

/// One take-over as the director tells of it (`batonctl status --json`, `takeovers`, newest first).
///
/// The only place that knows the names of those fields. Instants: nanoseconds of CLOCK_MONOTONIC, the one clock of a
/// lab's machine; nil until it has come so far.
public struct TakeoverReport: Sendable, Codable, Hashable {
    public var slot: Int
    public var victim: String
    public var backup: String
    public var detectedNs: UInt64?
    public var orderedNs: UInt64?
    public var probeFirstNs: UInt64?
    public var adoptedFirstNs: UInt64?
    /// The first byte of the regenerated reply was seen: catch-up begins.
    public var firstReplyNs: UInt64?
    public var firstNewByteNs: UInt64?
    public var settledNs: UInt64?
    public var connections: Int
    public var adopted: Int
    /// Connections reset, by cause.
    public var reset: [String: Int]
    public var caughtUpBytes: Int

    enum CodingKeys: String, CodingKey {
        case slot, victim, backup
        case detectedNs = "detected_ns"
        case orderedNs = "ordered_ns"
        case probeFirstNs = "probe_first_ns"
        case adoptedFirstNs = "adopted_first_ns"
        case firstReplyNs = "first_reply_ns"
        case firstNewByteNs = "first_new_byte_ns"
        case settledNs = "settled_ns"
        case connections, adopted, reset
        case caughtUpBytes = "caught_up_bytes"
    }

    /// nil when the JSON has no slot, victim or backup.
    public init?(_ json: JSONValue) {
        guard let slot = json["slot"]?.integer, let victim = json["victim"]?.string,
            let backup = json["backup"]?.string
        else { return nil }
        self.slot = slot
        self.victim = victim
        self.backup = backup
        func instant(_ key: CodingKeys) -> UInt64? {
            json[key.rawValue]?.integer.flatMap { $0 > 0 ? UInt64($0) : nil }
        }
        detectedNs = instant(.detectedNs)
        orderedNs = instant(.orderedNs)
        probeFirstNs = instant(.probeFirstNs)
        adoptedFirstNs = instant(.adoptedFirstNs)
        firstReplyNs = instant(.firstReplyNs)
        firstNewByteNs = instant(.firstNewByteNs)
        settledNs = instant(.settledNs)
        connections = json["connections"]?.integer ?? 0
        adopted = json["adopted"]?.integer ?? 0
        reset = (json["reset"]?.object ?? [:]).compactMapValues(\.integer)
        caughtUpBytes = json["caught_up_bytes"]?.integer ?? 0
    }
}

extension Lab {
    /// The director's last take-overs, newest first.
    public func takeovers() throws -> [TakeoverReport] {
        (try directorStatus()["takeovers"]?.array ?? []).compactMap(TakeoverReport.init)
    }

    /// The take-overs of a back-end's slots that were detected after an instant. It may own slots of others too, whose
    /// connections it has taken over, or which were empty.
    func takeovers(of victim: String, after instant: Instant) throws -> [TakeoverReport] {
        try takeovers().filter { $0.victim == victim && $0.detectedNs ?? 0 >= instant.nanoseconds }
    }

    /// Of these the one with the most connections; nil when the director knows of none.
    public func takeover(of victim: String, after instant: Instant) throws -> TakeoverReport? {
        try takeovers(of: victim, after: instant).max { $0.connections < $1.connections }
    }
}
