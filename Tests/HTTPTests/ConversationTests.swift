import HTTP
import Model
import Testing

@Suite struct ConversationTests {
    static let length = UInt64(get.utf8.count)

    private func reply(_ body: UInt64, head: UInt32 = 200) -> ReplyFacts {
        ReplyFacts(
            status: 200, headBytes: head, framing: .length(body),
            etag: EntityTag(isWeak: false, value: Array("\"a\"".utf8)))
    }

    private func replay(
        _ conversation: Conversation, _ methods: ReplayMethods = .safe, sent: UInt64? = nil
    ) throws -> Replay {
        let place = conversation.stream.place
        return try conversation.replay(methods: methods, clientSent: sent ?? place, received: place)
    }

    // MARK: The chain

    @Test func forgetsWhatIsAnswered() {
        var conversation = Conversation()
        conversation.received(get, acknowledged: 0)
        #expect(conversation.replayPoint == 0)
        conversation.reported(ReplyReport(place: 0, facts: reply(1000)))
        conversation.acknowledged(to: 1199)
        #expect(conversation.replayPoint == 0, "a byte of the reply is missing")
        conversation.acknowledged(to: 1200)
        #expect(conversation.replayPoint == Self.length)
        #expect(conversation.replyStart == 1200)
        conversation.received(get, acknowledged: 1200)
        #expect(conversation.replayPoint == Self.length)
        #expect(!conversation.pipelines)
    }

    // MARK: The last reply

    struct Last: CustomTestStringConvertible, Sendable {
        var request: String
        var closes = false
        var isLast = true
        var testDescription: String { "\(request.prefix { $0 != "\r" }), closes \(closes)" }
    }

    static let lasts = [
        Last(request: head("GET / HTTP/1.1", "Connection: close")),
        Last(request: head("POST / HTTP/1.1", "Connection: TE , close", "Content-Length: 1") + "x"),
        Last(request: head("HEAD / HTTP/1.1"), closes: true),
        Last(request: head("GET / HTTP/1.0")),
        Last(request: head("GET / HTTP/1.0", "Connection: Keep-Alive"), isLast: false),
        Last(request: head("GET / HTTP/1.1"), isLast: false),
    ]

    /// A client that waits for the server's FIN gets it from whoever takes over, however the reply is to be shown.
    @Test(arguments: lasts)
    func staysAtTheLastReply(_ last: Last) throws {
        var conversation = Conversation()
        conversation.received(last.request, acknowledged: 0)
        var facts = ReplyFacts(status: 200, headBytes: 200, framing: .length(1000), etag: EntityTag(isWeak: true, value: []))
        facts.closes = last.closes
        conversation.reported(ReplyReport(place: 0, facts: facts))
        let end: UInt64 = last.request.hasPrefix("HEAD") ? 200 : 1200
        conversation.acknowledged(to: end - 1)
        #expect(conversation.lastEnd == nil)
        conversation.acknowledged(to: end)
        #expect(conversation.requests.count == (last.isLast ? 1 : 0))
        #expect(conversation.lastEnd == (last.isLast ? end : nil))
        guard last.isLast else { return }
        let length = UInt64(last.request.utf8.count)
        let replay = try replay(conversation)
        #expect(replay.last?.start == 0 && replay.start == length && replay.replyStart == end)
        // Void (RFC 9112 9.6), whatever it may be.
        conversation.received(head("POST / HTTP/1.1") + "\n", acknowledged: end)
        #expect(try self.replay(conversation).start == length + 20)
        conversation.acknowledged(to: end + 1)
        #expect(conversation.lastEnd == end, "the FIN was acknowledged")
        conversation.acknowledged(to: end + 2)
        #expect(conversation.lastEnd == nil, "more than a FIN")
    }

    @Test func passesALastReplyThatWasNone() {
        var conversation = Conversation()
        conversation.received(head("GET / HTTP/1.0"), acknowledged: 0)
        conversation.reported(ReplyReport(place: 0, facts: reply(1000)))
        conversation.received(get, acknowledged: 1200)
        #expect(conversation.requests.count == 2)
        conversation.reported(ReplyReport(place: 1200, facts: reply(1000)))
        #expect(conversation.requests.count == 1 && conversation.replyStart == 1200 && conversation.lastEnd == nil)
    }

