import HTTP
import Model

/// What a primary tells its backups of one reply: where it starts, and what its head says.
public struct ReplyNotice: Hashable, Sendable {
    public var client: Endpoint
    public var service: ServiceID
    /// Of the first byte of the head.
    public var sequence: SequenceNumber
    public var facts: ReplyFacts

    public init(client: Endpoint, service: ServiceID, sequence: SequenceNumber, facts: ReplyFacts) {
        self.client = client
        self.service = service
        self.sequence = sequence
        self.facts = facts
    }

    /// Notices in one datagram.
    static let limit = 32
    /// Room for notices in one datagram, its head and HMAC left out.
    static let datagramBytes = Limits.datagramBytes - 128

    /// Cuts notices into lists of which each fits one datagram.
    public static func batches(_ notices: [ReplyNotice]) -> [[ReplyNotice]] {
        var batches: [[ReplyNotice]] = []
        var bytes = datagramBytes
        for notice in notices {
            var writer = ControlWriter()
            notice.write(to: &writer)
            if bytes + writer.bytes.count > datagramBytes || (batches.last?.count ?? 0) >= limit {
                batches.append([])
                bytes = 0
            }
            bytes += writer.bytes.count
            batches[batches.count - 1].append(notice)
        }
        return batches
    }
}

/// Presence of the optional parts.
private enum Part {
    static let http10: UInt8 = 1
    static let closes: UInt8 = 2
    static let etag: UInt8 = 4
    static let weak: UInt8 = 8
    static let lastModified: UInt8 = 16
    static let contentEncoding: UInt8 = 32
    static let contentRange: UInt8 = 64
}

extension ReplyNotice {
    func write(to writer: inout ControlWriter) {
        writer.endpoint(client)
        writer.integer(service.rawValue)
        writer.integer(sequence.rawValue)
        facts.write(to: &writer)
    }

    init(from reader: inout ControlReader) throws(ControlDecodingError) {
        client = try reader.endpoint("replies.client")
        service = ServiceID(rawValue: try reader.integer("replies.service"))
        sequence = SequenceNumber(try reader.integer("replies.sequence"))
        facts = try ReplyFacts(from: &reader)
    }
}

extension ReplyFacts {
    /// A date, or the name of a coding.
    private static let textBytes = 40

    func write(to writer: inout ControlWriter) {
        writer.integer(status)
        writer.integer(headBytes)
        var parts: UInt8 = 0
        if version == .http10 { parts |= Part.http10 }
        if closes { parts |= Part.closes }
        if let etag { parts |= Part.etag | (etag.isWeak ? Part.weak : 0) }
        if lastModified != nil { parts |= Part.lastModified }
        if contentEncoding != nil { parts |= Part.contentEncoding }
        if contentRange != nil { parts |= Part.contentRange }
        writer.integer(parts)
        switch framing {
        case .length(let length):
            writer.integer(UInt8(0))
            writer.integer(length)
        case .chunked: writer.integer(UInt8(1))
        case .untilClose: writer.integer(UInt8(2))
        }
        if let etag { writer.short(etag.value, limit: EntityTag.byteLimit) }
        if let lastModified { writer.short(lastModified, limit: Self.textBytes) }
        if let contentEncoding { writer.short(contentEncoding, limit: Self.textBytes) }
        if let range = contentRange {
            for number in [range.first, range.last, range.total] { writer.integer(number) }
        }
    }

    init(from reader: inout ControlReader) throws(ControlDecodingError) {
        let status: UInt16 = try reader.integer("replies.status")
        guard (100..<600).contains(status) else { throw reader.failure("replies.status", .unknownValue(UInt64(status))) }
        let headBytes: UInt32 = try reader.integer("replies.headBytes")
        guard headBytes <= ReplyHead.byteLimit else {
            throw reader.failure("replies.headBytes", .tooLong(UInt64(headBytes)))
        }
        let parts: UInt8 = try reader.integer("replies.parts")
        guard parts < 128, parts & Part.weak == 0 || parts & Part.etag != 0 else {
            throw reader.failure("replies.parts", .unknownValue(UInt64(parts)))
        }
        let framing: ReplyFacts.Framing
        let kind: UInt8 = try reader.integer("replies.framing")
        switch kind {
        case 0: framing = .length(try reader.integer("replies.length"))
        case 1: framing = .chunked
        case 2: framing = .untilClose
        default: throw reader.failure("replies.framing", .unknownValue(UInt64(kind)))
        }
        self.init(
            status: status,
            headBytes: headBytes,
            version: parts & Part.http10 != 0 ? .http10 : .http11,
            framing: framing,
            closes: parts & Part.closes != 0
        )
        if parts & Part.etag != 0 {
            let value = try reader.short("replies.etag", limit: EntityTag.byteLimit)
            etag = EntityTag(isWeak: parts & Part.weak != 0, value: value)
        }
        if parts & Part.lastModified != 0 {
            lastModified = try reader.short("replies.lastModified", limit: Self.textBytes)
        }
        if parts & Part.contentEncoding != 0 {
            contentEncoding = try reader.short("replies.contentEncoding", limit: Self.textBytes)
        }
        if parts & Part.contentRange != 0 {
            let first: UInt64 = try reader.integer("replies.contentRange")
            let last: UInt64 = try reader.integer("replies.contentRange")
            let total: UInt64 = try reader.integer("replies.contentRange")
            guard first <= last, last < total else {
                throw reader.failure("replies.contentRange", .unknownValue(first))
            }
            contentRange = ContentRange(first: first, last: last, total: total)
        }
    }
}

extension ControlWriter {
    /// Up to 255 bytes behind their number.
    fileprivate mutating func short(_ text: [UInt8], limit: Int) {
        let text = text.prefix(limit)
        integer(UInt8(truncatingIfNeeded: text.count))
        for byte in text { integer(byte) }
    }
}

extension ControlReader {
    fileprivate mutating func short(_ field: String, limit: Int) throws(ControlDecodingError) -> [UInt8] {
        let count: UInt8 = try integer(field)
        guard Int(count) <= limit else { throw failure(field, .tooLong(UInt64(count))) }
        return Array(try take(Int(count), field))
    }
}
