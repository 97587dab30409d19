import HTTP
import Model
import Takeover
import Testing
import Tracking
import Wire

/// Take-overs of services that are replayed as HTTP.
struct HTTPTakeoverTests {
    static let get = "GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n"
    static let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"

    private func head(_ lines: String...) -> [UInt8] { Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8) }

    /// The first reply: a head and ten million bytes.
    private var original: [UInt8] { head("HTTP/1.1 200 OK", "Content-Length: 10000000", "ETag: \"e\"") }

    private func fixture(_ http: HTTPReplay = HTTPReplay()) -> TakeoverFixture {
        let fixture = TakeoverFixture(replay: .http, http: http)
        fixture.goesLive = false
        return fixture
    }

    private func report(_ fixture: TakeoverFixture, _ bytes: [UInt8], at place: Int = 0) throws {
        guard case .facts(let facts) = ReplyHead.parse(bytes) else { throw CancellationError() }
        let sequence = SequenceNumber(fixture.iss).advanced(by: 1 + place)
        fixture.tracker.reported(TakeoverFixture.flow(), sequence: sequence, facts)
    }

    /// The client answers the probe; `at` is what it has sent.
    private func answer(_ fixture: TakeoverFixture, at place: Int, ack: Int) {
        fixture.start()
        for _ in 0..<2 { fixture.send([.ack], at: place, ack: ack) }
    }

    private func tried(_ fixture: TakeoverFixture, _ bytes: [UInt8]?) {
        var facts: ReplyFacts?
        if let bytes, case .facts(let found) = ReplyHead.parse(bytes) { facts = found }
        var effects: [TakeoverEffect] = []
        fixture.machine.tried(TakeoverFixture.flow(), facts, tracker: fixture.tracker, now: fixture.now, into: &effects)
        fixture.perform(effects)
    }

    /// The data plane holds a segment of the adopted socket back.
    private func held(_ fixture: TakeoverFixture, _ bytes: [UInt8], at place: Int = 0) throws {
        let flow = TakeoverFixture.flow()
        let entry = try #require(fixture.entries[flow])
        let packet = TCPPacket(
            from: flow.service, to: flow.client, sequence: entry.iss.advanced(by: 1 + place),
            acknowledgment: SequenceNumber(0), flags: [.ack], window: 100, payload: bytes
        ).encode()
        var effects: [TakeoverEffect] = []
        packet.withUnsafeBytes { raw in
            guard let frame = FrameParser.parse(packet: raw).frame else { return }
            fixture.machine.regenerated(frame, raw, tracker: fixture.tracker, now: fixture.now, into: &effects)
        }
        fixture.perform(effects)
    }

    private func injectedText(_ fixture: TakeoverFixture) -> String {
        String(decoding: fixture.sockets[TakeoverFixture.flow()]?.received ?? [], as: UTF8.self)
    }

    @Test func replaysFromTheOldestUnansweredRequest() throws {
        let fixture = fixture()
        fixture.connect(Array(Self.post.utf8))
        let reply = head("HTTP/1.1 200 OK", "Content-Length: 0")
        try report(fixture, reply)
        let (sent, acked) = (Self.post.utf8.count, reply.count)
        fixture.send([.ack], at: sent, ack: acked, Array(Self.get.utf8))
        answer(fixture, at: sent + Self.get.utf8.count, ack: acked)
        let entry = try #require(fixture.entries[TakeoverFixture.flow()])
        #expect(entry.irs == SequenceNumber(fixture.irs).advanced(by: sent))
        #expect(entry.iss == SequenceNumber(fixture.iss).advanced(by: acked))
        #expect(entry.sndUna == 0 && !entry.isChecked, "nobody has begun to answer")
        #expect(injectedText(fixture) == Self.get, "the POST was answered, and is not asked again")
        #expect(fixture.trials.isEmpty)
    }

    /// What was on its way to the dead server when the probe was sent is no answer to it.
    @Test func waitsForTheAnswerToTheProbe() throws {
        let fixture = fixture()
        fixture.connect(Array((Self.get + Self.get).utf8))
        let reply = head("HTTP/1.1 200 OK", "Content-Length: 0")
        try report(fixture, reply)
        try report(fixture, reply, at: reply.count)
        let sent = 2 * Self.get.utf8.count
        fixture.start()
        fixture.send([.ack], at: sent, ack: reply.count, Array(Self.get.utf8))
        #expect(fixture.entries.isEmpty)
        fixture.send([.ack], at: sent + Self.get.utf8.count, ack: 2 * reply.count)
        #expect(fixture.entries.isEmpty)
        fixture.send([.ack], at: sent + Self.get.utf8.count, ack: 2 * reply.count)
        let entry = try #require(fixture.entries[TakeoverFixture.flow()])
        #expect(entry.iss == SequenceNumber(fixture.iss).advanced(by: 2 * reply.count))
    }

    /// The dead server had begun, and the client has shown nothing of it yet.
    @Test func looksAtAReplyThatMayBeOnItsWay() throws {
        let fixture = fixture(HTTPReplay(rangeFrom: nil))
        fixture.connect(Array(Self.get.utf8))
        try report(fixture, original)
        answer(fixture, at: Self.get.utf8.count, ack: 0)
        #expect(fixture.entries[TakeoverFixture.flow()]?.isChecked == true)
        // By the time the other server answers, the client has said that it has a part.
        fixture.send([.ack], at: Self.get.utf8.count, ack: original.count + 10)
        let other = String(decoding: original, as: UTF8.self).replacing("Length: 1", with: "Length: 2")
        try held(fixture, Array(other.utf8))
        #expect(fixture.machine.figures.resets(.replyDiffers) == 1)
    }

    /// What was taken for its answer was one to the probe of a backup that has died since: what that one had sent is
    /// shown a round trip later.
    @Test(arguments: [false, true])
    func waitsForWhatIsOnItsWay(hasSome: Bool) throws {
        let fixture = fixture(HTTPReplay(rangeFrom: nil))
        fixture.connect(Array(Self.get.utf8))
        try report(fixture, original)
        answer(fixture, at: Self.get.utf8.count, ack: 0)
        let other = String(decoding: original, as: UTF8.self).replacing("Length: 1", with: "Length: 2")
        try held(fixture, Array(other.utf8))
        #expect(!fixture.order.contains("release"))
        fixture.run(.milliseconds(100))
        #expect(!fixture.order.contains("release"))
        if hasSome { fixture.send([.ack], at: Self.get.utf8.count, ack: original.count + 10) }
        fixture.run(.seconds(1))
        #expect(fixture.machine.figures.resets(.replyDiffers) == (hasSome ? 1 : 0))
        #expect(fixture.order.contains("release") == !hasSome, "it has nothing: any reply will do")
    }

    @Test func resetsAPost() {
        let fixture = fixture()
        fixture.connect(Array(Self.post.utf8))
        answer(fixture, at: Self.post.utf8.count, ack: 0)
        #expect(fixture.resets.count == 1)
        #expect(fixture.machine.figures.resets(.methodNotAllowed) == 1)
        #expect(fixture.entries.isEmpty)
    }

    @Test func resetsWhatItDoesNotKnow() throws {
        let fixture = fixture()
        fixture.connect(Array(Self.get.utf8))
        answer(fixture, at: Self.get.utf8.count, ack: 5000)
        try held(fixture, original + pattern(0..<1000))
        #expect(fixture.machine.figures.resets(.replyUnknown) == 1)
        #expect(fixture.resets.map(\.frame.sequence) == [SequenceNumber(fixture.iss).advanced(by: 5001)])
        #expect(!fixture.order.contains("release"))
    }

    @Test func letsTheSameReplyPass() throws {
        let fixture = fixture(HTTPReplay(rangeFrom: nil))
        fixture.connect(Array(Self.get.utf8))
        try report(fixture, original)
        answer(fixture, at: Self.get.utf8.count, ack: 5000)
        #expect(fixture.trials == [Self.get])
        tried(fixture, original)
        #expect(injectedText(fixture) == Self.get)
        try held(fixture, Array(original.prefix(20)))
        #expect(!fixture.order.contains("release"), "half a head says nothing")
        try held(fixture, original.dropFirst(20) + pattern(0..<100), at: 20)
        #expect(fixture.order.contains("release"))
        #expect(fixture.resets.isEmpty)
        let passed = fixture.toClient.filter { !$0.payload.isEmpty && $0.payload != [0] }
        #expect(passed.flatMap(\.payload) == original + pattern(0..<100))
    }

    @Test func refusesAnotherReply() throws {
        let fixture = fixture(HTTPReplay(rangeFrom: nil))
        fixture.connect(Array(Self.get.utf8))
        try report(fixture, original)
        answer(fixture, at: Self.get.utf8.count, ack: 5000)
        tried(fixture, nil)
        try held(fixture, head("HTTP/1.1 200 OK", "Content-Length: 10000000", "ETag: \"f\""))
        #expect(fixture.machine.figures.resets(.replyDiffers) == 1)
        #expect(fixture.resets.count == 1)
        #expect(!fixture.order.contains("release"))
    }

    @Test func alignsALongerHead() throws {
        let fixture = fixture(HTTPReplay(rangeFrom: nil))
        fixture.connect(Array(Self.get.utf8))
        try report(fixture, original)
        answer(fixture, at: Self.get.utf8.count, ack: 5000)
        let longer = head("HTTP/1.1 200 OK", "Content-Length: 10000000", "ETag: \"e\"", "Server: abc")
        tried(fixture, longer)
        let entry = try #require(fixture.entries[TakeoverFixture.flow()])
        let difference = longer.count - original.count
        #expect(entry.iss == SequenceNumber(fixture.iss).advanced(by: -difference))
        #expect(entry.sndUna == UInt64(5000 + difference))
        try held(fixture, longer)
        #expect(fixture.order.contains("release"))
    }

    @Test func asksForTheRest() throws {
        let fixture = fixture(HTTPReplay(rangeFrom: 1000))
        fixture.connect(Array(Self.get.utf8))
        try report(fixture, original)
        let held = 4_000_000
        answer(fixture, at: Self.get.utf8.count, ack: original.count + held)
        let request = try #require(fixture.trials.first)
        #expect(request.contains("\r\nRange: bytes=4000000-9999999\r\nIf-Range: \"e\"\r\n\r\n"))
        let rest = head(
            "HTTP/1.1 206 P", "Content-Length: 6000000", "Content-Range: bytes 4000000-9999999/10000000", "ETag: \"e\"")
        tried(fixture, rest)
        let entry = try #require(fixture.entries[TakeoverFixture.flow()])
        #expect(entry.irs == SequenceNumber(fixture.irs).advanced(by: Self.get.utf8.count - request.utf8.count))
        // The head lies just below SND.UNA.
        #expect(entry.sndUna == UInt64(rest.count))
        #expect(entry.iss == SequenceNumber(fixture.iss).advanced(by: original.count + held - rest.count))
        #expect(injectedText(fixture) == request)
        try self.held(fixture, rest + pattern(0..<10))
        #expect(fixture.order.contains("release"))
        #expect(fixture.resets.isEmpty)
    }

    @Test func fallsBackToTheWhole() throws {
        let fixture = fixture(HTTPReplay(rangeFrom: 1000))
        fixture.connect(Array(Self.get.utf8))
        try report(fixture, original)
        answer(fixture, at: Self.get.utf8.count, ack: original.count + 2000)
        // A server that knows no ranges.
        tried(fixture, original)
        #expect(fixture.trials.count == 2)
        #expect(fixture.trials.last == Self.get)
        tried(fixture, original)
        #expect(injectedText(fixture) == Self.get)
        #expect(fixture.entries[TakeoverFixture.flow()]?.iss == SequenceNumber(fixture.iss))
    }

    @Test func doesNotWaitForASlowTrial() throws {
        let fixture = fixture()
        fixture.connect(Array(Self.get.utf8))
        try report(fixture, original)
        answer(fixture, at: Self.get.utf8.count, ack: original.count + 2000)
        #expect(fixture.entries.isEmpty)
        fixture.run(.milliseconds(501))
        #expect(injectedText(fixture) == Self.get)
        tried(fixture, original)
        #expect(fixture.resets.isEmpty, "an answer that comes late changes nothing")
    }

    /// The first segments of a reply were lost, later ones are in the client's hands.
    @Test func doesNotJoinWhatIsBehindAHole() throws {
        let fixture = fixture()
        fixture.connect(Array(Self.get.utf8))
        try report(fixture, original)
        fixture.start()
        for _ in 0..<2 { fixture.send([.ack], at: Self.get.utf8.count, ack: 0, selective: 1448..<2896) }
        #expect(fixture.machine.figures.resets(.replyUnknown) == 1)
        // Within a body there is no harm in it; the probe itself is what came twice, and no hole.
        for (ack, selective) in [(5000, 6448..<7896), (5000, 4999..<5000)] {
            let fixture = self.fixture(HTTPReplay(rangeFrom: nil))
            fixture.connect(Array(Self.get.utf8))
            try report(fixture, original)
            fixture.start()
            for _ in 0..<2 { fixture.send([.ack], at: Self.get.utf8.count, ack: ack, selective: selective) }
            #expect(fixture.resets.isEmpty)
            #expect(fixture.trials.count == 1)
        }
    }

    /// Sequence numbers that wrap between the replay point and the client's place.
    @Test func wraps() throws {
        let fixture = TakeoverFixture(irs: .max - 20, iss: .max - 100, replay: .http, http: HTTPReplay(rangeFrom: 1000))
        fixture.connect(Array(Self.get.utf8))
        try report(fixture, original)
        answer(fixture, at: Self.get.utf8.count, ack: original.count + 4_000_000)
        let rest = head(
            "HTTP/1.1 206 P", "Content-Length: 6000000", "Content-Range: bytes 4000000-9999999/10000000", "ETag: \"e\"")
        tried(fixture, rest)
        #expect(injectedText(fixture) == fixture.trials.first)
        #expect(fixture.entries[TakeoverFixture.flow()]?.sndUna == UInt64(rest.count))
    }
}
