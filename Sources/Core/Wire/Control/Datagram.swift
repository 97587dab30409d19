import Model

/// A UDP message between director and agents, and between an agent and its backups.
///
/// The body only: the HMAC that authenticates it is put behind the bytes by whoever sends them. All numbers are
/// big-endian. Layout: magic `BTNH`, version, kind, sender, sender's life, receiver's life, sequence, send time, body.
public struct Datagram: Hashable, Sendable {
    /// The sender; `BackendID.director` for the director.
    public var sender: BackendID
    public var senderLife: Life
    /// The life of the receiver that the sender means; another life must drop the message.
    public var receiverLife: Life
    /// Rises with every datagram of the sender's life: a receiver takes only what is above the last one taken.
    public var sequence: UInt64
    /// The sender's own monotonic clock; nobody else may compare it with theirs.
    public var sentAt: Instant
    public var body: Body

    public enum Body: Hashable, Sendable {
        case heartbeat(Heartbeat)
        case echo(Echo)
        /// A backup orders the former owner to be silent.
        case fenceDemand(Fence)
        /// The former owner's kernel lets nothing of the VIPs out, and never will again in this life.
        case fenceAcknowledged(Fence)
        /// From a primary to its backups: the replies that it has begun to send. Sent more than once.
        case replies([ReplyNotice])
        /// From a primary to its backups: the SYN-ACKs that it has sent. The list of connections repeats it.
        case synAcks([SynAckNotice])
    }

    public init(
        sender: BackendID,
        senderLife: Life,
        receiverLife: Life,
        sequence: UInt64,
        sentAt: Instant,
        body: Body
    ) {
        self.sender = sender
        self.senderLife = senderLife
        self.receiverLife = receiverLife
        self.sequence = sequence
        self.sentAt = sentAt
        self.body = body
    }
}

/// "I live": from an agent to the director and to each of its backups ([Z] II-C).
public struct Heartbeat: Hashable, Sendable {
    /// The promise asked for: whoever echoes this will not start or order a take-over for so long.
    public var lease: Interval
    /// Load of the machine in thousandths of its capacity; may be above 1000.
    public var load: UInt32
    public var services: [ServiceReport]

    public init(lease: Interval, load: UInt32 = 0, services: [ServiceReport] = []) {
        self.lease = lease
        self.load = load
        self.services = services
    }
}

/// The state of one service's application on the sender, and what its SYN-ACKs look like.
public struct ServiceReport: Hashable, Sendable {
    public var service: ServiceID
    public var healthy: Bool
    /// The options of the SYN-ACKs, which backups cannot see themselves; nil while none was seen.
    public var handshake: HandshakeOptions?

    public init(service: ServiceID, healthy: Bool, handshake: HandshakeOptions? = nil) {
        self.service = service
        self.healthy = healthy
        self.handshake = handshake
    }
}

/// The answer to a heartbeat, and the promise that it asked for.
public struct Echo: Hashable, Sendable {
    /// The heartbeat's sequence number.
    public var sequence: UInt64
    /// The heartbeat's send time, on the clock of whoever sent the heartbeat.
    public var sentAt: Instant

    public init(sequence: UInt64, sentAt: Instant) {
        self.sequence = sequence
        self.sentAt = sentAt
    }
}

/// What a fence demand and its acknowledgement are about.
public struct Fence: Hashable, Sendable {
    public var slot: SlotID
    /// The epoch of the take-over order.
    public var epoch: Epoch

    public init(slot: SlotID, epoch: Epoch) {
        self.slot = slot
        self.epoch = epoch
    }
}

// MARK: Bytes

extension Datagram {
    static let magic: UInt32 = 0x4254_4e48
    /// Services of one heartbeat: as many as fit the datagram.
    static let services = 128

    /// The bytes of the message, without the HMAC; at most `Limits.datagramBytes - 32`.
    public func encode() -> [UInt8] {
        var writer = ControlWriter()
        writer.integer(Self.magic)
        writer.integer(UInt8(truncatingIfNeeded: ControlProtocol.version))
        writer.integer(kind)
        writer.integer(sender.rawValue)
        writer.integer(senderLife.rawValue)
        writer.integer(receiverLife.rawValue)
        writer.integer(sequence)
        writer.instant(sentAt)
        switch body {
        case .heartbeat(let heartbeat): heartbeat.write(to: &writer)
        case .echo(let echo):
            writer.integer(echo.sequence)
            writer.instant(echo.sentAt)
        case .fenceDemand(let fence), .fenceAcknowledged(let fence):
            writer.integer(fence.slot.rawValue)
            writer.integer(fence.epoch.rawValue)
        case .replies(let notices):
            writer.list(notices, limit: ReplyNotice.limit) { $1.write(to: &$0) }
        case .synAcks(let notices):
            writer.list(notices, limit: SynAckNotice.limit) { $1.write(to: &$0) }
        }
        return writer.bytes
    }

