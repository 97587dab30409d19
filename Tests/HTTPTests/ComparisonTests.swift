import HTTP
import Model
import Testing

/// The measured behaviour of nginx, Apache, lighttpd and Caddy (facts.md 2.2 and 2.3), one row each.
@Suite struct ComparisonTests {
    struct Pair: CustomTestStringConvertible, Sendable {
        var name: String
        var original: String
        var regenerated: String
        var verdict: ReplyComparison
        var method = RequestMethod.get
        init(_ name: String, _ original: String, _ regenerated: String, _ verdict: ReplyComparison, _ method: RequestMethod = .get) {
            (self.name, self.original, self.regenerated) = (name, original, regenerated)
            (self.verdict, self.method) = (verdict, method)
        }
        var testDescription: String { name }
    }

    static func ok(_ lines: String...) -> String {
        (["HTTP/1.1 200 OK", "Content-Length: 1000"] + lines).joined(separator: "\r\n") + "\r\n\r\n"
    }
    static let modified = "Last-Modified: Sat, 21 Nov 2026 04:00:00 GMT"

    static let pairs = [
        Pair("nginx: same second, same size", ok("ETag: \"65-3e8\"", modified), ok("ETag: \"65-3e8\"", modified), .same),
        Pair("nginx: another second", ok("ETag: \"65-3e8\""), ok("ETag: \"66-3e8\""), .different(.entityTag)),
        Pair("Apache: microseconds differ", ok("ETag: \"3e8-5f1\"", modified), ok("ETag: \"3e8-5f2\"", modified), .different(.entityTag)),
        Pair("Apache: FileETag None", ok(modified), ok(modified), .same),
        Pair(
            "Apache: Keep-Alive counts down over 100", ok("ETag: \"a\"", "Keep-Alive: timeout=5, max=99"),
            ok("ETag: \"a\"", "Keep-Alive: timeout=5, max=100"), .aligned(by: 1)),
        Pair(
            "Apache: Keep-Alive counts down below 100", ok("ETag: \"a\"", "Keep-Alive: timeout=5, max=98"),
            ok("ETag: \"a\"", "Keep-Alive: timeout=5, max=99"), .same),
        Pair("Apache: changed a second ago, weak", ok("ETag: W/\"a\"", modified), ok("ETag: W/\"a\"", modified), .unproven(.validator)),
        Pair("lighttpd: another inode", ok("ETag: \"1234\"", modified), ok("ETag: \"5678\"", modified), .different(.entityTag)),
        Pair("Caddy: a strong tag that covers gzip too", head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "ETag: \"c\"", "Content-Encoding: gzip"),
            ok("ETag: \"c\""), .different(.contentEncoding)),
        Pair("nginx: gzip on the fly", head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "ETag: W/\"c\"", "Content-Encoding: gzip"),
            head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "ETag: W/\"c\"", "Content-Encoding: gzip"), .unproven(.framing)),
        Pair("Apache: gzip on the fly, tag in another form", head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "ETag: \"c-gzip\"", "Content-Encoding: gzip"),
            head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "ETag: \"c-gzip\"", "Content-Encoding: gzip"), .unproven(.framing)),
        Pair("until the end of the connection", head("HTTP/1.1 200 OK", "ETag: \"c\""), head("HTTP/1.1 200 OK", "ETag: \"c\""), .unproven(.framing)),
        Pair("length against chunks", ok("ETag: \"c\""), head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "ETag: \"c\""), .different(.framing)),
        Pair("another length", ok(modified), head("HTTP/1.1 200 OK", "Content-Length: 999", modified), .different(.framing)),
        Pair("another status", ok("ETag: \"c\""), head("HTTP/1.1 404 Not Found", "Content-Length: 1000", "ETag: \"c\""), .different(.status)),
        Pair("a tag on one side only", ok("ETag: \"c\"", modified), ok(modified), .different(.entityTag)),
        Pair("a strong tag against a weak one", ok("ETag: \"c\""), ok("ETag: W/\"c\""), .different(.entityTag)),
        Pair("other dates, equal strong tags", ok("ETag: \"c\"", modified), ok("ETag: \"c\"", "Last-Modified: Sun, 22 Nov 2026 04:00:00 GMT"), .same),
        Pair("other dates, no tags", ok(modified), ok("Last-Modified: Sun, 22 Nov 2026 04:00:00 GMT"), .different(.lastModified)),
        Pair("nothing to go by", ok(), ok(), .unproven(.validator)),
        Pair("a longer Server field", ok("ETag: \"c\"", "Server: a"), ok("ETag: \"c\"", "Server: abcd"), .aligned(by: 3)),
        Pair("a shorter one, by date", ok(modified, "Server: abcd"), ok(modified, "Server: a"), .aligned(by: -3)),
        Pair("a page of an error", head("HTTP/1.1 404 Not Found", "Content-Length: 5"), head("HTTP/1.1 404 Not Found", "Content-Length: 5"), .unproven(.validator)),
        Pair("no content", head("HTTP/1.1 204 No Content"), head("HTTP/1.1 204 No Content"), .same),
        Pair("not modified, another tag", head("HTTP/1.1 304 Not Modified", "ETag: \"a\""), head("HTTP/1.1 304 Not Modified", "ETag: \"b\""), .different(.entityTag)),
        Pair("HEAD without validators", ok(), ok(), .same, .head),
        Pair("Caddy: HEAD with nanoseconds", ok("ETag: \"a1\""), ok("ETag: \"a2\""), .different(.entityTag), .head),
        Pair("empty reply", head("HTTP/1.1 200 OK", "Content-Length: 0"), head("HTTP/1.1 200 OK", "Content-Length: 0"), .same),
        Pair("part, same range", head("HTTP/1.1 206 P", "Content-Length: 5", "Content-Range: bytes 5-9/100", "ETag: \"c\""),
            head("HTTP/1.1 206 P", "Content-Length: 5", "Content-Range: bytes 5-9/100", "ETag: \"c\""), .same),
        Pair("part, another total", head("HTTP/1.1 206 P", "Content-Length: 5", "Content-Range: bytes 5-9/100", "ETag: \"c\""),
            head("HTTP/1.1 206 P", "Content-Length: 5", "Content-Range: bytes 5-9/101", "ETag: \"c\""), .different(.contentRange)),
        Pair("several parts: the boundary is random", head("HTTP/1.1 206 P", "Content-Length: 5", "ETag: \"c\""),
            head("HTTP/1.1 206 P", "Content-Length: 5", "ETag: \"c\""), .unproven(.validator)),
    ]

    @Test(arguments: pairs)
    func wholeReplies(_ pair: Pair) throws {
        let original = try #require(ReplyHead.facts(pair.original))
        let regenerated = try #require(ReplyHead.facts(pair.regenerated))
        #expect(ReplyComparison.whole(original, regenerated, answering: pair.method) == pair.verdict)
    }

    static let asked = ContentRange(first: 400, last: 999, total: 1000)

    static let rests = [
        Pair("right", ok("ETag: \"c\""), head("HTTP/1.1 206 P", "Content-Range: bytes 400-999/1000", "Content-Length: 600", "ETag: \"c\""), .same),
        Pair("Caddy: gzip of the identity range", ok("ETag: \"c\""),
            head("HTTP/1.1 206 P", "Content-Range: bytes 400-999/1000", "Content-Length: 600", "ETag: \"c\"", "Content-Encoding: gzip"), .different(.contentEncoding)),
        Pair("nginx: Range ignored", ok("ETag: \"c\""), ok("ETag: \"c\""), .different(.status)),
        Pair("the file is shorter now", ok("ETag: \"c\""), head("HTTP/1.1 416 No", "Content-Range: bytes */300"), .different(.status)),
        Pair("nginx starts elsewhere", ok("ETag: \"c\""), head("HTTP/1.1 206 P", "Content-Range: bytes 0-999/1000", "Content-Length: 1000", "ETag: \"c\""), .different(.contentRange)),
        Pair("another total", ok("ETag: \"c\""), head("HTTP/1.1 206 P", "Content-Range: bytes 400-999/1001", "Content-Length: 600", "ETag: \"c\""), .different(.contentRange)),
        Pair("ends earlier", ok("ETag: \"c\""), head("HTTP/1.1 206 P", "Content-Range: bytes 400-998/1000", "Content-Length: 599", "ETag: \"c\""), .different(.contentRange)),
        Pair("no Content-Range", ok("ETag: \"c\""), head("HTTP/1.1 206 P", "Content-Length: 600", "ETag: \"c\""), .different(.contentRange)),
        Pair("chunked", ok("ETag: \"c\""), head("HTTP/1.1 206 P", "Content-Range: bytes 400-999/1000", "Transfer-Encoding: chunked", "ETag: \"c\""), .different(.framing)),
        Pair("another tag", ok("ETag: \"c\""), head("HTTP/1.1 206 P", "Content-Range: bytes 400-999/1000", "Content-Length: 600", "ETag: \"d\""), .different(.entityTag)),
        Pair("no tag", ok("ETag: \"c\""), head("HTTP/1.1 206 P", "Content-Range: bytes 400-999/1000", "Content-Length: 600"), .different(.entityTag)),
        Pair("weak tags", ok("ETag: W/\"c\""), head("HTTP/1.1 206 P", "Content-Range: bytes 400-999/1000", "Content-Length: 600", "ETag: W/\"c\""), .unproven(.validator)),
    ]

    @Test(arguments: rests)
    func restsOfReplies(_ pair: Pair) throws {
        let original = try #require(ReplyHead.facts(pair.original))
        let regenerated = try #require(ReplyHead.facts(pair.regenerated))
        #expect(ReplyComparison.rest(original, regenerated, asked: Self.asked) == pair.verdict)
    }
}

