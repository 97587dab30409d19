import HTTP
import Model
import Takeover
import Testing
import Tracking
import Wire

/// Take-overs of connections whose client has everything but the server's FIN.
struct ClosingTests {
    static let post = "POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
    static let asked = "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    static let reply = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    static let answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"

    /// Places of the whole reply, and of all that the client has sent.
    private let end = reply.utf8.count + 1000
    private let sent = post.utf8.count

    /// A client that has everything, and `more` beyond; the server dies.
    private func fixture(
        more: Int = 0, void: String = "", parameters: TakeoverParameters = TakeoverParameters()
    ) throws -> TakeoverFixture {
        let fixture = TakeoverFixture(replay: .http, parameters: parameters)
        fixture.goesLive = false
        fixture.connect(Array((Self.post + void).utf8))
        fixture.tracker.reported(
            TakeoverFixture.flow(), sequence: SequenceNumber(fixture.iss).advanced(by: 1), try facts(Self.reply))
        fixture.start()
        for _ in 0..<2 { fixture.send([.ack], at: sent + void.utf8.count, ack: end + more) }
        return fixture
    }

    private func facts(_ text: String) throws -> ReplyFacts {
        guard case .facts(let facts) = ReplyHead.parse(Array(text.utf8)) else { throw CancellationError() }
        return facts
    }

    private func tried(_ fixture: TakeoverFixture, _ text: String?) throws {
        var effects: [TakeoverEffect] = []
        fixture.machine.tried(
            TakeoverFixture.flow(), try text.map(facts), tracker: fixture.tracker, now: fixture.now, into: &effects)
        fixture.perform(effects)
    }

    /// The data plane holds a segment of the adopted socket back.
    private func held(_ fixture: TakeoverFixture, _ text: String, at place: Int, _ flags: TCPFlags = [.ack]) throws {
        let flow = TakeoverFixture.flow()
        let entry = try #require(fixture.entries[flow])
        let packet = TCPPacket(
            from: flow.service, to: flow.client, sequence: entry.iss.advanced(by: 1 + place),
            acknowledgment: SequenceNumber(0), flags: flags, window: 100, payload: Array(text.utf8)
        ).encode()
        var effects: [TakeoverEffect] = []
        packet.withUnsafeBytes { raw in
            guard let frame = FrameParser.parse(packet: raw).frame else { return }
            fixture.machine.regenerated(frame, raw, tracker: fixture.tracker, now: fixture.now, into: &effects)
        }
        fixture.perform(effects)
    }

    private func injected(_ fixture: TakeoverFixture) -> String {
        String(decoding: fixture.sockets[TakeoverFixture.flow()]?.received ?? [], as: UTF8.self)
    }

    /// Whether the client has sent a void request behind its last, and whether it has the FIN already.
    @Test(arguments: [0, 1], ["", post])
    func closes(more: Int, void: String) throws {
        let fixture = try fixture(more: more, void: void)
        #expect(fixture.trials == [Self.asked], "the POST is not asked again")
        try tried(fixture, Self.answer)
        let entry = try #require(fixture.entries[TakeoverFixture.flow()])
        let length = Self.answer.utf8.count + 5
        #expect(entry.iss == SequenceNumber(fixture.iss).advanced(by: end - length))
        #expect(entry.irs == SequenceNumber(fixture.irs).advanced(by: sent + void.utf8.count - Self.asked.utf8.count))
        #expect(entry.sndUna == UInt64(length + more) && entry.isChecked)
        #expect(injected(fixture) == Self.asked)
        try held(fixture, Self.answer + "error", at: 0)
        #expect(!fixture.order.contains("release"), "more may follow")
        try held(fixture, "", at: length, [.ack, .fin])
        #expect(fixture.order.contains("release"))
        let fin = try #require(fixture.toClient.last { $0.frame.flags.contains(.fin) })
        #expect(fin.frame.sequence == SequenceNumber(fixture.iss).advanced(by: 1 + end))
        #expect(fixture.resets.isEmpty)
    }

    @Test func letsNoByteOut() throws {
        for (text, flags) in [("error, and more", [.ack]), ("erro", [.ack, .fin])] as [(String, TCPFlags)] {
            let fixture = try fixture()
            try tried(fixture, Self.answer)
            try held(fixture, Self.answer + text, at: 0, flags)
            #expect(fixture.machine.figures.resets(.replyDiffers) == 1)
            #expect(fixture.resets.map(\.frame.sequence) == [SequenceNumber(fixture.iss).advanced(by: 1 + end)])
            #expect(!fixture.order.contains("release"))
        }
    }

    /// A server that does not say how long its answer is, goes on, or says nothing: the client waits for the end of its
    /// patience.
    @Test(arguments: ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", nil])
    func waits(answer: String?) throws {
        let fixture = try fixture()
        if let answer { try tried(fixture, answer) } else { fixture.run(.milliseconds(501)) }
        let entry = try #require(fixture.entries[TakeoverFixture.flow()])
        #expect(entry.iss == SequenceNumber(fixture.iss).advanced(by: end) && entry.sndUna == 0 && entry.isChecked)
        #expect(entry.irs == SequenceNumber(fixture.irs).advanced(by: sent))
        fixture.run(.seconds(60))
        #expect(injected(fixture) == "" && fixture.resets.isEmpty)
        try held(fixture, "", at: 0, [.ack, .fin])
        #expect(fixture.order.contains("release") && fixture.resets.isEmpty)
    }

    /// Some servers have a last word for an idle client; not for one whose connection was closed.
    @Test func doesNotPassALastWord() throws {
        let fixture = try fixture()
        try tried(fixture, nil)
        try held(fixture, "HTTP/1.1 408 Request Timeout\r\n\r\n", at: 0)
        #expect(fixture.machine.figures.resets(.replyDiffers) == 1)
        #expect(!fixture.order.contains("release"))
    }

    /// Behind its last reply the dead server has said more.
    @Test func resetsWhatGoesOn() throws {
        let fixture = try fixture(more: 2)
        #expect(!fixture.trials.contains(Self.asked))
        #expect(fixture.machine.figures.resets(.methodNotAllowed) == 1)
    }

    @Test func givesUpInTheEnd() throws {
        let fixture = try fixture()
        try tried(fixture, nil)
        fixture.run(.seconds(100))
        #expect(fixture.machine.figures.resets(.replyShorter) == 1)
        #expect(fixture.isFinished)
    }
}
