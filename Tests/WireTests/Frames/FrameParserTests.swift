import Model
import Testing
import Wire

struct FrameParserTests {
    @Test(arguments: [[], [0x8100], [0x88a8, 0x8100]] as [[UInt16]])
    func readsIPv4BehindTags(tags: [UInt16]) throws {
        let bytes = Sample.frame(Sample.packet(), tags: tags)
        let frame = try #require(Sample.parse(bytes).frame)
        #expect(frame.destination == Sample.group)
        #expect(frame.source == Sample.router)
        #expect(SlotID(group: frame.destination) == SlotID(rawValue: 7))
        #expect(frame.flow == FlowKey(client: Sample.client, service: Sample.service))
        #expect(frame.sequence == SequenceNumber(0xffff_fff0))
        #expect(frame.acknowledgment == SequenceNumber(77))
        #expect(frame.flags == [.ack, .psh])
        #expect(frame.window == 501)
        #expect(frame.timestamps == TCPTimestamps(value: 100, echo: 200))
        #expect(Array(bytes[frame.payload]) == Array("GET / HTTP/1.1\r\n\r\n".utf8))
        #expect(!frame.isCutShort)
        #expect(frame.end == SequenceNumber(2))
    }

    @Test func readsIPv6() throws {
        let bytes = Sample.frame(Sample.packet(ipv6: true, payload: [1, 2, 3]))
        let frame = try #require(Sample.parse(bytes).frame)
        #expect(frame.flow == FlowKey(client: Sample.client6, service: Sample.service6))
        #expect(Array(bytes[frame.payload]) == [1, 2, 3])
    }

    @Test func readsABarePacket() throws {
        for ipv6 in [false, true] {
            let bytes = Sample.packet(ipv6: ipv6)
            let frame = try #require(bytes.withUnsafeBytes { FrameParser.parse(packet: $0) }.frame)
            #expect(frame.destination == MACAddress(rawValue: 0))
            #expect(frame.payloadLength == 18)
        }
    }

    @Test func leavesEthernetPaddingOut() throws {
        let bytes = Sample.frame(Sample.packet(timestamps: nil, payload: [9]), padding: 5)
        let frame = try #require(Sample.parse(bytes).frame)
        #expect(Array(bytes[frame.payload]) == [9])
        #expect(frame.payloadLength == 1)
    }

    @Test func saysWhenTheCaptureIsCut() throws {
        let whole = Sample.frame(Sample.packet(payload: Array(repeating: 7, count: 1000)))
        let frame = try #require(Sample.parse(Array(whole.prefix(166)), wireLength: whole.count).frame)
        #expect(frame.isCutShort)
        #expect(frame.payload.count == 100)
        #expect(frame.payloadLength == 1000)
        #expect(frame.end == SequenceNumber(0xffff_fff0).advanced(by: 1000))
    }

    /// BIG TCP leaves the length at 0; the frame's length counts.
    @Test func readsSuperFrames() throws {
        var bytes = Sample.frame(Sample.packet(payload: Array(repeating: 7, count: 60_000)))
        #expect(Sample.parse(bytes).frame?.payloadLength == 60_000)
        bytes += Array(repeating: 7, count: 20_000)
        bytes[16] = 0
        bytes[17] = 0
        #expect(Sample.parse(bytes).frame?.payload.count == 80_000)
        var six = Sample.frame(Sample.packet(ipv6: true, payload: Array(repeating: 7, count: 60_000)))
        six += Array(repeating: 7, count: 20_000)
        six[18] = 0
        six[19] = 0
        #expect(Sample.parse(six).frame?.payload.count == 80_000)
    }

    /// A length of 0 in a frame that is not longer than 64 KiB is a lie: padding would become bytes of the client.
    @Test func aShortFrameNeedsItsLength() {
        var bytes = Sample.frame(Sample.packet())
        bytes[16] = 0
        bytes[17] = 0
        #expect(Sample.parse(bytes) == .rejected(.malformed))
        var six = Sample.frame(Sample.packet(ipv6: true))
        six[18] = 0
        six[19] = 0
        #expect(Sample.parse(six) == .rejected(.malformed))
    }