    @Test func asksToClose() {
        let request = head("GET /a HTTP/1.1", "host: a.example", "Cookie: b", "X-Host: c")
        #expect(
            String(decoding: ClosingRequest.head(like: Array(request.utf8), .http11), as: UTF8.self)
                == head("OPTIONS * HTTP/1.1", "host: a.example", "Connection: close"))
        #expect(
            String(decoding: ClosingRequest.head(like: [], .http10), as: UTF8.self)
                == head("OPTIONS * HTTP/1.0", "Connection: close"))
        var facts = ReplyFacts(status: 400, headBytes: 150, framing: .length(157), closes: true)
        #expect(ClosingRequest.answerBytes(facts) == 307)
        facts.framing = .length(.max)
        #expect(ClosingRequest.answerBytes(facts) == nil)
        facts.framing = .chunked
        #expect(ClosingRequest.answerBytes(facts) == nil)
        facts = ReplyFacts(status: 200, headBytes: 150, framing: .length(0))
        #expect(ClosingRequest.answerBytes(facts) == nil, "it goes on")
    }

    @Test func staysWithoutFacts() {
        var conversation = Conversation()
        conversation.received(get, acknowledged: 0)
        conversation.acknowledged(to: 5000)
        conversation.received(get, acknowledged: 5000)
        #expect(conversation.replayPoint == 0)
        #expect(conversation.requests.count == 2)
    }

    @Test func takesFactsInAnyOrder() {
        var conversation = Conversation()
        conversation.reported(ReplyReport(place: 1200, facts: reply(50)))
        conversation.received(get + get, acknowledged: 0)
        conversation.acknowledged(to: 1450)
        #expect(conversation.replayPoint == 0)
        conversation.reported(ReplyReport(place: 0, facts: reply(1000)))
        #expect(conversation.replayPoint == 2 * Self.length)
        #expect(conversation.replyStart == 1450)
    }

    @Test func passesInterimReplies() {
        var conversation = Conversation()
        conversation.received(head("PUT / HTTP/1.1", "Expect: 100-continue", "Content-Length: 3"), acknowledged: 0)
        conversation.reported(ReplyReport(place: 0, facts: ReplyFacts(status: 100, headBytes: 25, framing: .untilClose)))
        conversation.received("abc", acknowledged: 25)
        conversation.reported(ReplyReport(place: 25, facts: reply(10)))
        #expect(conversation.heads.map(\.status) == [100, 200])
        conversation.acknowledged(to: 235)
        #expect(conversation.replyStart == 235)
        #expect(conversation.requests.count == 0)
    }

    @Test(arguments: [RequestMethod.head, .get])
    func knowsThatHEADHasNoBody(_ method: RequestMethod) {
        var conversation = Conversation()
        conversation.received(head("\(method == .head ? "HEAD" : "GET") / HTTP/1.1"), acknowledged: 0)
        conversation.reported(ReplyReport(place: 0, facts: reply(1000)))
        conversation.acknowledged(to: 200)
        #expect(conversation.requests.count == (method == .head ? 0 : 1))
    }

    @Test func waitsForARequestThatIsAnsweredEarly() {
        var conversation = Conversation()
        conversation.received(head("PUT / HTTP/1.1", "Content-Length: 3") + "ab", acknowledged: 0)
        conversation.reported(ReplyReport(place: 0, facts: reply(0)))
        conversation.acknowledged(to: 200)
        #expect(conversation.replayPoint == 0)
        conversation.received("c", acknowledged: 200)
        #expect(conversation.requests.count == 0)
        #expect(conversation.replyStart == 200)
    }

    // MARK: Where the chain is broken

    @Test func findsAReplyByItsReport() {
        var conversation = Conversation()
        conversation.received(get, acknowledged: 0)
        conversation.reported(ReplyReport(place: 0, facts: ReplyFacts(status: 200, headBytes: 200, framing: .chunked)))
        conversation.acknowledged(to: 7777)
        conversation.received(get, acknowledged: 7777)
        #expect(conversation.replayPoint == 0, "how long the chunked reply is, is not known")
        conversation.reported(ReplyReport(place: 7777, facts: reply(10)))
        #expect(conversation.replayPoint == Self.length)
        #expect(conversation.replyStart == 7777)
        #expect(conversation.heads.count == 1)
    }

    /// The client is faster than the report: it has begun its next request by then.
    @Test func findsAReplyByALateReport() {
        var conversation = Conversation()
        conversation.received(get, acknowledged: 0)
        conversation.reported(ReplyReport(place: 0, facts: ReplyFacts(status: 200, headBytes: 200, framing: .chunked)))
        conversation.received(get, acknowledged: 7777)
        conversation.received(get, acknowledged: 8000)
        #expect(conversation.replayPoint == 0)
        conversation.reported(ReplyReport(place: 7777, facts: reply(23)))
        #expect(conversation.replayPoint == 2 * Self.length, "the chain goes on from there")
        #expect(conversation.replyStart == 8000)
    }

    @Test func doesNotGuess() {
        var conversation = Conversation()
        conversation.received(get, acknowledged: 0)
        conversation.acknowledged(to: 7777)
        conversation.received(get, acknowledged: 7777)
        conversation.reported(ReplyReport(place: 7700, facts: reply(10)))
        conversation.reported(ReplyReport(place: 7778, facts: reply(10)))
        #expect(conversation.replayPoint == 0)
    }

    @Test func doesNotBelieveReportsOfAClientThatPipelines() {
        var conversation = Conversation()
        conversation.received(get + get, acknowledged: 0)
        #expect(conversation.pipelines)
        conversation.acknowledged(to: 100)
        conversation.received(get, acknowledged: 100)
        conversation.reported(ReplyReport(place: 100, facts: reply(10)))
        #expect(conversation.replayPoint == 0)
    }

    @Test func knowsPipeliningByTheEndOfAReply() {
        var conversation = Conversation()
        conversation.received(get, acknowledged: 0)
        conversation.reported(ReplyReport(place: 0, facts: reply(1000)))
        conversation.acknowledged(to: 500)
        conversation.received(get, acknowledged: 500)
        #expect(conversation.pipelines)
        conversation.acknowledged(to: 1200)
        #expect(conversation.replayPoint == Self.length, "the chain holds all the same")
    }

    @Test func keepsFewReports() {
        var conversation = Conversation()
        conversation.received(get, acknowledged: 0)
        for place in 1...1000 { conversation.reported(ReplyReport(place: UInt64(place), facts: reply(10))) }
        #expect(conversation.replayPoint == 0)
        conversation.reported(ReplyReport(place: 0, facts: reply(10)))
        conversation.acknowledged(to: 210)
        #expect(conversation.replayPoint == Self.length)
    }

    // MARK: Methods

    struct Rule: CustomTestStringConvertible, Sendable {
        var name: String
        var text: String
        var allowed: [ReplayMethods]
        var testDescription: String { name }
    }

    static let rules = [
        Rule(name: "GET", text: get, allowed: [.safe, .idempotent, .all]),
        Rule(name: "HEAD, OPTIONS, TRACE", text: head("HEAD / HTTP/1.1") + head("OPTIONS / HTTP/1.1") + head("TRACE / HTTP/1.1"),
            allowed: [.safe, .idempotent, .all]),
        Rule(name: "PUT", text: head("PUT / HTTP/1.1"), allowed: [.idempotent, .all]),
        Rule(name: "DELETE behind GET", text: get + head("DELETE / HTTP/1.1"), allowed: [.idempotent, .all]),
        Rule(name: "POST", text: head("POST / HTTP/1.1"), allowed: [.all]),
        Rule(name: "POST behind GET", text: get + head("POST / HTTP/1.1"), allowed: [.all]),
        Rule(name: "PATCH", text: head("PATCH / HTTP/1.1"), allowed: [.all]),
        Rule(name: "unknown", text: head("PROPFIND / HTTP/1.1"), allowed: [.all]),
        Rule(name: "nothing", text: "", allowed: [.safe, .idempotent, .all]),
    ]

    @Test(arguments: rules, ReplayMethods.allCases)
    func obeysTheMethods(_ rule: Rule, methods: ReplayMethods) {
        var conversation = Conversation()
        conversation.received(rule.text, acknowledged: 0)
        if rule.allowed.contains(methods) {
            #expect(throws: Never.self) { try replay(conversation, methods) }
        } else {
            #expect(throws: ReplayRefusal(cause: .methodNotAllowed)) { try replay(conversation, methods) }
        }
    }

    @Test func replaysAPostThatNobodyHasInFull() throws {
        var conversation = Conversation()
        conversation.received(head("POST / HTTP/1.1", "Content-Length: 5") + "abcd", acknowledged: 0)
        #expect(try replay(conversation).request?.method == .post)
        // The client has sent a byte that is not here: it may have been the last.
        #expect(throws: ReplayRefusal(cause: .methodNotAllowed)) {
            try replay(conversation, sent: conversation.stream.place + 1)
        }
        conversation.acknowledged(to: 25)
        #expect(throws: ReplayRefusal(cause: .methodNotAllowed), "an answer has begun") { try replay(conversation) }
    }

    @Test func doesNotReplayAPostWhoseAnswerHasBegun() {
        var conversation = Conversation()
        conversation.received(head("POST / HTTP/1.1", "Content-Length: 5") + "abcd", acknowledged: 0)
        conversation.reported(ReplyReport(place: 0, facts: reply(10)))
        #expect(throws: ReplayRefusal(cause: .methodNotAllowed)) { try replay(conversation) }
    }

    @Test func replaysHalfARequestLine() throws {
        var conversation = Conversation()
        conversation.received("PO", acknowledged: 0)
        #expect(try replay(conversation).start == 0)
        #expect(throws: ReplayRefusal(cause: .methodNotAllowed)) { try replay(conversation, sent: 30) }
    }

    @Test func forgetsAPostThatIsAnswered() throws {
        var conversation = Conversation()
        let post = head("POST / HTTP/1.1", "Content-Length: 1") + "x"
        conversation.received(post, acknowledged: 0)
        conversation.reported(ReplyReport(place: 0, facts: reply(1)))
        conversation.received(get, acknowledged: 201)
        let replay = try replay(conversation)
        #expect(replay.start == UInt64(post.utf8.count))
        #expect(replay.replyStart == 201)
    }

    // MARK: What is no HTTP any more

    @Test(arguments: ReplayMethods.allCases)
    func endsWithConnect(_ methods: ReplayMethods) {
        var conversation = Conversation()
        conversation.received(head("CONNECT a:443 HTTP/1.1"), acknowledged: 0)
        #expect(throws: ReplayRefusal(cause: .requestNotUnderstood)) { try replay(conversation, methods) }
    }

    @Test func endsWithAnUpgrade() throws {
        var conversation = Conversation()
        conversation.received(head("GET / HTTP/1.1", "Upgrade: websocket"), acknowledged: 0)
        #expect(try replay(conversation).start == 0, "not answered yet: asked again")
        var other = conversation
        conversation.reported(ReplyReport(place: 0, facts: ReplyFacts(status: 101, headBytes: 130, framing: .untilClose)))
        #expect(conversation.hasEnded)
        conversation.received("\u{1}\u{2}", acknowledged: 130)
        #expect(throws: ReplayRefusal(cause: .requestNotUnderstood)) { try replay(conversation, .all) }
        // The answer has begun, and nobody knows what it was.
        other.acknowledged(to: 10)
        #expect(throws: ReplayRefusal(cause: .replyUnknown)) { try replay(other, .all) }
    }

    @Test func leavesWhatIsNotUnderstoodToTheOperator() throws {
        var conversation = Conversation()
        conversation.received(get, acknowledged: 0)
        conversation.reported(ReplyReport(place: 0, facts: reply(10)))
        conversation.received(head("POST / HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"), acknowledged: 210)
        #expect(throws: ReplayRefusal(cause: .requestNotUnderstood)) { try replay(conversation) }
        #expect(throws: ReplayRefusal(cause: .requestNotUnderstood)) { try replay(conversation, .idempotent) }
        #expect(try replay(conversation, .all).start == Self.length, "from its replay point on, as `stream` would")
    }
}

