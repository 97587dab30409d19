import Model
import Testing
import Wire

struct TCPPacketTests {
    /// An independent sum over the bytes (RFC 1071): right when it comes to all ones.
    private func sum(_ bytes: some Collection<UInt8>, _ initial: Int = 0) -> Int {
        var sum = initial
        for (index, byte) in bytes.enumerated() { sum += index % 2 == 0 ? Int(byte) << 8 : Int(byte) }
        while sum > 0xffff { sum = sum & 0xffff + sum >> 16 }
        return sum
    }

    private func isRight(_ packet: [UInt8]) -> Bool {
        if packet[0] >> 4 == 4 {
            return sum(packet[..<20]) == 0xffff
                && sum(packet[20...], sum(packet[12..<20], 6 + packet.count - 20)) == 0xffff
        }
        return sum(packet[40...], sum(packet[8..<40], 6 + packet.count - 40)) == 0xffff
    }

    @Test func checksumsAreRight() {
        var random = SeededGenerator(seed: 42)
        for length in [0, 1, 2, 3, 1459, 1460, 8191, 8192, 65_000] {
            for ipv6 in [false, true] {
                let payload = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
                #expect(isRight(Sample.packet(ipv6: ipv6, payload: payload)), "\(length) bytes, IPv6 \(ipv6)")
                #expect(isRight(Sample.packet(ipv6: ipv6, flags: [.rst], timestamps: nil, payload: payload)))
            }
        }
        let ones = [UInt8](repeating: 0xff, count: 65_000)
        #expect(isRight(Sample.packet(ipv6: true, payload: ones)))
    }

    /// Sums done by hand.
    @Test func knownBytes() {
        let packet = TCPPacket(
            from: Endpoint(address: IPAddress(ipv4: 0x7f00_0001), port: 1),
            to: Endpoint(address: IPAddress(ipv4: 0x7f00_0002), port: 2),
            sequence: SequenceNumber(3),
            acknowledgment: SequenceNumber(4),
            flags: [.ack],
            window: 5
        ).encode()
        #expect(packet.prefix(20) == [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0x3c, 0xcd, 127, 0, 0, 1, 127, 0, 0, 2])
        #expect(packet[20..<36] == [0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0x50, 0x10, 0, 5])
        // 7f00 + 1 + 7f00 + 2 + 6 + 14 + 1 + 2 + 3 + 4 + 5010 + 5 = 14e3c; folded 4e3d; inverted b1c2.
        #expect(packet[36..<40] == [0xb1, 0xc2, 0, 0])
    }

    @Test func roundTrips() throws {
        let offered = HandshakeOptions(mss: 1400, windowScale: 3, sackPermitted: true, timestamps: true)
        for ipv6 in [false, true] {
            let bytes = Sample.packet(ipv6: ipv6, flags: [.syn], handshake: offered, payload: [])
            let frame = try #require(bytes.withUnsafeBytes { FrameParser.parse(packet: $0) }.frame)
            #expect(frame.options == offered)
            #expect(frame.timestamps == TCPTimestamps(value: 100, echo: 200))
            #expect(bytes.count == (ipv6 ? 40 : 20) + 20 + 24)
        }
    }
}
