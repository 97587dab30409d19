import Model

extension StreamMessage {
    /// The frame: length, kind, body.
    ///
    /// A message that no peer would take (more than `Limits.controlMessageBytes`) cannot arise: every list is cut at
    /// the bound of its table.
    public func encode() -> [UInt8] {
        let body = encodeBody()
        var frame = ControlWriter()
        frame.integer(UInt32(truncatingIfNeeded: body.count))
        return frame.bytes + body
    }

    /// Kind and body, for a channel that puts the length in front itself.
    public func encodeBody() -> [UInt8] {
        var body = ControlWriter()
        body.integer(kind)
        switch self {
        case .join(let join): join.write(to: &body)
        case .ringAcknowledged(let epoch): body.integer(epoch.rawValue)
        case .takeOverReport(let report): report.write(to: &body)
        case .sign(let sign):
            body.integer(sign.service.rawValue)
            body.integer(sign.kind.rawValue)
        case .welcome(let welcome): welcome.write(to: &body)
        case .refused(let refusal):
            body.integer(refusal.reason.rawValue)
            body.text(refusal.text, limit: 255)
        case .ring(let table): table.write(to: &body)
        case .takeOver(let order): order.write(to: &body)
        case .fence(let fence), .yield(let fence): fence.write(to: &body)
        case .protection(let slots): ProtectionCodec.write(slots, to: &body)
        case .resetFlows(let flows): FlowReset.write(flows, to: &body)
        }
        return body.bytes
    }

    private var kind: UInt8 {
        switch self {
        case .join: 1
        case .ringAcknowledged: 2
        case .takeOverReport: 3
        case .sign: 4
        case .welcome: 5
        case .refused: 6
        case .ring: 7
        case .takeOver: 8
        case .fence: 9
        case .yield: 20
        case .protection: 32
        case .resetFlows: 40
        }
    }

    /// Reads kind and body, without the length.
    ///
    /// - Throws: `ControlDecodingError` for anything that `encode` cannot have written.
    public init(decoding bytes: some Collection<UInt8>) throws(ControlDecodingError) {
        var reader = ControlReader(ArraySlice(bytes), message: "stream")
        let kind: UInt8 = try reader.integer("kind")
        switch kind {
        case 1: self = .join(try Join(from: &reader))
        case 2:
            reader.message = "ringAcknowledged"
            self = .ringAcknowledged(Epoch(rawValue: try reader.integer("epoch")))
        case 3: self = .takeOverReport(try TakeOverReport(from: &reader))
        case 4: self = .sign(try Sign(from: &reader))
        case 5: self = .welcome(try Welcome(from: &reader))
        case 6:
            reader.message = "refused"
            let reason = try reader.value("reason", Refusal.Reason.init)
            self = .refused(Refusal(reason: reason, text: try reader.text("text", limit: 255, mayBeEmpty: true)))
        case 7: self = .ring(try RingTable(from: &reader))
        case 8: self = .takeOver(try TakeOverOrder(from: &reader))
        case 9:
            reader.message = "fence"
            self = .fence(try Fence(from: &reader))
        case 20:
            reader.message = "yield"
            self = .yield(try Fence(from: &reader))
        case 32: self = .protection(try ProtectionCodec.read(from: &reader))
        case 40: self = .resetFlows(try FlowReset.read(from: &reader))
        default: throw reader.failure("kind", .unknownValue(UInt64(kind)))
        }
        try reader.finish()
    }
}

/// Cuts the bytes of one TLS session into messages.
///
/// Holds at most one message and what came with it in the same read. After an error the session must be closed: the
/// place of the next frame is unknown.
public struct StreamMessageDecoder: Sendable {
    private var buffer: [UInt8] = []
    private var start = 0
    private var failed: ControlDecodingError?

    public init() {}

    /// Bytes received and not yet decoded.
    public var pending: Int { buffer.count - start }

    public mutating func append(_ bytes: some Collection<UInt8>) {
        // What a failed session still sends is not kept.
        guard failed == nil else { return }
        if start > 0 {
            buffer.removeFirst(start)
            start = 0
        }
        buffer += bytes
    }

    /// The next whole message; nil while there is none.
    ///
    /// - Throws: `ControlDecodingError`, and the same one at every later call.
    public mutating func next() throws(ControlDecodingError) -> StreamMessage? {
        if let failed { throw failed }
        do throws(ControlDecodingError) {
            return try decodeNext()
        } catch {
            failed = error
            buffer = []
            start = 0
            throw error
        }
    }

    private mutating func decodeNext() throws(ControlDecodingError) -> StreamMessage? {
        guard pending >= 4 else { return nil }
        let length = buffer[start..<start + 4].reduce(0) { $0 << 8 | Int($1) }
        guard length >= 1 else { throw ControlDecodingError(place: "stream.length", cause: .truncated) }
        guard length + 4 <= Limits.controlMessageBytes else {
            throw ControlDecodingError(place: "stream.length", cause: .tooLong(UInt64(length)))
        }
        guard pending >= 4 + length else { return nil }
        let body = buffer[start + 4..<start + 4 + length]
        start += 4 + length
        return try StreamMessage(decoding: body)
    }
}