@Suite struct SpliceCheckTests {
    static let original = head("HTTP/1.1 200 OK", "Content-Length: 1000", "ETag: \"a\"")
    static let length = UInt64(original.utf8.count)
    static let interim = head("HTTP/1.1 100 Continue")

    private func check(_ heads: [String], request: String = get, _ expectation: SpliceCheck.Expectation = .whole(longerBy: 0)) -> SpliceCheck {
        SpliceCheck(
            replay: Replay(start: 0, replyStart: 5000, request: split(request).1.first, heads: heads.compactMap { ReplyHead.facts($0) }),
            expectation: expectation)
    }

    private func judge(_ check: SpliceCheck, _ text: String, held: UInt64) -> SpliceCheck.Verdict {
        check.judge(Array(text.utf8), acknowledged: 5000 + held)
    }

    @Test func lets() {
        let check = check([Self.original])
        #expect(judge(check, Self.original, held: Self.length + 10) == .continues)
        #expect(judge(check, Self.original, held: Self.length + 1000) == .continues)
        #expect(judge(check, "", held: 0) == .continues, "the client has nothing yet")
        #expect(judge(check, String(Self.original.dropLast(3)), held: Self.length + 10) == .undecided)
    }

    @Test func refuses() {
        let check = check([Self.original])
        #expect(judge(check, Self.original, held: Self.length + 1001) == .breaks(.replyUnknown), "of the next reply")
        #expect(judge(check, Self.original, held: Self.length - 1) == .breaks(.replyUnknown), "inside the head")
        #expect(judge(check, "<html>\r\n", held: Self.length + 10) == .breaks(.replyDiffers))
        #expect(judge(check, Self.original.replacing("\"a\"", with: "\"b\""), held: Self.length + 10) == .breaks(.replyDiffers))
        #expect(judge(check, Self.original.replacing("\"a\"", with: "\"a\"\r\nX: y"), held: Self.length + 10) == .breaks(.replyDiffers))
        #expect(judge(self.check([]), Self.original, held: Self.length + 10) == .breaks(.replyUnknown))
    }