    /// Linux puts a jumbo payload option (RFC 2675) before the TCP header of an IPv6 segment beyond 64 KiB.
    @Test(arguments: [0, 1])
    func readsAJumbogram(fault: Int) {
        var bytes = Sample.frame(Sample.packet(ipv6: true, payload: Array(repeating: 7, count: 60_000)))
        bytes += Array(repeating: 7, count: 20_000)
        let length = UInt32(bytes.count - 14 - 40 + 8 + fault)
        bytes.replaceSubrange(18..<21, with: [0, 0, 0])
        bytes.insert(contentsOf: [6, 0, 0xc2, 4, 0, UInt8(length >> 16), UInt8(length >> 8 & 255), UInt8(length & 255)], at: 54)
        let parsing = Sample.parse(bytes)
        guard fault == 0 else {
            #expect(parsing == .rejected(.notTCP))
            return
        }
        #expect(parsing.frame?.payload.count == 80_000)
        #expect(parsing.frame?.flow == FlowKey(client: Sample.client6, service: Sample.service6))
        #expect(parsing.frame?.window == 501)
    }

    @Test func anMSSOfZeroSaysNothing() {
        let zero = HandshakeOptions(mss: 0, windowScale: 3)
        let bytes = Sample.frame(Sample.packet(flags: [.syn], timestamps: nil, handshake: zero, payload: []))
        #expect(Sample.parse(bytes).frame?.options == HandshakeOptions(mss: 536, windowScale: 3))
    }

    @Test func readsTheOptionsOfASYN() throws {
        let offered = HandshakeOptions(mss: 1460, windowScale: 10, sackPermitted: true, timestamps: true)
        let bytes = Sample.frame(Sample.packet(flags: [.syn], handshake: offered, payload: []))
        let frame = try #require(Sample.parse(bytes).frame)
        #expect(frame.options == offered)
        #expect(frame.end == SequenceNumber(0xffff_fff1))
        let bare = Sample.frame(Sample.packet(flags: [.syn], timestamps: nil, payload: []))
        #expect(Sample.parse(bare).frame?.options == HandshakeOptions(mss: 536))
        let bare6 = Sample.frame(Sample.packet(ipv6: true, flags: [.syn], timestamps: nil, payload: []))
        #expect(Sample.parse(bare6).frame?.options == HandshakeOptions(mss: 1220))
        let steep = HandshakeOptions(mss: 1460, windowScale: 200)
        let clamped = Sample.frame(Sample.packet(flags: [.syn], timestamps: nil, handshake: steep, payload: []))
        #expect(Sample.parse(clamped).frame?.options.windowScale == 14)
    }

