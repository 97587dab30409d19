import HTTP
import Testing

@Suite struct ReplyHeadTests {
    @Test func readsNginx() throws {
        let text = head(
            "HTTP/1.1 200 OK", "Server: nginx/1.22.1", "Date: Sat, 21 Nov 2026 05:00:00 GMT",
            "Content-Type: application/octet-stream", "Content-Length: 200000000",
            "Last-Modified: Sat, 21 Nov 2026 04:00:00 GMT", "Connection: keep-alive", "ETag: \"65-bebc200\"",
            "Accept-Ranges: bytes")
        let facts = try #require(ReplyHead.facts(text + "body"))
        #expect(facts.status == 200)
        #expect(facts.headBytes == UInt32(text.utf8.count))
        #expect(facts.framing == .length(200_000_000))
        #expect(facts.etag == EntityTag(isWeak: false, value: Array("\"65-bebc200\"".utf8)))
        #expect(facts.lastModified == Array("Sat, 21 Nov 2026 04:00:00 GMT".utf8))
        #expect(facts.contentEncoding == nil && facts.contentRange == nil && !facts.closes)
    }

    @Test func readsTheRest() throws {
        let facts = try #require(
            ReplyHead.facts(
                head(
                    "HTTP/1.0 206", "content-range: bytes 5-9/100", "CONTENT-LENGTH:5", "ETag: W/\"x\"",
                    "Content-Encoding: GZip", "Connection: Close")))
        #expect(facts.version == .http10)
        #expect(facts.contentRange == ContentRange(first: 5, last: 9, total: 100))
        #expect(facts.etag?.isWeak == true)
        #expect(facts.contentEncoding == Array("gzip".utf8))
        #expect(facts.closes)
        #expect(ReplyHead.facts(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"))?.framing == .chunked)
        #expect(ReplyHead.facts(head("HTTP/1.1 200 OK"))?.framing == .untilClose)
        #expect(ReplyHead.facts(head("HTTP/1.1 200 OK", "Content-Encoding: identity"))?.contentEncoding == nil)
    }

    @Test(arguments: ["HTTP/1.1 100 Continue", "HTTP/1.1 103 Early Hints"])
    func knowsInterimReplies(_ line: String) { #expect(ReplyHead.facts(head(line))?.isInterim == true) }

    @Test func knowsThat101IsTheEnd() { #expect(ReplyHead.facts(head("HTTP/1.1 101 Switching"))?.isInterim == false) }

    @Test func knowsBodiesThatAreNone() throws {
        let ok = try #require(ReplyHead.facts(head("HTTP/1.1 200 OK", "Content-Length: 7")))
        #expect(ok.bodyBytes(answering: .get) == 7)
        #expect(ok.bodyBytes(answering: .head) == 0)
        for line in ["HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified", "HTTP/1.1 100 Continue"] {
            let facts = try #require(ReplyHead.facts(head(line, "Content-Length: 7")))
            #expect(facts.bodyBytes(answering: .get) == 0, "\(line)")
        }
        let chunked = try #require(ReplyHead.facts(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")))
        #expect(chunked.bodyBytes(answering: .get) == nil)
        #expect(chunked.bodyBytes(answering: .head) == 0)
    }

    static let malformed = [
        "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.2 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000\r\n\r\n",
        "HTTP/1.1 999 OK\r\n\r\n", "HTTP/1.1 099 OK\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n", "http/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n", "HTTP/1.1 200 OK\n\n", "HTTP/1.1 200 OK\r\nA: b\n\r\n", "HTTP/1.1 200 OK\r\nA\r\n\r\n",
        "HTTP/1.1 200 OK\r\n A: b\r\n\r\n", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nETag: \"b\"\r\n\r\n",
        "HTTP/1.1 200 OK\r\nLast-Modified: a\r\nLast-Modified: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: " + String(repeating: "b", count: 17_000),
    ]

    @Test(arguments: malformed)
    func refuses(_ text: String) { #expect(ReplyHead.parse(Array(text.utf8)) == .malformed) }

    @Test func waitsForTheRest() {
        let text = Array(head("HTTP/1.1 200 OK", "Content-Length: 7", "ETag: \"a\"").utf8)
        for count in 0..<text.count { #expect(ReplyHead.parse(Array(text[..<count])) == .incomplete, "\(count) bytes") }
    }

    /// What is no entity tag must not make two replies equal.
    @Test(arguments: ["a", "\"a", "a\"", "\"a\"b\"", "\"a b\"", "w/\"a\"", "\"", "", "\"" + String(repeating: "x", count: 200) + "\""])
    func takesNoProofFrom(_ tag: String) throws {
        let facts = try #require(ReplyHead.facts(head("HTTP/1.1 200 OK", "Content-Length: 7", "ETag: \(tag)")))
        #expect(facts.etag?.isWeak == true)
        #expect(ReplyComparison.whole(facts, facts, answering: .get) == .unproven(.validator))
    }

    @Test(arguments: ["bytes */100", "bytes 5-9/*", "bytes 9-5/100", "bytes 5-100/100", "items 5-9/100", "bytes=5-9/100", "bytes 5-9", "5-9/100", ""])
    func takesNoRangeFrom(_ value: String) throws {
        let facts = try #require(ReplyHead.facts(head("HTTP/1.1 206 Part", "Content-Length: 5", "Content-Range: \(value)")))
        #expect(facts.contentRange == nil)
    }
}