    @Test func aligns() {
        let longer = Self.original.replacing("\"a\"", with: "\"a\"\r\nX: y")
        let check = check([Self.original], .whole(longerBy: 6))
        #expect(judge(check, longer, held: Self.length + 10) == .continues)
        #expect(judge(check, Self.original, held: Self.length + 10) == .breaks(.replyDiffers), "not what the trial showed")
    }

    @Test func checksTheEnd() {
        var check = check([], .end(bytes: 100))
        check.replay.last = split(get).1.first
        for held: UInt64 in [0, 1] {
            let judge = { (count: Int, end: Int?) in
                check.judge(Array(repeating: 0, count: count), end: end, acknowledged: 5000 + held)
            }
            #expect(judge(100, nil) == .undecided)
            #expect(judge(0, 100) == .continues, "before the rest has come: nothing comes behind it")
            #expect(judge(101, nil) == .breaks(.replyDiffers), "a byte that the client does not have")
            #expect(judge(99, 99) == .breaks(.replyDiffers))
            #expect(judge(100, 101) == .breaks(.replyDiffers))
        }
        #expect(check.judge([], end: 100, acknowledged: 5002) == .breaks(.replyUnknown))
    }

    @Test func checksTheRest() {
        let rest = head("HTTP/1.1 206 P", "Content-Length: 600", "Content-Range: bytes 400-999/1000", "ETag: \"a\"")
        let asked = ContentRange(first: 400, last: 999, total: 1000)
        let check = check([Self.original], .rest(asked, headBytes: rest.utf8.count))
        #expect(judge(check, rest, held: Self.length + 400) == .continues)
        #expect(judge(check, rest.replacing("206 P", with: "206 Part"), held: Self.length + 400) == .breaks(.replyDiffers))
        #expect(judge(check, Self.original, held: Self.length + 400) == .breaks(.replyDiffers))
    }

    @Test func passesInterimReplies() {
        let request = head("PUT / HTTP/1.1", "Expect: 100-continue", "Content-Length: 1") + "x"
        let length = UInt64(Self.interim.utf8.count)
        #expect(judge(check([Self.interim], request: request), Self.interim, held: length) == .continues)
        #expect(judge(check([Self.interim], request: request), Self.original, held: length) == .breaks(.replyDiffers),
            "a server that leaves it out")
        let both = check([Self.interim, Self.original], request: request)
        #expect(judge(both, Self.interim, held: length + Self.length + 5) == .undecided)
        #expect(judge(both, Self.interim + Self.original, held: length + Self.length + 5) == .continues)
        #expect(judge(check([Self.interim], request: request), Self.interim + Self.original, held: length + 5)
            == .breaks(.replyUnknown), "nothing is known of what follows")
    }
}
