/// Splits what a client sends into requests (RFC 9112 2 to 7), byte for byte, in pieces of any size.
///
/// Takes no memory, however long the requests are: bodies are counted, and of a head only what a replay has to know is
/// kept. Strict on purpose: whatever two servers may read in two ways (request smuggling) is a `Fault`, and nothing
/// behind it is read.
public struct RequestStream: Sendable {
    /// Why a stream is not understood.
    public enum Fault: UInt8, Sendable, CaseIterable {
        /// A request line that is none of HTTP/1.0 or HTTP/1.1: another protocol, or another version.
        case requestLine
        /// A field line without a name, or with something between the name and the colon.
        case fieldLine
        /// A field line that goes on in the next line (RFC 9112 5.2).
        case foldedLine
        /// A line that ends without CR, or a CR that no LF follows.
        case lineEnd
        /// A control character where none may be.
        case controlCharacter
        case contentLength
        /// A second Content-Length, or a list of them.
        case contentLengthRepeated
        /// Another transfer coding than `chunked` alone, twice the same, or one in HTTP/1.0.
        case transferCoding
        /// Both Content-Length and Transfer-Encoding (RFC 9112 6.3, number 3).
        case twoLengths
        case chunk
        case headTooLong
        /// CONNECT: what follows is no HTTP.
        case tunnel
    }

    /// A head that is longer is not understood; nginx and Apache stop at 32 KiB and less.
    public static let headBytes: UInt64 = 64 << 10

    enum State: UInt8 {
        case between, betweenLF
        case method, target, version, requestLineLF
        case fieldStart, fieldName, valueStart, value, valueLF, headLF
        case body
        case chunkSizeStart, chunkSize, chunkExtension, chunkSizeLF, chunkData, chunkDataCR, chunkDataLF
        case trailerStart, trailerName, trailerValue, trailerLF, trailersLF
    }

    /// Bytes taken so far.
    public private(set) var place: UInt64 = 0
    public internal(set) var fault: Fault?
    var state = State.between
    var text = ShortText()
    var field = RequestField.other
    var head = HeadLengths()
    var headStart: UInt64 = 0
    /// Bytes of a body or of a chunk that are still to come; a chunk's size while it is read.
    var remaining: UInt64 = 0

    /// - Parameter start: the place of the first byte that will be fed.
    public init(at start: UInt64 = 0) {
        place = start
    }

    /// True between two requests: nothing of the next one was seen.
    public var isBetween: Bool { fault == nil && (state == .between || state == .betweenLF) }

    /// Takes the next bytes of the stream.
    ///
    /// - Parameters:
    ///   - acknowledged: what the client has acknowledged of the replies, by the segment that brought these bytes.
    ///   - requests: gets what begins here; its last record is brought up to date.
    public mutating func feed(
        _ bytes: UnsafeRawBufferPointer,
        acknowledged: UInt64,
        into requests: inout RequestQueue
    ) {
        var at = 0
        while at < bytes.count, fault == nil {
            if state == .body || state == .chunkData {
                let count = min(remaining, UInt64(bytes.count - at))
                remaining -= count
                at += Int(count)
                place += count
                if remaining == 0 { bodyPartOver(&requests) }
            } else {
                let byte = bytes[at]
                if state == .between, byte != .carriageReturn, byte != .lineFeed {
                    requests.begin(Request(start: place, acknowledgedAtStart: acknowledged))
                    head = HeadLengths()
                    headStart = place
                    text.clear()
                    state = .method
                }
                at += 1
                place += 1
                step(byte, &requests)
            }
        }
        place += UInt64(bytes.count - at)
    }

    private mutating func bodyPartOver(_ requests: inout RequestQueue) {
        if state == .body {
            complete(&requests)
        } else {
            state = .chunkDataCR
        }
    }

    private mutating func step(_ byte: UInt8, _ requests: inout RequestQueue) {
        switch state {
        case .between, .betweenLF, .method, .target, .version, .requestLineLF: stepLine(byte, &requests)
        case .fieldStart, .fieldName, .valueStart, .value, .valueLF, .headLF: stepField(byte, &requests)
        case .chunkSizeStart, .chunkSize, .chunkExtension, .chunkSizeLF, .chunkDataCR, .chunkDataLF: stepChunk(byte)
        case .trailerStart, .trailerName, .trailerValue, .trailerLF, .trailersLF: stepTrailer(byte, &requests)
        case .body, .chunkData: break
        }
    }

