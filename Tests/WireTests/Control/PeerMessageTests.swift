import HTTP
import Model
import Testing

@testable import Wire

extension Samples {
    static let reports = (0..<UInt64(ConversationCopy.reportLimit)).map { number in
        ReplyReport(
            place: 1 << 40 + number,
            facts: ReplyFacts(
                status: 206, headBytes: 300, framing: .length(10),
                etag: EntityTag(isWeak: number == 1, value: Array("\"x\"".utf8)),
                contentRange: ContentRange(first: 0, last: 9, total: 1 << 30)))
    }
    static let flow = FlowKey(client: Endpoint(address: address, port: 65_535), service: endpoint)
    static let copy = ConnectionCopy(
        flow: flow, slot: SlotID(rawValue: 3), irs: SequenceNumber(.max), iss: SequenceNumber(0), isISSCertain: true,
        client: handshake, sndUna: 1 << 33, rightEdge: 1 << 34, timestamps: TCPTimestamps(value: .max, echo: 1), finOffset: 5,
        clientSent: 5, idle: .seconds(3600), journalStart: 1, replyStart: 9,
        conversation: ConversationCopy(pipelines: true, reports: reports), journalLength: 5, offset: 2, bytes: [1, 2, 3])

    static let peerMessages: [PeerMessage] = [
        .hello(
            PeerHello(sender: BackendID(rawValue: 2), senderLife: Life(rawValue: 5), receiverLife: Life(rawValue: .max))),
        .list(ListRequest(slot: SlotID(rawValue: 1), serial: .max, cursor: 4096, activeWithin: .seconds(3))),
        .list(ListRequest(slot: SlotID(rawValue: 1), serial: 0)),
        .listed(
            ListAnswer(
                slot: SlotID(rawValue: 1), serial: 3, next: 256,
                connections: [
                    ConnectionSummary(
                        flow: flow, irs: SequenceNumber(1), certainISS: SequenceNumber(0), journalLength: 1 << 40,
                        hasFIN: true),
                    ConnectionSummary(
                        flow: flow, irs: SequenceNumber(1), journalLength: 0, idle: .milliseconds(3),
                        unprotected: .conflictingBytes),
                ])),
        .listed(
            ListAnswer(
                slot: SlotID(rawValue: 1), serial: 3, next: nil, connections: [],
                handshakes: [
                    ServiceHandshake(
                        service: flow.service,
                        options: HandshakeOptions(mss: 8960, windowScale: 14, sackPermitted: true, timestamps: false))
                ])),
        .fetch(
            FetchRequest(
                slot: SlotID(rawValue: 1), serial: 4,
                wants: [FetchRequest.Want(flow: flow, irs: SequenceNumber(9), from: 3, upTo: 1 << 62)])),
        .copies(CopyAnswer(slot: SlotID(rawValue: 3), serial: 4, copies: [copy], unknown: [flow, flow])),
        .copies(
            CopyAnswer(
                slot: SlotID(rawValue: 3), serial: 4,
                copies: [
                    ConnectionCopy(
                        flow: flow, slot: SlotID(rawValue: 3), irs: SequenceNumber(1), iss: nil,
                        client: HandshakeOptions(), unprotected: .journalFull)
                ],
                unknown: [])),
        .refused(PeerRefusal(slot: SlotID(rawValue: 3), serial: 4, reason: .unknownPeer)),
    ]
}

@Suite("Messages between agents")
struct PeerMessageTests {
    @Test("Reads back as it was written", arguments: Samples.peerMessages)
    func roundTrip(_ message: PeerMessage) throws {
        #expect(try PeerMessage(decoding: message.encodeBody()) == message)
    }

    @Test("Every shorter body is refused, and every longer one", arguments: Samples.peerMessages)
    func lengths(_ message: PeerMessage) {
        let body = message.encodeBody()
        for count in 0..<body.count {
            #expect(throws: ControlDecodingError.self) { try PeerMessage(decoding: body.prefix(count)) }
        }
        #expect(throws: ControlDecodingError.self) { try PeerMessage(decoding: body + [0]) }
    }

    @Test("No message of one kind is read as one of the other")
    func kinds() {
        for message in Samples.peerMessages {
            #expect(throws: ControlDecodingError.self) { try StreamMessage(decoding: message.encodeBody()) }
        }
        for message in Samples.messages {
            #expect(throws: ControlDecodingError.self) { try PeerMessage(decoding: message.encodeBody()) }
        }
    }

    @Test("Places beyond 2^62 and pieces beyond the bound are refused")
    func bounds() {
        var copy = Samples.copy
        copy.sndUna = 1 << 62 + 1
        let far = PeerMessage.copies(CopyAnswer(slot: copy.slot, serial: 1, copies: [copy], unknown: []))
        #expect(throws: ControlDecodingError.self) { try PeerMessage(decoding: far.encodeBody()) }
    }

    @Test("The fullest answers fit a frame")
    func largest() throws {
        var copy = Samples.copy
        copy.bytes = []
        var copies = Array(repeating: copy, count: PeerLimits.wants)
        copies[0].bytes = Array(repeating: 7, count: PeerLimits.bytes)
        let answer = PeerMessage.copies(
            CopyAnswer(
                slot: copy.slot, serial: 1, copies: copies,
                unknown: Array(repeating: Samples.flow, count: PeerLimits.wants)))
        #expect(answer.encodeBody().count < Limits.controlMessageBytes)
        #expect(try PeerMessage(decoding: answer.encodeBody()) == answer)
    }

    @Test("Random and mutated bytes", arguments: 0..<8)
    func hostile(_ seed: Int) {
        var generator = TestGenerator(seed: UInt64(seed) << 16)
        let originals = Samples.peerMessages.map { $0.encodeBody() }
        for _ in 0..<4000 {
            var bytes = originals[Int.random(in: 0..<originals.count, using: &generator)]
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
                case 1 where bytes.count > 1: bytes.remove(at: place)
                case _: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: place)
                }
            }
            guard let message = try? PeerMessage(decoding: bytes) else { continue }
            #expect((try? PeerMessage(decoding: message.encodeBody())) == message)
        }
    }
}