@Suite struct RangeRewriteTests {
    static let facts = ReplyFacts(
        status: 200, headBytes: 250, framing: .length(1000), etag: EntityTag(isWeak: false, value: Array("\"c\"".utf8)))

    private func rewrite(
        _ text: String, _ facts: ReplyFacts = RangeRewriteTests.facts, held: UInt64 = 400, minimum: UInt64? = 100
    ) throws -> RangeRewrite.Rewritten {
        let request = try #require(split(text).1.first)
        let bytes = Array(text.utf8).prefix(Int(request.headEnd ?? 0))
        return try RangeRewrite.rewrite(Array(bytes), request, facts: facts, held: held, minimum: minimum)
    }

    @Test func insertsARange() throws {
        let rewritten = try rewrite(get)
        let expected = head("GET /large.bin HTTP/1.1", "Host: example.org", "Range: bytes=400-999", "If-Range: \"c\"")
        #expect(String(decoding: rewritten.head, as: UTF8.self) == expected)
        #expect(rewritten.inserted == expected.utf8.count - get.utf8.count)
        #expect(rewritten.asked == ContentRange(first: 400, last: 999, total: 1000))
        let (stream, queue) = split(expected)
        #expect(stream.isBetween && queue.first?.range == .from(400, through: 999))
    }

