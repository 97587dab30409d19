import HTTP
import Model
import Testing

@Suite struct RequestStreamTests {
    struct Sample: CustomTestStringConvertible, Sendable {
        var name: String
        var text: String
        var method: RequestMethod = .get
        /// Bytes behind the request that are not its own.
        var behind = 0
        var traits: Request.Traits = []
        var range = RequestRange.none
        var version = Request.Version.http11
        var testDescription: String { name }
    }

    static let understood = [
        Sample(name: "GET", text: get),
        Sample(name: "HEAD", text: head("HEAD / HTTP/1.1", "Host: a"), method: .head),
        Sample(name: "OPTIONS *", text: head("OPTIONS * HTTP/1.1", "Host: a"), method: .options),
        Sample(name: "DELETE", text: head("DELETE /x HTTP/1.1", "Host: a"), method: .delete),
        Sample(name: "a method's letters count", text: head("get / HTTP/1.1", "Host: a"), method: .other),
        Sample(name: "PROPFIND", text: head("PROPFIND / HTTP/1.1", "Host: a"), method: .other),
        Sample(name: "HTTP/1.0", text: head("GET / HTTP/1.0"), traits: .closes, version: .http10),
        Sample(
            name: "HTTP/1.0 that goes on", text: head("GET / HTTP/1.0", "Connection: x, Keep-Alive"), version: .http10),
        Sample(name: "empty value", text: head("GET / HTTP/1.1", "Host:", "X:   ", "Y:\t")),
        Sample(name: "UTF-8 in the target and in a value", text: head("GET /\u{e4} HTTP/1.1", "Host: a", "X: \u{e4}")),
        Sample(
            name: "Content-Length", text: head("POST / HTTP/1.1", "Host: a", "content-LENGTH:  5 ") + "12345",
            method: .post, traits: .hasBody),
        Sample(name: "Content-Length: 0", text: head("POST / HTTP/1.1", "Content-Length: 0"), method: .post),
        Sample(name: "a body that looks like a request", text: head("PUT / HTTP/1.1", "Content-Length: \(get.utf8.count)") + get,
            method: .put, traits: .hasBody),
        Sample(
            name: "chunks, an extension, trailers",
            text: head("POST / HTTP/1.1", "Transfer-Encoding: Chunked")
                + "5;name=\"v\"\r\nhello\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n",
            method: .post, traits: [.hasBody, .isChunked]),
        Sample(
            name: "chunks without trailers", text: head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "1\r\n\r\r\n0\r\n\r\n",
            method: .post, traits: [.hasBody, .isChunked]),
        Sample(
            name: "Expect", text: head("PUT / HTTP/1.1", "Expect: 100-Continue", "Content-Length: 1") + "x",
            method: .put, traits: [.expectsContinue, .hasBody]),
        Sample(
            name: "Upgrade", text: head("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"),
            traits: .asksUpgrade),
        Sample(
            name: "preconditions", text: head("GET / HTTP/1.1", "If-None-Match: \"a\"", "Accept-Encoding: gzip"),
            traits: [.hasPrecondition, .hasAcceptEncoding]),
        Sample(
            name: "If-Range", text: head("GET / HTTP/1.1", "Range: bytes=5-", "If-Range: \"a\"", "Connection: close"),
            traits: [.hasIfRange, .closes], range: .from(5, through: nil)),
        Sample(name: "range", text: head("GET / HTTP/1.1", "Range: bytes=5-9"), range: .from(5, through: 9)),
        Sample(name: "last range", text: head("GET / HTTP/1.1", "Range: bytes=-9"), range: .last(9)),
        Sample(name: "two ranges", text: head("GET / HTTP/1.1", "Range: bytes=1-2,5-9"), range: .other),
        Sample(name: "range twice", text: head("GET / HTTP/1.1", "Range: bytes=1-2", "Range: bytes=1-2"), range: .other),
        Sample(name: "range of another unit", text: head("GET / HTTP/1.1", "Range: lines=1-2"), range: .other),
        Sample(name: "backward range", text: head("GET / HTTP/1.1", "Range: bytes=9-2"), range: .other),
        Sample(
            name: "a very long range", text: head("GET / HTTP/1.1", "Range: bytes=" + String(repeating: "0", count: 90) + "1-2"),
            range: .other),
        Sample(name: "the next one has begun", text: get + "G", behind: 1),
        Sample(name: "an empty line behind", text: get + "\r\n", behind: 2),
        Sample(name: "a half empty line behind", text: get + "\r", behind: 1),
    ]

