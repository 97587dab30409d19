import Model
import Testing

@testable import Wire

@Suite("Control messages")
struct ControlCodecTests {
    @Test("A datagram reads back as it was written", arguments: Samples.datagrams)
    func datagramRoundTrip(_ datagram: Datagram) throws {
        let bytes = datagram.encode()
        #expect(bytes.count + 32 <= Limits.datagramBytes)
        #expect(try Datagram(decoding: bytes) == datagram)
    }

    @Test("A stream message reads back as it was written", arguments: Samples.messages)
    func streamRoundTrip(_ message: StreamMessage) throws {
        var decoder = StreamMessageDecoder()
        decoder.append(message.encode())
        #expect(try decoder.next() == message)
        #expect(try decoder.next() == nil)
        #expect(decoder.pending == 0)
    }

    @Test("Every shorter datagram is refused, and every longer one")
    func datagramLengths() {
        for datagram in Samples.datagrams {
            let bytes = datagram.encode()
            for count in 0..<bytes.count {
                #expect(throws: ControlDecodingError.self) { try Datagram(decoding: bytes.prefix(count)) }
            }
            #expect(throws: ControlDecodingError(place: datagram.place, cause: .trailingBytes)) {
                try Datagram(decoding: bytes + [0])
            }
        }
    }

    @Test("Every shorter stream body is refused, and every longer one")
    func streamLengths() {
        for message in Samples.messages {
            let body = message.encode().dropFirst(4)
            for count in 0..<body.count {
                #expect(throws: ControlDecodingError.self) { try StreamMessage(decoding: body.prefix(count)) }
            }
            #expect(throws: ControlDecodingError.self) { try StreamMessage(decoding: body + [0]) }
        }
    }

    @Test("The layout of a heartbeat's header is fixed")
    func headerLayout() {
        let bytes = Samples.datagrams[0].encode()
        #expect(Array(bytes[0..<8]) == [0x42, 0x54, 0x4e, 0x48, 4, 1, 0xff, 0xff])
        #expect(Array(bytes[8..<16]) == [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef])
        #expect(Array(bytes[24..<32]) == [0, 0, 0, 0, 0, 0, 0, 42])
    }

    @Test("Frames may be cut anywhere")
    func pieces() throws {
        let bytes = Samples.messages.flatMap { $0.encode() }
        for piece in [1, 2, 3, 7, 64, bytes.count] {
            var decoder = StreamMessageDecoder()
            var messages: [StreamMessage] = []
            var rest = bytes[...]
            while !rest.isEmpty {
                decoder.append(rest.prefix(piece))
                rest = rest.dropFirst(piece)
                while let message = try decoder.next() { messages.append(message) }
            }
            #expect(messages == Samples.messages)
        }
    }

    @Test("A length of zero or beyond the bound ends the session", arguments: [0, 1 << 20, 0xffff_ffff] as [UInt32])
    func badLength(_ length: UInt32) {
        var decoder = StreamMessageDecoder()
        decoder.append((0..<4).map { UInt8(truncatingIfNeeded: length >> (24 - 8 * UInt32($0))) })
        #expect(throws: ControlDecodingError.self) { try decoder.next() }
        decoder.append(Samples.messages[0].encode())
        #expect(throws: ControlDecodingError.self) { try decoder.next() }
        #expect(decoder.pending == 0)
    }

    @Test("The largest ring table fits a frame")
    func largestTable() throws {
        let member = { (index: Int) in
            RingTable.Member(
                id: BackendID(rawValue: UInt16(index)), name: String(repeating: "x", count: 32),
                life: Life(rawValue: .max), slot: SlotID(rawValue: UInt16(index)), address: Samples.address,
                mac: MACAddress(rawValue: 1), present: true)
        }
        let entry = { (index: Int) in
            RingTable.SlotEntry(
                slot: SlotID(rawValue: UInt16(index)), primary: BackendID(rawValue: 0), owner: BackendID(rawValue: 1),
                backups: (0..<3).map { BackendID(rawValue: $0) }, state: .active)
        }
        let table = RingTable(
            epoch: Epoch(rawValue: 1), members: (0..<Limits.backends).map(member),
            slots: (0..<Limits.slots).map(entry))
        let bytes = StreamMessage.ring(table).encode()
        #expect(bytes.count <= Limits.controlMessageBytes)
        #expect(try StreamMessage(decoding: bytes.dropFirst(4)) == .ring(table))
    }

    @Test("Texts and lists beyond their bounds are cut when written, so that the peer can read them")
    func cutting() throws {
        var welcome = Welcome(
            backend: BackendID(rawValue: 0), slot: SlotID(rawValue: 0), directorLife: Life(rawValue: 0),
            heartbeatInterval: .milliseconds(1), window: .zero, lease: .zero, services: [])
        let service = ServiceDescription(
            id: ServiceID(rawValue: 0), name: String(repeating: "ä", count: 40), endpoint: Samples.endpoint,
            replay: .none)
        welcome.services = Array(repeating: service, count: 300)
        let refusal = Refusal(reason: .unexpected, text: "line\nline\u{7f}" + String(repeating: "x", count: 300))
        guard
            case .welcome(let read) = try StreamMessage(
                decoding: StreamMessage.welcome(welcome).encode().dropFirst(4)),
            case .refused(let readRefusal) = try StreamMessage(
                decoding: StreamMessage.refused(refusal).encode().dropFirst(4))
        else {
            Issue.record("another message")
            return
        }
        #expect(read.services.count == 256)
        #expect(read.services[0].name == String(repeating: "ä", count: 16))
        #expect(readRefusal.text.hasPrefix("line line x"))
        #expect(readRefusal.text.utf8.count == 255)
    }

    @Test("Required backups: the present backups of every slot of the owner, without itself")
    func requiredBackups() {
        var table = Samples.table
        #expect(table.requiredBackups(of: BackendID(rawValue: 1)).isEmpty)
        table.slots[0].backups = [BackendID(rawValue: 0), BackendID(rawValue: 1)]
        #expect(table.requiredBackups(of: BackendID(rawValue: 1)).map(\.name) == ["web1"])
        table.members[0].present = false
        #expect(table.requiredBackups(of: BackendID(rawValue: 1)).isEmpty)
    }
}

extension Datagram {
    /// The name of the body in errors.
    var place: String {
        switch body {
        case .heartbeat: "heartbeat"
        case .echo: "echo"
        case .fenceDemand: "fenceDemand"
        case .fenceAcknowledged: "fenceAcknowledged"
        case .replies: "replies"
        case .synAcks: "synAcks"
        }
    }
}
