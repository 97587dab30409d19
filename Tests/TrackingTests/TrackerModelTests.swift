import Model
import Testing
import Tracking
import Wire

/// Random clients against a reference that keeps every byte in an array of its own.
struct TrackerModelTests {
    /// What a tracker must know of one connection, kept in the simplest way.
    private struct Reference {
        var bytes: [UInt8?] = []
        /// Contiguous bytes.
        var length = 0
        var isEstablished = false
        var isConflicting = false
        var sndUna = 0
        var sent = 0
        var fin: Int?

        mutating func put(_ payload: [UInt8], at start: Int) {
            if payload.count == 1, start + 1 <= length { return }
            while bytes.count < start + payload.count { bytes.append(nil) }
            for (index, byte) in payload.enumerated() {
                let place = start + index
                if let known = bytes[place] {
                    if known != byte { isConflicting = true }
                } else {
                    bytes[place] = byte
                }
            }
            while length < bytes.count, bytes[length] != nil { length += 1 }
            sent = max(sent, start + payload.count)
        }
    }

    @Test(arguments: 0..<24)
    func agreesWithTheReference(seed: Int) throws {
        var random = SeededGenerator(seed: UInt64(seed))
        let fixture = TrackingFixture(irs: UInt32.random(in: 0...UInt32.max, using: &random)) {
            $0.gapsPerConnection = 1000
        }
        var references: [UInt16: Reference] = [:]
        for round in 0..<300 {
            let port = UInt16.random(in: 1...4, using: &random)
            step(fixture, port, &references[port], &random)
            try compare(fixture, port, references[port], bytesToo: round % 25 == 24)
        }
    }

    private func step(
        _ fixture: TrackingFixture,
        _ port: UInt16,
        _ reference: inout Reference?,
        _ random: inout SeededGenerator
    ) {
        guard var known = reference else {
            fixture.send([.syn], port: port)
            reference = Reference()
            return
        }
        var isOver = false
        defer { reference = isOver ? nil : known }
        if !known.isEstablished {
            known.isEstablished = true
            fixture.send([.ack], port: port)
            return
        }
        known.sndUna += Int.random(in: 0...3, using: &random) * Int.random(in: 0...5000, using: &random)
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<2:
            let next = known.isConflicting ? max(known.sent, known.length) : known.length
            fixture.send([.rst], at: next + (known.fin == next ? 1 : 0), port: port)
            isOver = true
        case 2..<4 where known.fin == nil:
            let end = known.bytes.count
            known.fin = end
            known.sent = end
            fixture.send([.ack, .fin], at: end, ack: known.sndUna, port: port)
        case 4..<6:
            fixture.send([.ack], at: known.length - 1, ack: known.sndUna, [0xaa], port: port)
        case _:
            var length = Int.random(in: 0...1, using: &random) * Int.random(in: 1...3000, using: &random)
            let start = max(0, known.length + Int.random(in: -2000...4000, using: &random))
            if let fin = known.fin { length = min(length, fin - start) }
            guard length > 0 else {
                fixture.send([.ack], at: known.length, ack: known.sndUna, port: port)
                return
            }
            var payload = pattern(start..<start + length)
            if Int.random(in: 0..<300, using: &random) == 0 { payload[length / 2] ^= 0x80 }
            known.put(payload, at: start)
            fixture.send([.ack], at: start, ack: known.sndUna, payload, port: port)
        }
    }

    private func compare(_ fixture: TrackingFixture, _ port: UInt16, _ reference: Reference?, bytesToo: Bool) throws {
        guard let reference else {
            #expect(fixture.handle(port) == nil)
            return
        }
        let connection = try fixture.connection(port)
        #expect(connection.sndUna == UInt64(reference.sndUna))
        #expect((connection.unprotected == .conflictingBytes) == reference.isConflicting)
        guard connection.unprotected == nil else { return }
        #expect(connection.journalLength == UInt64(reference.length))
        #expect(connection.clientSent == UInt64(max(reference.sent, reference.length)))
        #expect(connection.finOffset == reference.fin.map { UInt64($0) })
        if bytesToo { #expect(fixture.journal(port) == reference.bytes.prefix(reference.length).map { $0 ?? 0 }) }
    }

    /// The table under load: many flows come and go, each is found as long as it is there.
    @Test func flowsComeAndGo() {
        var random = SeededGenerator(seed: 5)
        let fixture = TrackingFixture { $0.connections = 300 }
        var present: Set<UInt16> = []
        for round in 0..<3000 {
            let port = UInt16.random(in: 1...400, using: &random)
            if present.contains(port), Bool.random(using: &random) {
                if let handle = fixture.handle(port) { fixture.tracker.remove(handle) }
                present.remove(port)
            } else if present.count < 300 || present.contains(port) {
                let flow = TrackingFixture.flow(port)
                let packet = TCPPacket(
                    from: flow.client,
                    to: flow.service,
                    sequence: SequenceNumber(1),
                    acknowledgment: SequenceNumber(0),
                    flags: [.syn],
                    window: 1
                ).encode()
                packet.withUnsafeBytes { raw in
                    guard let frame = FrameParser.parse(packet: raw).frame else { return }
                    fixture.tracker.handle(frame, in: raw, slot: TrackingFixture.slot, now: fixture.now)
                }
                present.insert(port)
            }
            if round % 500 == 0 { fixture.tracker.checkInvariants() }
        }
        for port in 1...400 { #expect((fixture.handle(UInt16(port)) != nil) == present.contains(UInt16(port))) }
    }
}