    @Test(arguments: understood, [1, 2, 3, 7, Int.max])
    func understands(_ sample: Sample, piece: Int) throws {
        let (stream, queue) = split(sample.text, piece: piece, acknowledged: 77)
        #expect(stream.fault == nil)
        #expect(stream.place == UInt64(sample.text.utf8.count))
        let request = try #require(queue.first)
        #expect(request.start == 0)
        #expect(request.end == UInt64(sample.text.utf8.count - sample.behind))
        #expect(request.acknowledgedAtStart == 77)
        #expect(request.method == sample.method)
        #expect(request.traits == sample.traits)
        #expect(request.range == sample.range)
        #expect(request.version == sample.version)
    }

    struct Fault: CustomTestStringConvertible, Sendable {
        var name: String
        var text: String
        var fault: RequestStream.Fault
        init(_ name: String, _ text: String, _ fault: RequestStream.Fault) {
            (self.name, self.text, self.fault) = (name, text, fault)
        }
        var testDescription: String { name }
    }

    static let faults = [
        Fault("both lengths", head("POST / HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked"), .twoLengths),
        Fault("both lengths, turned", head("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 5"), .twoLengths),
        Fault("two equal lengths", head("POST / HTTP/1.1", "Content-Length: 5", "Content-Length: 5"), .contentLengthRepeated),
        Fault("a list of lengths", head("POST / HTTP/1.1", "Content-Length: 5, 5"), .contentLength),
        Fault("signed length", head("POST / HTTP/1.1", "Content-Length: +5"), .contentLength),
        Fault("negative length", head("POST / HTTP/1.1", "Content-Length: -5"), .contentLength),
        Fault("hexadecimal length", head("POST / HTTP/1.1", "Content-Length: 0x5"), .contentLength),
        Fault("empty length", head("POST / HTTP/1.1", "Content-Length: "), .contentLength),
        Fault("length of 19 digits", head("POST / HTTP/1.1", "Content-Length: 9999999999999999999"), .contentLength),
        Fault("gzip, chunked", head("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked"), .transferCoding),
        Fault("chunked twice", head("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), .transferCoding),
        Fault("vertical tab before chunked", head("POST / HTTP/1.1", "Transfer-Encoding: \u{0b}chunked"), .controlCharacter),
        Fault("xchunked", head("POST / HTTP/1.1", "Transfer-Encoding: xchunked"), .transferCoding),
        Fault("chunked in HTTP/1.0", head("POST / HTTP/1.0", "Transfer-Encoding: chunked"), .transferCoding),
        Fault("folded line", head("GET / HTTP/1.1", "A: b", " c"), .foldedLine),
        Fault("line that starts blank", head("GET / HTTP/1.1", "\tA: b"), .foldedLine),
        Fault("blank before the colon", head("POST / HTTP/1.1", "Content-Length : 5"), .fieldLine),
        Fault("no colon", head("GET / HTTP/1.1", "abc"), .fieldLine),
        Fault("no name", head("GET / HTTP/1.1", ": abc"), .fieldLine),
        Fault("bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", .lineEnd),
        Fault("bare LF behind a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", .lineEnd),
        Fault("bare LF for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n", .lineEnd),
        Fault("bare LF before the request", "\nGET / HTTP/1.1\r\n\r\n", .lineEnd),
        Fault("bare CR in a value", "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", .lineEnd),
        Fault("NUL in a value", "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", .controlCharacter),
        Fault("NUL in a name", "GET / HTTP/1.1\r\nHo\0st: a\r\n\r\n", .fieldLine),
        Fault("no target", "GET  HTTP/1.1\r\n\r\n", .requestLine),
        Fault("HTTP/0.9", "GET /\r\n\r\n", .requestLine),
        Fault("HTTP/1.2", head("GET / HTTP/1.2"), .requestLine),
        Fault("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", .requestLine),
        Fault("small letters", head("GET / http/1.1"), .requestLine),
        Fault("two blanks", head("GET /a b HTTP/1.1"), .requestLine),
        Fault("TLS", "\u{16}\u{03}\u{01}", .requestLine),
        Fault("a very long method", String(repeating: "A", count: 70) + " / HTTP/1.1\r\n\r\n", .requestLine),
        Fault("CONNECT", head("CONNECT a:443 HTTP/1.1", "Host: a"), .tunnel),
        Fault("chunk without size", head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "\r\n", .chunk),
        Fault("chunk size with a sign", head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "-1\r\n", .chunk),
        Fault("chunk size too long", head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "fffffffffffffffff\r\n", .chunk),
        Fault("chunk without CR LF behind", head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "1\r\nxy\r\n", .chunk),
        Fault("chunk size ends in LF", head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "1\nx", .chunk),
        Fault("LF in a chunk extension", head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "1;a\nx", .chunk),
        Fault("folded trailer", head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "0\r\na: b\r\n c\r\n\r\n", .foldedLine),
        Fault("head too long", "GET / HTTP/1.1\r\nA: " + String(repeating: "b", count: 70_000), .headTooLong),
        Fault("target too long", "GET /" + String(repeating: "b", count: 70_000), .headTooLong),
    ]

    @Test(arguments: faults, [1, 5, Int.max])
    func refuses(_ sample: Fault, piece: Int) {
        let (stream, _) = split(sample.text, piece: piece)
        #expect(stream.fault == sample.fault)
        #expect(stream.place == UInt64(sample.text.utf8.count), "what is not understood is counted all the same")
    }

    @Test func keepsRequestsApart() {
        let post = head("POST / HTTP/1.1", "Content-Length: 3") + "abc"
        let (stream, queue) = split(get + "\r\n" + post + get)
        #expect(stream.isBetween)
        #expect(queue.count == 3)
        #expect(queue[1].start == UInt64(get.utf8.count) + 2, "the empty line is no part of a request")
        #expect(queue[1].end == UInt64(get.utf8.count + 2 + post.utf8.count))
        #expect(queue[2].start == queue[1].end)
        #expect(queue[2].method == .get)
    }

    @Test func reportsWhatIsNotComplete() {
        let post = head("POST / HTTP/1.1", "Content-Length: 3")
        let (stream, queue) = split(post + "ab")
        #expect(queue.first?.headEnd == UInt64(post.utf8.count))
        #expect(queue.first?.end == nil)
        #expect(!stream.isBetween)
        #expect(split("PO").1.first?.method == .unknown)
        #expect(split("POST ").1.first?.method == .post)
    }

    @Test func mergesWhatComesOnTop() {
        let post = head("POST / HTTP/1.1", "Content-Length: 1") + "x"
        let count = RequestQueue.limit + 5
        let (stream, queue) = split(String(repeating: get, count: count - 1) + post)
        #expect(stream.fault == nil)
        #expect(queue.count == RequestQueue.limit)
        #expect(queue.last?.count == 6)
        #expect(queue.last?.method == .post, "the method that allows least")
        #expect(queue.last?.end == stream.place)
        #expect(queue.last?.start == UInt64(get.utf8.count * (RequestQueue.limit - 1)))
    }

    @Test func countsBodiesWithoutLookingAtThem() {
        let request = head("PUT / HTTP/1.1", "Content-Length: 5000000000")
        var (stream, queue) = split(request)
        let zeros = [UInt8](repeating: 0, count: 10_000_000)
        for _ in 0..<500 { zeros.withUnsafeBytes { stream.feed($0, acknowledged: 0, into: &queue) } }
        #expect(queue.first?.end == UInt64(request.utf8.count) + 5_000_000_000)
        #expect(stream.isBetween)
    }
}
