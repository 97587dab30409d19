import HTTP
import Model

extension PeerMessage {
    /// Kind and body, for a channel that puts the length in front itself.
    public func encodeBody() -> [UInt8] {
        var writer = ControlWriter()
        writer.integer(kind)
        switch self {
        case .hello(let hello):
            writer.integer(hello.version)
            writer.integer(hello.sender.rawValue)
            writer.integer(hello.senderLife.rawValue)
            writer.integer(hello.receiverLife.rawValue)
        case .list(let request):
            writer.integer(request.slot.rawValue)
            writer.integer(request.serial)
            writer.integer(request.cursor)
            writer.interval(request.activeWithin)
        case .listed(let answer): answer.write(to: &writer)
        case .fetch(let request): request.write(to: &writer)
        case .copies(let answer): answer.write(to: &writer)
        case .refused(let refusal):
            writer.integer(refusal.slot.rawValue)
            writer.integer(refusal.serial)
            writer.integer(refusal.reason.rawValue)
        }
        return writer.bytes
    }

    /// Apart from the kinds of `StreamMessage`, so that neither side can take one for the other.
    private var kind: UInt8 {
        switch self {
        case .hello: 64
        case .list: 65
        case .listed: 66
        case .fetch: 67
        case .copies: 68
        case .refused: 69
        }
    }

    /// Reads kind and body, without the length.
    ///
    /// - Throws: `ControlDecodingError` for anything that `encodeBody` cannot have written.
    public init(decoding bytes: some Collection<UInt8>) throws(ControlDecodingError) {
        guard bytes.count <= Limits.controlMessageBytes else {
            throw ControlDecodingError(place: "peer", cause: .tooLong(UInt64(bytes.count)))
        }
        var reader = ControlReader(ArraySlice(bytes), message: "peer")
        let kind: UInt8 = try reader.integer("kind")
        switch kind {
        case 64: self = .hello(try PeerHello(from: &reader))
        case 65: self = .list(try ListRequest(from: &reader))
        case 66: self = .listed(try ListAnswer(from: &reader))
        case 67: self = .fetch(try FetchRequest(from: &reader))
        case 68: self = .copies(try CopyAnswer(from: &reader))
        case 69: self = .refused(try PeerRefusal(from: &reader))
        default: throw reader.failure("kind", .unknownValue(UInt64(kind)))
        }
        try reader.finish()
    }
}

// MARK: Parts

extension ControlWriter {
    fileprivate mutating func flow(_ flow: FlowKey) {
        endpoint(flow.client)
        endpoint(flow.service)
    }

    /// 0xff: protected.
    fileprivate mutating func cause(_ cause: ResetCause?) { integer(cause?.rawValue ?? 0xff) }

    fileprivate mutating func place(_ place: UInt64?) { integer(place ?? .max) }
}

extension ControlReader {
    /// No connection carries more in one direction; what is above is a lie, and sums of two stay without overflow.
    private static let farthest: UInt64 = 1 << 62

    fileprivate mutating func flow(_ field: String) throws(ControlDecodingError) -> FlowKey {
        FlowKey(client: try endpoint(field), service: try endpoint(field))
    }

    fileprivate mutating func cause(_ field: String) throws(ControlDecodingError) -> ResetCause? {
        let raw: UInt8 = try integer(field)
        if raw == 0xff { return nil }
        guard let cause = ResetCause(rawValue: raw) else { throw failure(field, .unknownValue(UInt64(raw))) }
        return cause
    }

    fileprivate mutating func place(_ field: String) throws(ControlDecodingError) -> UInt64 {
        let value: UInt64 = try integer(field)
        guard value <= Self.farthest else { throw failure(field, .tooLong(value)) }
        return value
    }

    fileprivate mutating func optionalPlace(_ field: String) throws(ControlDecodingError) -> UInt64? {
        let value: UInt64 = try integer(field)
        if value == .max { return nil }
        guard value <= Self.farthest else { throw failure(field, .tooLong(value)) }
        return value
    }

    fileprivate mutating func sequence(_ field: String) throws(ControlDecodingError) -> SequenceNumber {
        SequenceNumber(try integer(field))
    }

    fileprivate mutating func optionalSequence(_ field: String) throws(ControlDecodingError) -> SequenceNumber? {
        let isThere = try flag(field)
        let number = try sequence(field)
        return isThere ? number : nil
    }
}

extension PeerHello {
    fileprivate init(from reader: inout ControlReader) throws(ControlDecodingError) {
        reader.message = "hello"
        version = try reader.integer("version")
        guard version == ControlProtocol.version else {
            throw reader.failure("version", .unsupportedVersion(version))
        }
        sender = try reader.backend("sender")
        senderLife = Life(rawValue: try reader.integer("senderLife"))
        receiverLife = Life(rawValue: try reader.integer("receiverLife"))
    }
}