    // MARK: Request line

    private mutating func stepLine(_ byte: UInt8, _ requests: inout RequestQueue) {
        switch state {
        case .between:
            // RFC 9112 2.2: an empty line before the request line is passed over.
            if byte == .carriageReturn { state = .betweenLF } else { fail(.lineEnd) }
        case .betweenLF:
            if byte == .lineFeed { state = .between } else { fail(.lineEnd) }
        case .method:
            if byte == .space, !text.isEmpty, !text.isCut {
                requests.updateLast { $0.method = RequestMethod(token: text) }
                text.clear()
                state = .target
            } else if byte.isTokenCharacter {
                text.append(byte)
            } else {
                fail(.requestLine)
            }
        case .target:
            if byte == .space, !text.isEmpty {
                text.clear()
                state = .version
            } else if byte.isVisible || byte >= 0x80 {
                text.append(byte)
            } else {
                fail(.requestLine)
            }
        case .version:
            if byte == .carriageReturn {
                state = .requestLineLF
            } else if byte.isVisible {
                text.append(byte)
            } else {
                fail(byte == .lineFeed ? .lineEnd : .requestLine)
            }
        case .requestLineLF:
            guard byte == .lineFeed else {
                fail(.lineEnd)
                return
            }
            if text.equals("HTTP/1.1") {
                head.isHTTP10 = false
            } else if text.equals("HTTP/1.0") {
                head.isHTTP10 = true
                requests.updateLast { $0.version = .http10 }
            } else {
                fail(.requestLine)
                return
            }
            state = .fieldStart
        case .fieldStart, .fieldName, .valueStart, .value, .valueLF, .headLF, .body, .chunkSizeStart, .chunkSize,
            .chunkExtension, .chunkSizeLF, .chunkData, .chunkDataCR, .chunkDataLF, .trailerStart, .trailerName,
            .trailerValue, .trailerLF, .trailersLF:
            break
        }
        if state != .between, state != .betweenLF { boundHead() }
    }

    /// Ends a stream whose head does not end.
    mutating func boundHead() {
        if place - headStart > RequestStream.headBytes { fail(.headTooLong) }
    }

    mutating func fail(_ cause: Fault) {
        if fault == nil { fault = cause }
    }

    mutating func complete(_ requests: inout RequestQueue) {
        let end = place
        requests.updateLast { $0.end = end }
        requests.settle()
        state = .between
    }
}

/// How long a body is, as its head says it.
struct HeadLengths: Sendable {
    var isHTTP10 = false
    var contentLength: UInt64?
    var isChunked = false
    /// `Connection: keep-alive`, or a list that may have it.
    var keepsAlive = false
}

/// The requests of one connection that are not known to be answered in full, oldest first.
public struct RequestQueue: Sendable {
    /// What comes on top is merged into the last record.
    public static let limit = 16

    private var records: [Request] = []
    /// The last record is to be merged into the one before it as soon as it is complete.
    private var mergesLast = false

    public init() {}

    public var count: Int { records.count }
    public var isEmpty: Bool { records.isEmpty }
    public var first: Request? { records.first }
    public var last: Request? { records.last }
    public subscript(_ index: Int) -> Request { records[index] }

    mutating func begin(_ request: Request) {
        mergesLast = records.count >= Self.limit
        records.append(request)
    }

    mutating func updateLast(_ body: (inout Request) -> Void) {
        guard !records.isEmpty else { return }
        body(&records[records.count - 1])
    }

    /// Called when the last request is complete.
    mutating func settle() {
        guard mergesLast, let last = records.popLast() else { return }
        mergesLast = false
        updateLast { $0.merge(last) }
    }

    mutating func removeFirst(_ count: Int) {
        records.removeFirst(min(count, records.count))
        if records.count <= Self.limit { mergesLast = false }
    }
}
