import Model
import Testing

@testable import ControlPlane

@Suite struct DatagramSealTests {
    @Test func bodyComesBackAtEveryLength() throws {
        let seal = DatagramSeal(key: try testKey(), use: .datagrams)
        var random = TestRandom(seed: 1)
        for count in [1, 2, 31, 32, 33, 63, 64, 65, 500, DatagramSeal.bodyLimit] {
            let body = random.bytes(count)
            let datagram = try #require(seal.seal(body))
            #expect(datagram.count == count + 32)
            #expect(seal.open(datagram) == .body(body))
        }
    }

    /// Made by another implementation: Python's hmac and hashlib, HKDF by RFC 5869.
    @Test func tagIsTheStandardOne() throws {
        let seal = DatagramSeal(key: try testKey(), use: .datagrams)
        let datagram = try #require(seal.seal(Array("heartbeat".utf8)))
        let hex = datagram.suffix(32).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        #expect(hex == "781f62e13304bc63e33bee788b244ee143eab165dcf8067f49bd42c793fb1b82")
    }

    @Test func everyChangedBitIsRefused() throws {
        let seal = DatagramSeal(key: try testKey(), use: .datagrams)
        let datagram = try #require(seal.seal([1, 2, 3, 4, 5]))
        for bit in 0..<(datagram.count * 8) {
            var changed = datagram
            changed[bit / 8] ^= 1 << (bit % 8)
            #expect(seal.open(changed) == .refused(.datagramForged))
        }
    }

    @Test func lengthsOutOfBoundsAreRefused() throws {
        let seal = DatagramSeal(key: try testKey(), use: .datagrams)
        for count in 0...32 {
            #expect(seal.open([UInt8](repeating: 0, count: count)) == .refused(.datagramTooShort))
        }
        for count in [Limits.datagramBytes + 1, 2048, 65_507] {
            #expect(seal.open([UInt8](repeating: 0, count: count)) == .refused(.datagramTooLong))
        }
        #expect(seal.seal([]) == nil)
        #expect(seal.seal([UInt8](repeating: 0, count: DatagramSeal.bodyLimit + 1)) == nil)
    }

    @Test func truncatedDatagramIsRefused() throws {
        let seal = DatagramSeal(key: try testKey(), use: .datagrams)
        let datagram = try #require(seal.seal([UInt8](repeating: 7, count: 100)))
        for count in 33..<132 { #expect(seal.open(Array(datagram[..<count])) == .refused(.datagramForged)) }
    }

    @Test func anotherKeyOrAnotherUseIsRefused() throws {
        let datagram = try #require(DatagramSeal(key: try testKey(1), use: .datagrams).seal([9]))
        #expect(DatagramSeal(key: try testKey(2), use: .datagrams).open(datagram) == .refused(.datagramForged))
        let otherUse = DatagramSeal(key: try testKey(1), use: KeyUse(rawValue: "another"))
        #expect(otherUse.open(datagram) == .refused(.datagramForged))
    }

    @Test func randomBytesNeverOpen() throws {
        let seal = DatagramSeal(key: try testKey(), use: .datagrams)
        var random = TestRandom(seed: 2)
        for _ in 0..<20_000 {
            let datagram = random.bytes(Int(random.next() % 200))
            if case .body = seal.open(datagram) { Issue.record("random bytes passed") }
        }
    }
}