    private var kind: UInt8 {
        switch body {
        case .heartbeat: 1
        case .echo: 2
        case .fenceDemand: 3
        case .fenceAcknowledged: 4
        case .replies: 5
        case .synAcks: 6
        }
    }

    /// Reads a message without its HMAC.
    ///
    /// - Throws: `ControlDecodingError` for anything that `encode` cannot have written.
    public init(decoding bytes: some Collection<UInt8>) throws(ControlDecodingError) {
        guard bytes.count <= Limits.datagramBytes else {
            throw ControlDecodingError(place: "datagram", cause: .tooLong(UInt64(bytes.count)))
        }
        var reader = ControlReader(ArraySlice(bytes), message: "datagram")
        guard try reader.integer("magic", as: UInt32.self) == Self.magic else {
            throw reader.failure("magic", .badMagic)
        }
        let version: UInt8 = try reader.integer("version")
        guard version == ControlProtocol.version else {
            throw reader.failure("version", .unsupportedVersion(UInt16(version)))
        }
        let kind: UInt8 = try reader.integer("kind")
        sender = BackendID(rawValue: try reader.integer("sender"))
        senderLife = Life(rawValue: try reader.integer("senderLife"))
        receiverLife = Life(rawValue: try reader.integer("receiverLife"))
        sequence = try reader.integer("sequence")
        sentAt = try reader.instant("sentAt")
        switch kind {
        case 1:
            reader.message = "heartbeat"
            body = .heartbeat(try Heartbeat(from: &reader))
        case 2:
            reader.message = "echo"
            body = .echo(Echo(sequence: try reader.integer("sequence"), sentAt: try reader.instant("sentAt")))
        case 3:
            reader.message = "fenceDemand"
            body = .fenceDemand(try Fence(from: &reader))
        case 4:
            reader.message = "fenceAcknowledged"
            body = .fenceAcknowledged(try Fence(from: &reader))
        case 5:
            reader.message = "replies"
            body = .replies(
                try reader.list("replies", limit: ReplyNotice.limit) {
                    (reader: inout ControlReader) throws(ControlDecodingError) in
                    try ReplyNotice(from: &reader)
                })
        case 6:
            reader.message = "synAcks"
            body = .synAcks(
                try reader.list("synAcks", limit: SynAckNotice.limit) {
                    (reader: inout ControlReader) throws(ControlDecodingError) in
                    try SynAckNotice(from: &reader)
                })
        default:
            throw reader.failure("kind", .unknownValue(UInt64(kind)))
        }
        try reader.finish()
    }
}

extension Heartbeat {
    func write(to writer: inout ControlWriter) {
        writer.interval(lease)
        writer.integer(load)
        writer.list(services, limit: Datagram.services) { writer, report in
            writer.integer(report.service.rawValue)
            writer.flag(report.healthy)
            writer.handshake(report.handshake)
        }
    }

    init(from reader: inout ControlReader) throws(ControlDecodingError) {
        lease = try reader.interval("lease", limit: ControlProtocol.longestLease)
        load = try reader.integer("load")
        services = try reader.list("services", limit: Datagram.services) {
            (reader: inout ControlReader) throws(ControlDecodingError) in
            ServiceReport(
                service: ServiceID(rawValue: try reader.integer("service")),
                healthy: try reader.flag("healthy"),
                handshake: try reader.handshake("handshake")
            )
        }
    }
}

extension Fence {
    init(from reader: inout ControlReader) throws(ControlDecodingError) {
        slot = SlotID(rawValue: try reader.integer("slot"))
        epoch = Epoch(rawValue: try reader.integer("epoch"))
    }

    func write(to writer: inout ControlWriter) {
        writer.integer(slot.rawValue)
        writer.integer(epoch.rawValue)
    }
}

/// Handshake options in four bytes: flags (1 known, 2 window scale, 4 SACK, 8 timestamps), shift count, MSS.
extension ControlWriter {
    mutating func handshake(_ options: HandshakeOptions?) {
        guard let options else {
            integer(UInt32(0))
            return
        }
        var flags: UInt8 = 1
        if options.windowScale != nil { flags |= 2 }
        if options.sackPermitted { flags |= 4 }
        if options.timestamps { flags |= 8 }
        integer(flags)
        integer(options.windowScale ?? 0)
        integer(options.mss)
    }
}

extension ControlReader {
    mutating func handshake(_ field: String) throws(ControlDecodingError) -> HandshakeOptions? {
        let flags: UInt8 = try integer(field)
        let scale: UInt8 = try integer(field)
        let mss: UInt16 = try integer(field)
        guard flags < 16, flags & 1 == 1 || flags == 0 else { throw failure(field, .unknownValue(UInt64(flags))) }
        // RFC 7323 2.3: a shift count is at most 14.
        guard scale <= 14 else { throw failure(field, .tooLong(UInt64(scale))) }
        guard flags & 1 == 1 else { return nil }
        return HandshakeOptions(
            mss: mss,
            windowScale: flags & 2 == 2 ? scale : nil,
            sackPermitted: flags & 4 == 4,
            timestamps: flags & 8 == 8
        )
    }
}
