import Model
import Testing
import Tracking
import Wire

struct TrackerTests {
    @Test func learnsBothInitialNumbers() throws {
        let fixture = TrackingFixture()
        fixture.send([.syn], handshake: HandshakeOptions(mss: 1400, windowScale: 5, sackPermitted: true))
        #expect(try fixture.connection().iss == nil)
        #expect(try fixture.connection().acknowledged == nil)
        fixture.send([.ack], window: 10)
        let connection = try fixture.connection()
        #expect(connection.irs == SequenceNumber(1000))
        #expect(connection.iss == SequenceNumber(5000))
        #expect(connection.client == HandshakeOptions(mss: 1400, windowScale: 5, sackPermitted: true))
        #expect(connection.rightEdge == 320)
        #expect(connection.clientNext == SequenceNumber(1001))
        #expect(connection.unprotected == nil)
    }

    /// 1 % of the handshakes lose their last ACK before the director; the request finishes them.
    @Test func requestFinishesTheHandshake() throws {
        let fixture = TrackingFixture()
        fixture.send([.syn])
        fixture.send([.ack, .psh], pattern(0..<100))
        #expect(try fixture.connection().iss == SequenceNumber(5000))
        #expect(fixture.journal() == pattern(0..<100))
    }

    @Test func aLaterFrameTellsNoISS() throws {
        let fixture = TrackingFixture()
        fixture.ownerTells = false
        fixture.send([.syn])
        fixture.send([.ack], at: 100, ack: 40, pattern(100..<200))
        #expect(try !fixture.connection().isProtected)
        // But the client can be reset: the highest ACK is known.
        #expect(try fixture.connection().acknowledged == SequenceNumber(5041))
        fixture.tell()
        #expect(try fixture.connection().iss == SequenceNumber(5000))
        #expect(try fixture.connection().sndUna == 40)
    }

    @Test func countsWithoutWrapping() throws {
        let fixture = TrackingFixture(irs: 0xffff_ff00, iss: 0xffff_fff0)
        fixture.connect()
        fixture.send([.ack], pattern(0..<200))
        fixture.send([.ack], at: 200, ack: 100, pattern(200..<400))
        var connection = try fixture.connection()
        #expect(connection.sndUna == 100)
        #expect(connection.acknowledged == SequenceNumber(0xffff_fff1 &+ 100))
        #expect(connection.clientNext == SequenceNumber(0xffff_ff01 &+ 400))
        #expect(fixture.journal() == pattern(0..<400))
        // A reply of more than 2^32 bytes, as the director's forwarding shows it.
        var ack = 100
        for _ in 0..<12 {
            ack += 1 << 29
            fixture.send([.ack], at: 400, ack: ack)
        }
        connection = try fixture.connection()
        #expect(connection.sndUna == UInt64(100 + 12 << 29))
        #expect(connection.unprotected == nil)
        // An old ACK changes nothing.
        fixture.send([.ack], at: 400, ack: ack - 1000)
        #expect(try fixture.connection().sndUna == UInt64(100 + 12 << 29))
    }

    @Test func followsWindowAndClocks() throws {
        let fixture = TrackingFixture()
        fixture.send([.syn], timestamps: TCPTimestamps(value: 10, echo: 0), handshake: HandshakeOptions(windowScale: 2))
        fixture.send([.ack], window: 100, timestamps: TCPTimestamps(value: 0xffff_fffe, echo: 0xffff_ff00))
        // The clock of the SYN is ahead of it by wrapping: the later one is 0xfffffffe only if 10 is not after it.
        #expect(try fixture.connection().timestamps?.value == 10)
        fixture.send([.ack], ack: 50, window: 0, timestamps: TCPTimestamps(value: 20, echo: 7))
        #expect(try fixture.connection().timestamps == TCPTimestamps(value: 20, echo: 7))
        #expect(try fixture.connection().rightEdge == 400)
        fixture.send([.ack], ack: 400, window: 0, timestamps: TCPTimestamps(value: 21, echo: 8))
        #expect(try fixture.connection().rightEdge == 400)
    }

