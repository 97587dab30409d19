import Model

/// What a primary tells its backups of one SYN-ACK that it has sent: its own initial sequence number, which the client
/// repeats only as long as nothing was said.
public struct SynAckNotice: Hashable, Sendable {
    public var client: Endpoint
    public var service: ServiceID
    /// The SYN-ACK's SEQ (RFC 9293 3.5).
    public var iss: SequenceNumber
    /// Its ACK: the client's initial sequence number + 1, or further where data of the SYN was taken (RFC 7413 4.2).
    public var acknowledged: SequenceNumber

    public init(client: Endpoint, service: ServiceID, iss: SequenceNumber, acknowledged: SequenceNumber) {
        self.client = client
        self.service = service
        self.iss = iss
        self.acknowledged = acknowledged
    }

    /// Notices of 28 bytes in one datagram, with room for its head and HMAC.
    public static let limit = 40

    /// Cuts notices into lists of which each fits one datagram.
    public static func batches(_ notices: [SynAckNotice]) -> [ArraySlice<SynAckNotice>] {
        stride(from: 0, to: notices.count, by: limit).map { notices[$0..<min($0 + limit, notices.count)] }
    }
}

extension SynAckNotice {
    func write(to writer: inout ControlWriter) {
        writer.endpoint(client)
        writer.integer(service.rawValue)
        writer.integer(iss.rawValue)
        writer.integer(acknowledged.rawValue)
    }

    init(from reader: inout ControlReader) throws(ControlDecodingError) {
        client = try reader.endpoint("synAcks.client")
        service = ServiceID(rawValue: try reader.integer("synAcks.service"))
        iss = SequenceNumber(try reader.integer("synAcks.iss"))
        acknowledged = SequenceNumber(try reader.integer("synAcks.acknowledged"))
    }
}
