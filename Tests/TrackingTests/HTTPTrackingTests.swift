import HTTP
import Model
import Testing
import Tracking
import Wire

/// The tracker's side of HTTP: the replay point moves, and the journal before it is forgotten.
struct HTTPTrackingTests {
    private func request(_ number: Int) -> [UInt8] {
        Array("GET /\(String(repeating: "a", count: 480))\(number % 10) HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
    }
    private let facts = ReplyFacts(status: 200, headBytes: 100, framing: .length(900))

    private let flow = TrackingFixture.flow()

    private func fixture(journal bytes: Int = 1 << 20) -> TrackingFixture {
        let fixture = TrackingFixture { $0.journalBytesPerConnection = bytes }
        fixture.tracker.setHTTP([TrackingFixture.service])
        fixture.connect()
        return fixture
    }

    private func conversation(_ fixture: TrackingFixture) -> Conversation? {
        guard let handle = fixture.tracker.handle(of: flow) else { return nil }
        return fixture.tracker.conversation(handle)
    }

    @Test func forgetsWhatIsAnswered() throws {
        let fixture = fixture(journal: 4096)
        var (at, ack) = (0, 0)
        for number in 0..<200 {
            let bytes = request(number)
            fixture.send([.ack], at: at, ack: ack, bytes)
            fixture.tracker.reported(flow, sequence: SequenceNumber(5001).advanced(by: ack), facts)
            at += bytes.count
            ack += 1000
            fixture.tracker.checkInvariants()
        }
        fixture.send([.ack], at: at, ack: ack)
        let connection = try fixture.connection()
        #expect(connection.unprotected == nil, "100 kB went through a journal of 4 kB")
        #expect(connection.journalLength == UInt64(at))
        let conversation = try #require(self.conversation(fixture))
        #expect(conversation.requests.count == 0)
        #expect(conversation.replayPoint == UInt64(at))
        #expect(fixture.tracker.journalBytesInUse <= 3072)
    }

    @Test func keepsWhatIsNotAnswered() throws {
        let fixture = fixture(journal: 4096)
        var at = 0
        for number in 0..<10 {
            fixture.send([.ack], at: at, ack: 0, request(number))
            at += request(number).count
        }
        #expect(try fixture.connection().unprotected == .journalFull)
        fixture.tracker.checkInvariants()
    }

    @Test func takesPiecesInAnyOrder() throws {
        let fixture = fixture()
        let bytes = request(1)
        fixture.send([.ack], at: 200, ack: 0, Array(bytes[200...]))
        fixture.send([.ack], at: 0, ack: 0, Array(bytes[..<200]))
        #expect(conversation(fixture)?.requests.first?.end == UInt64(bytes.count))
        // What is forgotten may come again.
        fixture.tracker.reported(flow, sequence: SequenceNumber(5001), facts)
        let more = (0..<6).flatMap { request($0) }
        fixture.send([.ack], at: bytes.count, ack: 1000, more)
        fixture.send([.ack], at: 0, ack: 1000, bytes)
        #expect(try fixture.connection().unprotected == nil)
        fixture.tracker.checkInvariants()
    }

    /// A client whose ACK was lost sends a request again that is answered and forgotten by now.
    @Test func whatIsForgottenMayComeAgain() throws {
        let fixture = fixture()
        let (first, second) = (request(1) + request(2), request(3))
        fixture.send([.ack], at: 0, ack: 0, first)
        fixture.tracker.reported(flow, sequence: SequenceNumber(5001), facts)
        fixture.tracker.reported(flow, sequence: SequenceNumber(6001), facts)
        fixture.send([.ack], at: first.count, ack: 2000, second)
        fixture.send([.ack], at: 0, ack: 2000, Array(first[..<100]))
        fixture.send([.ack], at: 10, ack: 2000, Array(first[10...]))
        #expect(try fixture.connection().unprotected == nil)
        #expect(fixture.journal().suffix(second.count) == second[...])
    }

    @Test func endsWithATunnel() throws {
        let fixture = fixture()
        fixture.send([.ack], at: 0, ack: 0, Array("CONNECT a:1 HTTP/1.1\r\n\r\n".utf8))
        #expect(try fixture.connection().unprotected == .requestNotUnderstood)
        fixture.tracker.checkInvariants()
    }

    @Test func otherServicesStaySmall() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], at: 0, ack: 0, request(1))
        #expect(conversation(fixture) == nil)
    }
}