    @Test(arguments: ["bytes=100-299", "bytes=-900"])
    func shiftsTheClientsOwn(_ range: String) throws {
        var facts = Self.facts
        facts.status = 206
        facts.framing = .length(200)
        facts.contentRange = ContentRange(first: 100, last: 299, total: 1000)
        let rewritten = try rewrite(head("GET / HTTP/1.1", "rAnge: \(range)", "Host: a"), facts, held: 150)
        #expect(String(decoding: rewritten.head, as: UTF8.self)
            == head("GET / HTTP/1.1", "Host: a", "Range: bytes=250-299", "If-Range: \"c\""))
        #expect(rewritten.asked == ContentRange(first: 250, last: 299, total: 1000))
    }

    struct Case: CustomTestStringConvertible, Sendable {
        var name: String
        var text = get
        var facts = RangeRewriteTests.facts
        var held: UInt64 = 400
        var minimum: UInt64? = 100
        var obstacle: RangeRewrite.Obstacle
        var testDescription: String { name }
    }

    private static func changed(_ body: (inout ReplyFacts) -> Void) -> ReplyFacts {
        var facts = RangeRewriteTests.facts
        body(&facts)
        return facts
    }

    static let cases = [
        Case(name: "too little", held: 99, obstacle: .belowSize),
        Case(name: "off", minimum: nil, obstacle: .belowSize),
        Case(name: "nothing at all", held: 0, minimum: 0, obstacle: .belowSize),
        Case(name: "HEAD", text: head("HEAD / HTTP/1.1"), obstacle: .method),
        Case(name: "POST", text: head("POST / HTTP/1.1"), obstacle: .method),
        Case(name: "GET with a body", text: head("GET / HTTP/1.1", "Content-Length: 1") + "x", obstacle: .method),
        Case(name: "HTTP/1.0", text: head("GET / HTTP/1.0"), obstacle: .version),
        Case(name: "HTTP/1.0 reply", facts: changed { $0.version = .http10 }, obstacle: .version),
        Case(name: "several ranges", text: head("GET / HTTP/1.1", "Range: bytes=1-2,3-4"), obstacle: .ranges),
        Case(name: "range ignored by the server", text: head("GET / HTTP/1.1", "Range: bytes=1-"), obstacle: .rangeIgnored),
        Case(
            name: "several parts", text: head("GET / HTTP/1.1", "Range: bytes=1-"), facts: changed { $0.status = 206 },
            obstacle: .ranges),
        Case(name: "If-Range", text: head("GET / HTTP/1.1", "If-Range: \"x\""), obstacle: .precondition),
        Case(name: "If-None-Match", text: head("GET / HTTP/1.1", "If-None-Match: \"x\""), obstacle: .precondition),
        Case(name: "gzip", facts: changed { $0.contentEncoding = Array("gzip".utf8) }, obstacle: .contentEncoding),
        Case(name: "chunked", facts: changed { $0.framing = .chunked }, obstacle: .framing),
        Case(name: "404", facts: changed { $0.status = 404 }, obstacle: .status),
        Case(name: "no tag", facts: changed { $0.etag = nil }, obstacle: .validator),
        Case(name: "weak tag", facts: changed { $0.etag?.isWeak = true }, obstacle: .validator),
        Case(name: "everything is there", held: 1000, obstacle: .nothingLeft),
    ]

    @Test(arguments: cases)
    func leavesAlone(_ sample: Case) {
        #expect(throws: sample.obstacle) {
            try rewrite(sample.text, sample.facts, held: sample.held, minimum: sample.minimum)
        }
    }
}