extension ListRequest {
    fileprivate init(from reader: inout ControlReader) throws(ControlDecodingError) {
        reader.message = "list"
        slot = try reader.slot("slot")
        serial = try reader.integer("serial")
        cursor = try reader.integer("cursor")
        activeWithin = try reader.optionalInterval("activeWithin", limit: PeerMessage.longestIdle)
    }
}

extension PeerMessage {
    /// Ages beyond a year are told as one.
    fileprivate static let longestIdle = Interval.seconds(31_536_000)

    fileprivate static func idle(_ interval: Interval) -> Interval { min(max(interval, .zero), longestIdle) }
}

extension ListAnswer {
    fileprivate func write(to writer: inout ControlWriter) {
        writer.integer(slot.rawValue)
        writer.integer(serial)
        writer.integer(next ?? .max)
        writer.list(connections, limit: PeerLimits.summaries) { writer, summary in
            writer.flow(summary.flow)
            writer.integer(summary.irs.rawValue)
            writer.flag(summary.certainISS != nil)
            writer.integer(summary.certainISS?.rawValue ?? 0)
            writer.integer(summary.journalLength)
            writer.interval(PeerMessage.idle(summary.idle))
            writer.flag(summary.hasFIN)
            writer.cause(summary.unprotected)
        }
        writer.list(handshakes, limit: Limits.services) { writer, handshake in
            writer.endpoint(handshake.service)
            writer.handshake(handshake.options)
        }
    }

    fileprivate init(from reader: inout ControlReader) throws(ControlDecodingError) {
        reader.message = "listed"
        slot = try reader.slot("slot")
        serial = try reader.integer("serial")
        let raw: UInt32 = try reader.integer("next")
        next = raw == .max ? nil : raw
        connections = try reader.list("connections", limit: PeerLimits.summaries) {
            (reader: inout ControlReader) throws(ControlDecodingError) in
            ConnectionSummary(
                flow: try reader.flow("connections.flow"),
                irs: try reader.sequence("connections.irs"),
                certainISS: try reader.optionalSequence("connections.iss"),
                journalLength: try reader.place("connections.journalLength"),
                idle: try reader.interval("connections.idle", limit: PeerMessage.longestIdle),
                hasFIN: try reader.flag("connections.hasFIN"),
                unprotected: try reader.cause("connections.unprotected")
            )
        }
        handshakes = try reader.list("handshakes", limit: Limits.services) {
            (reader: inout ControlReader) throws(ControlDecodingError) in
            let service = try reader.endpoint("handshakes.service")
            guard let options = try reader.handshake("handshakes.options") else {
                throw reader.failure("handshakes.options", .unknownValue(0))
            }
            return ServiceHandshake(service: service, options: options)
        }
    }
}

extension FetchRequest {
    fileprivate func write(to writer: inout ControlWriter) {
        writer.integer(slot.rawValue)
        writer.integer(serial)
        writer.list(wants, limit: PeerLimits.wants) { writer, want in
            writer.flow(want.flow)
            writer.integer(want.irs.rawValue)
            writer.integer(want.from)
            writer.integer(want.upTo)
        }
    }

    fileprivate init(from reader: inout ControlReader) throws(ControlDecodingError) {
        reader.message = "fetch"
        slot = try reader.slot("slot")
        serial = try reader.integer("serial")
        wants = try reader.list("wants", limit: PeerLimits.wants) {
            (reader: inout ControlReader) throws(ControlDecodingError) in
            Want(
                flow: try reader.flow("wants.flow"),
                irs: try reader.sequence("wants.irs"),
                from: try reader.place("wants.from"),
                upTo: try reader.place("wants.upTo")
            )
        }
    }
}

extension CopyAnswer {
    fileprivate func write(to writer: inout ControlWriter) {
        writer.integer(slot.rawValue)
        writer.integer(serial)
        writer.list(copies, limit: PeerLimits.wants) { writer, copy in copy.write(to: &writer) }
        writer.list(unknown, limit: PeerLimits.wants) { writer, flow in writer.flow(flow) }
    }

    fileprivate init(from reader: inout ControlReader) throws(ControlDecodingError) {
        reader.message = "copies"
        slot = try reader.slot("slot")
        serial = try reader.integer("serial")
        copies = try reader.list("copies", limit: PeerLimits.wants) {
            (reader: inout ControlReader) throws(ControlDecodingError) in
            try ConnectionCopy(from: &reader)
        }
        unknown = try reader.list("unknown", limit: PeerLimits.wants) {
            (reader: inout ControlReader) throws(ControlDecodingError) in
            try reader.flow("unknown")
        }
    }
}

