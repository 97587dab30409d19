import Model
import Testing
import Tracking
import Wire

struct JournalTests {
    struct Piece: Sendable {
        var at: Int
        var end: Int
        init(_ at: Int, _ end: Int) {
            self.at = at
            self.end = end
        }
    }

    struct Order: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var pieces: [Piece]
        var length: Int
        var waits = false
    }

    static let orders: [Order] = [
        Order(testDescription: "in order", pieces: [Piece(0, 10), Piece(10, 30)], length: 30),
        Order(testDescription: "again", pieces: [Piece(0, 10), Piece(0, 10), Piece(10, 20)], length: 20),
        Order(testDescription: "again and more", pieces: [Piece(0, 10), Piece(0, 25)], length: 25),
        Order(testDescription: "overlapping", pieces: [Piece(0, 10), Piece(5, 25)], length: 25),
        Order(testDescription: "swapped", pieces: [Piece(10, 20), Piece(0, 10)], length: 20),
        Order(testDescription: "a gap stays", pieces: [Piece(0, 10), Piece(11, 20)], length: 10, waits: true),
        Order(
            testDescription: "two gaps, filled from behind",
            pieces: [Piece(40, 50), Piece(20, 30), Piece(30, 40), Piece(10, 20), Piece(0, 10)],
            length: 50
        ),
        Order(testDescription: "one fills two gaps", pieces: [Piece(10, 20), Piece(30, 40), Piece(0, 35)], length: 40),
        Order(
            testDescription: "over several pieces",
            pieces: [Piece(10, 12), Piece(14, 16), Piece(18, 20), Piece(9, 30), Piece(0, 9)],
            length: 30
        ),
        Order(
            testDescription: "across chunks",
            pieces: [Piece(0, 1000), Piece(1000, 5000), Piece(900, 3000)],
            length: 5000
        ),
        Order(testDescription: "a gap of chunks", pieces: [Piece(8000, 9000), Piece(0, 8000)], length: 9000),
        Order(
            testDescription: "behind lists of lists",
            pieces: [Piece(400_000, 400_100), Piece(0, 65_000)],
            length: 65_000,
            waits: true
        ),
        Order(testDescription: "starts before IRS + 1", pieces: [Piece(-1, 0), Piece(0, 5)], length: 5),
    ]

    @Test(arguments: orders)
    func puts(order: Order) throws {
        let fixture = TrackingFixture(irs: 0xffff_fff0)
        fixture.connect()
        for piece in order.pieces { fixture.send([.ack], at: piece.at, pattern(piece.at..<piece.end)) }
        let connection = try fixture.connection()
        #expect(connection.unprotected == nil)
        #expect(connection.journalLength == UInt64(order.length))
        #expect(fixture.journal() == pattern(0..<order.length))
        #expect((connection.clientSent > connection.journalLength) == order.waits)
    }

    /// A copy that differs, wherever the first one is.
    @Test(arguments: [5, 15, 25])
    func conflictsEndTheProtection(at place: Int) throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], pattern(0..<10))
        fixture.send([.ack], at: 20, pattern(20..<30))
        var bytes = pattern(place - 5..<place + 5)
        bytes[5] ^= 1
        fixture.send([.ack], at: place - 5, bytes)
        let connection = try fixture.connection()
        // Bytes that nobody had sent before cannot differ from anything.
        #expect(connection.unprotected == (place == 15 ? nil : .conflictingBytes))
        guard place != 15 else { return }
        #expect(fixture.tracker.journalBytesInUse == 0)
        #expect(fixture.journal() == [])
        #expect(fixture.tracker.counters.unprotected == 1)
    }

    @Test func keepalivesDoNotConflict() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], at: -1, [0])
        fixture.send([.ack], pattern(0..<10))
        fixture.send([.ack], at: 9, [0xee])
        fixture.send([.ack], at: 9)
        #expect(try fixture.connection().unprotected == nil)
        #expect(fixture.journal() == pattern(0..<10))
    }

    @Test func aCutCaptureIsAHole() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], pattern(0..<100))
        fixture.send([.ack], at: 50, pattern(50..<100), captured: 20)
        #expect(try fixture.connection().unprotected == nil, "nothing of it was new")
        fixture.send([.ack], at: 100, pattern(100..<200), captured: 20)
        let connection = try fixture.connection()
        #expect(connection.unprotected == .journalHole)
        #expect(connection.clientNext == SequenceNumber(1201))
    }

    @Test func aJournalIsBounded() throws {
        let fixture = TrackingFixture { $0.journalBytesPerConnection = 5000 }
        fixture.connect()
        fixture.send([.ack], pattern(0..<5000))
        #expect(try fixture.connection().unprotected == nil)
        fixture.send([.ack], at: 5000, [1])
        let connection = try fixture.connection()
        #expect(connection.unprotected == .journalFull)
        #expect(connection.clientNext == SequenceNumber(6002))
        #expect(fixture.tracker.journalBytesInUse == 0)
        // It goes on being followed, for its client has to be told.
        fixture.send([.ack], at: 5001, ack: 33, pattern(5001..<6000))
        #expect(try fixture.connection().clientNext == SequenceNumber(7001))
        #expect(try fixture.connection().sndUna == 33)
    }

    @Test func allJournalsAreBounded() throws {
        let fixture = TrackingFixture { $0.journalBytes = 10 * 1024 }
        for port in 1...12 {
            fixture.connect(port: UInt16(port))
            fixture.send([.ack], pattern(0..<700), port: UInt16(port))
        }
        #expect(fixture.tracker.journalBytesInUse == 10 * 1024)
        for port in 1...12 {
            #expect(try fixture.connection(UInt16(port)).unprotected == (port <= 10 ? nil : .journalFull))
        }
        // What ends gives room to the next.
        fixture.tracker.remove(try #require(fixture.handle(1)))
        fixture.connect(port: 50)
        fixture.send([.ack], pattern(0..<700), port: 50)
        #expect(fixture.journal(50) == pattern(0..<700))
        // A second chunk takes a list as well: both do not fit.
        fixture.send([.ack], at: 700, pattern(700..<1500), port: 50)
        #expect(try fixture.connection(50).unprotected == .journalFull)
    }

    @Test func gapsAreBounded() throws {
        let fixture = TrackingFixture { $0.gapsPerConnection = 3 }
        fixture.connect()
        for place in [10, 20, 30] { fixture.send([.ack], at: place, pattern(place..<place + 5)) }
        #expect(try fixture.connection().unprotected == nil)
        // One that touches another takes no place.
        fixture.send([.ack], at: 35, pattern(35..<38))
        #expect(try fixture.connection().unprotected == nil)
        fixture.send([.ack], at: 50, pattern(50..<55))
        #expect(try fixture.connection().unprotected == .journalHole)
        #expect(fixture.tracker.counters.outOfOrderDropped == 1)
    }

    @Test func aLongUploadUsesAllLevels() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        let whole = pattern(0..<700_000)
        var at = 0
        while at < whole.count {
            let end = min(at + 50_000, whole.count)
            fixture.send([.ack], at: at, Array(whole[at..<end]))
            at = end
        }
        #expect(fixture.journal() == whole)
        let handle = try #require(fixture.handle())
        #expect(fixture.tracker.journal(handle, 262_143..<530_001) == Array(whole[262_143..<530_001]))
        #expect(fixture.tracker.journal(handle, 699_999..<900_000) == [whole[699_999]])
        fixture.tracker.remove(handle)
        fixture.tracker.checkInvariants()
        #expect(fixture.tracker.journalBytesInUse == 0)
    }

    @Test func farAwayFramesAreNothing() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], at: 1 << 30, ack: 1000, [1])
        fixture.send([.ack], at: -(1 << 30), ack: 1000, [1])
        #expect(try fixture.connection().sndUna == 0)
        #expect(fixture.tracker.counters.unfitting == 2)
        fixture.send([.ack], ack: 2_000_000_000)
        #expect(try fixture.connection().unprotected == .acknowledgmentImpossible)
    }
}