    struct Fault: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var edit: @Sendable (inout [UInt8]) -> Void
        var rejection: FrameRejection
        var ipv6 = false
    }

    /// Places: Ethernet 0, IPv4 14, TCP 34; IPv6 14, TCP 54.
    static let faults: [Fault] = [
        Fault(testDescription: "empty", edit: { $0 = [] }, rejection: .malformed),
        Fault(
            testDescription: "ends in the Ethernet header",
            edit: { $0 = Array($0.prefix(13)) },
            rejection: .malformed
        ),
        Fault(testDescription: "ARP", edit: { $0[13] = 6 }, rejection: .notIP),
        Fault(
            testDescription: "three tags",
            edit: { $0 = Sample.frame(Sample.packet(), tags: [0x8100, 0x8100, 0x8100]) },
            rejection: .notIP
        ),
        Fault(
            testDescription: "ends in a tag",
            edit: { $0 = Array(Sample.frame([], tags: [0x8100], type: 0x0800).prefix(16)) },
            rejection: .malformed
        ),
        Fault(testDescription: "IPv6 header in an IPv4 frame", edit: { $0[14] = 0x65 }, rejection: .malformed),
        Fault(testDescription: "IP header shorter than 20", edit: { $0[14] = 0x44 }, rejection: .malformed),
        Fault(
            testDescription: "IP header longer than the packet",
            edit: {
                $0[17] = 30
                $0[14] = 0x4f
            },
            rejection: .malformed
        ),
        Fault(testDescription: "IP longer than the frame", edit: { $0[16] = 0xff }, rejection: .malformed),
        Fault(testDescription: "UDP", edit: { $0[23] = 17 }, rejection: .notTCP),
        Fault(testDescription: "first fragment", edit: { $0[20] = 0x20 }, rejection: .fragment),
        Fault(testDescription: "later fragment", edit: { $0[21] = 9 }, rejection: .fragment),
        Fault(testDescription: "no room for TCP", edit: { $0[17] = 39 }, rejection: .malformed),
        Fault(testDescription: "data offset below 5", edit: { $0[46] = 0x40 }, rejection: .malformed),
        Fault(
            testDescription: "data offset behind the end",
            edit: {
                $0[17] = 40
                $0[46] = 0xf0
            },
            rejection: .malformed
        ),
        Fault(
            testDescription: "capture ends in the options",
            edit: { $0 = Array($0.prefix(60)) },
            rejection: .malformed
        ),
        Fault(
            testDescription: "IPv6 longer than the frame",
            edit: { $0[18] = 0xff },
            rejection: .malformed,
            ipv6: true
        ),
        Fault(testDescription: "IPv6 fragment", edit: { $0[20] = 44 }, rejection: .fragment, ipv6: true),
        Fault(testDescription: "IPv6 hop-by-hop", edit: { $0[20] = 0 }, rejection: .notTCP, ipv6: true),
        Fault(
            testDescription: "IPv4-mapped source",
            edit: { $0.replaceSubrange(22..<34, with: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]) },
            rejection: .malformed,
            ipv6: true
        ),
    ]

    @Test(arguments: faults)
    func rejects(fault: Fault) {
        var bytes = Sample.frame(Sample.packet(ipv6: fault.ipv6))
        let length = bytes.count
        fault.edit(&bytes)
        #expect(Sample.parse(bytes, wireLength: max(length, bytes.count)) == .rejected(fault.rejection))
    }

    @Test func endsTheOptionsAtAMalformedOne() throws {
        // Timestamps, then an option of length 0 and one that runs over the end.
        var bytes = Sample.frame(Sample.packet(payload: []))
        bytes[54] = 8
        bytes[55] = 1
        #expect(try #require(Sample.parse(bytes).frame).timestamps == nil)
        bytes = Sample.frame(Sample.packet(payload: []))
        bytes[54] = 1
        bytes[56] = 8
        bytes[57] = 11
        #expect(try #require(Sample.parse(bytes).frame).timestamps == nil)
    }

    /// Nothing may trap or read outside; what parses must be consistent.
    @Test(arguments: 0..<8)
    func survivesRandomBytes(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        for round in 0..<3_000 {
            var bytes: [UInt8]
            if round % 4 == 0 {
                bytes = (0..<Int.random(in: 0...120, using: &random)).map { _ in
                    UInt8.random(in: 0...255, using: &random)
                }
            } else {
                let payload = [UInt8](repeating: 5, count: Int.random(in: 0...40, using: &random))
                bytes = Sample.frame(Sample.packet(ipv6: round % 2 == 0, payload: payload))
                for _ in 0..<Int.random(in: 1...6, using: &random) {
                    bytes[Int.random(in: 12..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
                }
                bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count + 10, using: &random)))
            }
            let wire = bytes.count + Int.random(in: -3...2000, using: &random)
            for parsing in [
                Sample.parse(bytes, wireLength: wire), bytes.withUnsafeBytes { FrameParser.parse(packet: $0) },
            ] {
                guard let frame = parsing.frame else { continue }
                #expect(frame.payload.lowerBound >= 0 && frame.payload.upperBound <= bytes.count)
                #expect(frame.payloadLength >= frame.payload.count)
            }
        }
    }
}