extension ConnectionCopy {
    fileprivate func write(to writer: inout ControlWriter) {
        writer.flow(flow)
        writer.integer(slot.rawValue)
        writer.integer(irs.rawValue)
        writer.flag(iss != nil)
        writer.integer(iss?.rawValue ?? 0)
        writer.flag(isISSCertain)
        writer.handshake(client)
        writer.integer(sndUna)
        writer.integer(rightEdge)
        writer.flag(timestamps != nil)
        writer.integer(timestamps?.value ?? 0)
        writer.integer(timestamps?.echo ?? 0)
        writer.place(finOffset)
        writer.integer(clientSent)
        writer.cause(unprotected)
        writer.interval(PeerMessage.idle(idle))
        writer.integer(journalStart)
        writer.integer(replyStart)
        writer.flag(conversation != nil)
        conversation?.write(to: &writer)
        writer.integer(journalLength)
        writer.integer(offset)
        let kept = bytes.prefix(PeerLimits.bytes)
        writer.integer(UInt32(truncatingIfNeeded: kept.count))
        writer.raw(kept)
    }

    fileprivate init(from reader: inout ControlReader) throws(ControlDecodingError) {
        let flow = try reader.flow("copies.flow")
        let slot = try reader.slot("copies.slot")
        let irs = try reader.sequence("copies.irs")
        let iss = try reader.optionalSequence("copies.iss")
        let isISSCertain = try reader.flag("copies.isISSCertain")
        guard let client = try reader.handshake("copies.client") else {
            throw reader.failure("copies.client", .unknownValue(0))
        }
        let sndUna = try reader.place("copies.sndUna")
        let rightEdge = try reader.place("copies.rightEdge")
        let hasTimestamps = try reader.flag("copies.hasTimestamps")
        let value: UInt32 = try reader.integer("copies.timestamps")
        let echo: UInt32 = try reader.integer("copies.timestamps")
        self.init(
            flow: flow,
            slot: slot,
            irs: irs,
            iss: iss,
            isISSCertain: isISSCertain,
            client: client,
            sndUna: sndUna,
            rightEdge: rightEdge,
            timestamps: hasTimestamps ? TCPTimestamps(value: value, echo: echo) : nil,
            finOffset: try reader.optionalPlace("copies.finOffset"),
            clientSent: try reader.place("copies.clientSent"),
            unprotected: try reader.cause("copies.unprotected"),
            idle: try reader.interval("copies.idle", limit: PeerMessage.longestIdle),
            journalStart: try reader.place("copies.journalStart"),
            replyStart: try reader.place("copies.replyStart"),
            conversation: try reader.flag("copies.hasConversation") ? try ConversationCopy(from: &reader) : nil,
            journalLength: try reader.place("copies.journalLength"),
            offset: try reader.place("copies.offset"),
            bytes: try reader.bytes("copies.bytes", limit: PeerLimits.bytes)
        )
    }
}

extension ConversationCopy {
    fileprivate func write(to writer: inout ControlWriter) {
        writer.flag(pipelines)
        writer.list(reports, limit: Self.reportLimit) { writer, report in
            writer.integer(report.place)
            report.facts.write(to: &writer)
        }
    }

    fileprivate init(from reader: inout ControlReader) throws(ControlDecodingError) {
        self.init(
            pipelines: try reader.flag("copies.pipelines"),
            reports: try reader.list("copies.reports", limit: Self.reportLimit) {
                (reader: inout ControlReader) throws(ControlDecodingError) in
                ReplyReport(place: try reader.place("copies.reports.place"), facts: try ReplyFacts(from: &reader))
            }
        )
    }
}

extension PeerRefusal {
    fileprivate init(from reader: inout ControlReader) throws(ControlDecodingError) {
        reader.message = "refused"
        slot = try reader.slot("slot")
        serial = try reader.integer("serial")
        reason = try reader.value("reason", Reason.init)
    }
}

extension ControlReader {
    /// Bytes with a 32-bit count of at most `limit`.
    fileprivate mutating func bytes(_ field: String, limit: Int) throws(ControlDecodingError) -> [UInt8] {
        let count: UInt32 = try integer(field)
        guard Int(count) <= limit else { throw failure(field, .tooLong(UInt64(count))) }
        return Array(try take(Int(count), field))
    }
}

// MARK: The report to the director

/// Carried in `StreamMessage.protection`.
enum ProtectionCodec {
    static func write(_ slots: [SlotProtection], to writer: inout ControlWriter) {
        writer.list(slots, limit: PeerLimits.slots) { writer, slot in
            writer.integer(slot.slot.rawValue)
            writer.integer(slot.phase.rawValue)
            writer.integer(slot.connections)
            writer.integer(slot.protected)
            writer.integer(slot.missing)
            writer.interval(slot.timeToProtection.map(PeerMessage.idle))
        }
    }

    static func read(from reader: inout ControlReader) throws(ControlDecodingError) -> [SlotProtection] {
        reader.message = "protection"
        return try reader.list("slots", limit: PeerLimits.slots) {
            (reader: inout ControlReader) throws(ControlDecodingError) in
            SlotProtection(
                slot: try reader.slot("slots.slot"),
                phase: try reader.value("slots.phase", SlotProtection.Phase.init),
                connections: try reader.integer("slots.connections"),
                protected: try reader.integer("slots.protected"),
                missing: try reader.integer("slots.missing"),
                timeToProtection: try reader.optionalInterval("slots.time", limit: PeerMessage.longestIdle)
            )
        }
    }
}
