import Model
import Testing

@testable import Wire

/// Random and mutated bytes: a decoder may refuse, but must neither trap nor read what it cannot write again.
@Suite("Hostile control messages")
struct ControlFuzzTests {
    @Test("Random bytes", arguments: 0..<8)
    func randomBytes(_ seed: Int) {
        var generator = TestGenerator(seed: UInt64(seed))
        for _ in 0..<4000 {
            var bytes = (0..<Int.random(in: 0..<200, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            check(bytes)
            // Past the magic and the kind, so that bodies are reached as well.
            bytes.replaceSubrange(
                0..<min(6, bytes.count),
                with: [0x42, 0x54, 0x4e, 0x48, 2, UInt8.random(in: 0...6, using: &generator)])
            check(bytes)
            if !bytes.isEmpty { bytes[0] = UInt8.random(in: 0...10, using: &generator) }
            check(bytes)
        }
    }

    @Test("Mutated messages", arguments: 0..<8)
    func mutatedMessages(_ seed: Int) {
        var generator = TestGenerator(seed: UInt64(seed) << 32)
        let originals = Samples.datagrams.map { $0.encode() } + Samples.messages.map { Array($0.encode().dropFirst(4)) }
        for _ in 0..<4000 {
            var bytes = originals[Int.random(in: 0..<originals.count, using: &generator)]
            for _ in 0..<Int.random(in: 1...4, using: &generator) { mutate(&bytes, &generator) }
            check(bytes)
        }
    }

    @Test("Mutated streams", arguments: 0..<8)
    func mutatedStreams(_ seed: Int) {
        var generator = TestGenerator(seed: UInt64(seed) << 40)
        for _ in 0..<400 {
            var bytes = Samples.messages.flatMap { $0.encode() }
            for _ in 0..<Int.random(in: 1...4, using: &generator) { mutate(&bytes, &generator) }
            var decoder = StreamMessageDecoder()
            var count = 0
            while !bytes.isEmpty {
                let piece = Int.random(in: 1...64, using: &generator)
                decoder.append(bytes.prefix(piece))
                bytes.removeFirst(min(piece, bytes.count))
                while let message = try? decoder.next(), count < 1000 {
                    count += 1
                    #expect(message.encode().count <= Limits.controlMessageBytes)
                }
            }
            #expect(count < 1000)
        }
    }

    private func mutate(_ bytes: inout [UInt8], _ generator: inout TestGenerator) {
        guard !bytes.isEmpty else { return }
        let place = Int.random(in: 0..<bytes.count, using: &generator)
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 1: bytes[place] = [0, 1, 0x7f, 0x80, 0xff][Int.random(in: 0..<5, using: &generator)]
        case 2: bytes.remove(at: place)
        default: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: place)
        }
    }

    /// What decodes must encode to the same bytes: so nothing is read that the layout does not say.
    private func check(_ bytes: [UInt8]) {
        if let datagram = try? Datagram(decoding: bytes) {
            // A handshake that says "unknown" may carry other bits; its own encoding must be stable.
            #expect((try? Datagram(decoding: datagram.encode())) == datagram)
        }
        if let message = try? StreamMessage(decoding: bytes) {
            #expect((try? StreamMessage(decoding: message.encode().dropFirst(4))) == message)
        }
    }
}