    @Test func timestampsThatTheServerRefused() throws {
        let fixture = TrackingFixture()
        fixture.send([.syn], timestamps: TCPTimestamps(value: 10, echo: 0))
        fixture.send([.ack])
        #expect(try fixture.connection().timestamps == nil)
    }

    @Test func framesOfUnknownConnectionsMakeNothing() {
        let fixture = TrackingFixture()
        fixture.send([.ack], [1, 2, 3])
        fixture.send([.rst])
        fixture.send([.syn, .ack])
        #expect(fixture.tracker.count == 0)
        #expect(fixture.tracker.counters.unknown == 2)
        #expect(fixture.tracker.counters.unfitting == 1)
    }

    @Test func repeatedAndNewSYNs() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], [1, 2, 3])
        let first = try #require(fixture.handle())
        fixture.send([.syn], handshake: TrackingFixture.offered)
        #expect(fixture.handle() == first)
        #expect(fixture.journal() == [1, 2, 3])
        fixture.sendRaw([.syn], sequence: 77)
        #expect(fixture.handle() == first, "it may be a stray one")
        fixture.sendRaw([.ack], sequence: 78, acknowledgment: 901)
        #expect(fixture.handle() != first)
        #expect(try fixture.connection().irs == SequenceNumber(77))
        #expect(try fixture.connection().iss == SequenceNumber(900))
        #expect(fixture.tracker.counters.replaced == 1)
        // The old one is kept for a while, for the new one may be forged (HostileFrameTests).
        #expect(fixture.tracker[first] != nil)
    }

    // MARK: RST and FIN

    @Test(arguments: [(100, true), (99, false), (101, false), (-1, false), (5000, false)])
    func obeysTheRSTThatTheServerObeys(place: Int, ends: Bool) {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], pattern(0..<100))
        fixture.send([.rst], at: place)
        #expect((fixture.handle() == nil) == ends)
        #expect(fixture.tracker.journalBytesInUse == (ends ? 0 : 1024))
    }

    @Test func aRSTBehindMissingBytesEnds() {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], at: 50, pattern(50..<100))
        fixture.send([.rst], at: 100)
        #expect(fixture.handle() == nil)
    }

    @Test func finStandsBehindTheLastByte() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack, .fin], at: 50, pattern(50..<100))
        #expect(try fixture.connection().finOffset == 100)
        #expect(try !fixture.connection().isHalfClosed)
        #expect(try fixture.connection().clientNext == SequenceNumber(1001))
        fixture.send([.ack], pattern(0..<50))
        #expect(try fixture.connection().isHalfClosed)
        #expect(try fixture.connection().clientNext == SequenceNumber(1102))
        fixture.send([.ack, .fin], at: 100)
        fixture.send([.ack], at: 101, ack: 7)
        #expect(try fixture.connection().clientNext == SequenceNumber(1102))
        #expect(try fixture.connection().clientSent == 100)
        #expect(try fixture.connection().unprotected == nil)
        fixture.send([.rst], at: 101)
        #expect(fixture.handle() == nil)
    }

    @Test(arguments: [(true, 120, 0), (true, 60, 0), (false, 90, 20)])
    func bytesBehindTheFINConflict(isFIN: Bool, place: Int, bytes: Int) throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack, .fin], pattern(0..<100))
        fixture.send(isFIN ? [.ack, .fin] : [.ack], at: place, pattern(place..<place + bytes))
        #expect(try fixture.connection().unprotected == .conflictingBytes)
    }

    // MARK: Fast open

    @Test func dataOfTheSYNThatTheServerLeft() throws {
        let fixture = TrackingFixture()
        fixture.send([.syn], pattern(0..<30))
        fixture.send([.ack])
        fixture.send([.ack], pattern(0..<60))
        #expect(try fixture.connection().unprotected == nil)
        #expect(fixture.journal() == pattern(0..<60))
    }

    /// The server may have replied before this ACK; its SYN-ACK tells ISS, and that it has taken the data.
    @Test(arguments: [false, true])
    func dataOfTheSYNThatTheServerTook(isToldLate: Bool) throws {
        let fixture = TrackingFixture()
        fixture.ownerTells = false
        fixture.send([.syn], pattern(0..<30))
        if !isToldLate { fixture.tell(taken: 30) }
        fixture.send([.ack], at: 30, ack: 12)
        #expect(try fixture.connection().isProtected == !isToldLate)
        if isToldLate { fixture.tell(taken: 30) }
        let connection = try fixture.connection()
        #expect(connection.isProtected && connection.iss == SequenceNumber(5000) && connection.sndUna == 12)
        #expect(connection.acknowledged == SequenceNumber(5013))
        #expect(connection.clientNext == SequenceNumber(1031))
        #expect(fixture.journal() == pattern(0..<30))
    }

    // MARK: Time and bounds

    @Test func forgetsAfterSilence() {
        let cases: [(String, Interval, (TrackingFixture) -> Void)] = [
            ("unfinished", .seconds(10), { $0.send([.syn]) }),
            ("established", .seconds(3600), { $0.connect() }),
            (
                "closed", .seconds(60),
                {
                    $0.connect()
                    $0.send([.ack, .fin])
                }
            ),
        ]
        for (name, timeout, make) in cases {
            let fixture = TrackingFixture()
            make(fixture)
            fixture.tracker.expire(now: fixture.now + timeout)
            #expect(fixture.tracker.count == 1, "\(name) expires too early")
            fixture.tracker.expire(now: fixture.now + timeout + Interval(nanoseconds: 1))
            #expect(fixture.tracker.count == 0, "\(name) does not expire")
            fixture.tracker.checkInvariants()
        }
    }

    @Test func expiryLooksAtNoMoreThanItsLimit() {
        let fixture = TrackingFixture()
        for port in 1...50 { fixture.send([.syn], port: UInt16(port)) }
        let late = fixture.now + .seconds(60)
        fixture.tracker.expire(now: late, limit: 20)
        #expect(fixture.tracker.count == 30)
        fixture.tracker.expire(now: late, limit: 20)
        fixture.tracker.expire(now: late, limit: 20)
        #expect(fixture.tracker.count == 0)
    }

    @Test func aFloodOfSYNsCostsSYNs() throws {
        let fixture = TrackingFixture()
        for port in 1...32 { fixture.connect(port: UInt16(port)) }
        for port in 1000..<3000 { fixture.send([.syn], port: UInt16(port)) }
        #expect(fixture.tracker.count == 64)
        for port in 1...32 { #expect(try fixture.connection(UInt16(port)).iss != nil) }
        #expect(fixture.tracker.counters.evicted > 1900)
        #expect(fixture.tracker.counters.evicted + fixture.tracker.counters.tableFull == 2000 - 32)
    }

    @Test func aFullTableTakesNoMore() {
        let fixture = TrackingFixture()
        for port in 1...64 { fixture.connect(port: UInt16(port)) }
        fixture.send([.syn], port: 99)
        #expect(fixture.handle(99) == nil)
        #expect(fixture.tracker.counters.tableFull == 1)
    }

    // MARK: Slots

    @Test func slotsAreApart() throws {
        let fixture = TrackingFixture()
        let other = SlotID(rawValue: 9)
        for port in [5, 1, 3] as [UInt16] { fixture.connect(port: port) }
        fixture.connect(port: 2, slot: other)
        let flows = { (slot: SlotID) in
            fixture.tracker.connections(of: slot).compactMap { fixture.tracker[$0]?.flow.client.port }
        }
        #expect(flows(TrackingFixture.slot) == [5, 1, 3])
        #expect(flows(other) == [2])
        fixture.tracker.drop(slot: TrackingFixture.slot)
        fixture.tracker.checkInvariants()
        #expect(flows(TrackingFixture.slot) == [])
        #expect(flows(other) == [2])
        let handle = try #require(fixture.handle(2))
        fixture.tracker.remove(handle)
        fixture.tracker.remove(handle)
        #expect(fixture.tracker.count == 0)
    }

    @Test func aConnectionIsSmall() {
        print("a backup connection takes \(Tracker.bytesPerConnection) bytes, its journal apart")
        #expect(Tracker.bytesPerConnection <= 320)
    }
}
