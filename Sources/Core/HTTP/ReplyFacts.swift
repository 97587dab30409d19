/// What the head of a reply says about the reply: enough to tell whether another server's is the same.
///
/// Small and bounded, for it travels from every primary to its backups with each reply.
public struct ReplyFacts: Hashable, Sendable {
    public var status: UInt16
    /// From the status line to the empty line, both included.
    public var headBytes: UInt32
    public var version: Request.Version
    public var framing: Framing
    public var etag: EntityTag?
    /// The field's value as it stands there; compared, never computed with.
    public var lastModified: [UInt8]?
    /// In small letters; nil: none, or `identity`.
    public var contentEncoding: [UInt8]?
    public var contentRange: ContentRange?
    /// `Connection: close`, or HTTP/1.0 without `keep-alive`: the server closes behind it (RFC 9112 9.3).
    public var closes: Bool

    /// How the end of the body is told (RFC 9112 6.3), the method of the request and the status aside.
    public enum Framing: Hashable, Sendable {
        case length(UInt64)
        case chunked
        /// Neither a length nor chunks: the end of the connection.
        case untilClose
    }

    public init(
        status: UInt16,
        headBytes: UInt32,
        version: Request.Version = .http11,
        framing: Framing,
        etag: EntityTag? = nil,
        lastModified: [UInt8]? = nil,
        contentEncoding: [UInt8]? = nil,
        contentRange: ContentRange? = nil,
        closes: Bool = false
    ) {
        self.status = status
        self.headBytes = headBytes
        self.version = version
        self.framing = framing
        self.etag = etag
        self.lastModified = lastModified
        self.contentEncoding = contentEncoding
        self.contentRange = contentRange
        self.closes = closes
    }

    /// An interim reply (RFC 9110 15.2): another head follows. 101 is none: it ends HTTP.
    public var isInterim: Bool { status < 200 && status != 101 }

    /// The bytes of the body that answers a request with this method; nil where the head does not say it.
    public func bodyBytes(answering method: RequestMethod) -> UInt64? {
        if method == .head || status < 200 || status == 204 || status == 304 { return 0 }
        switch framing {
        case .length(let length): return length
        case .chunked, .untilClose: return nil
        }
    }
}

/// An entity tag (RFC 9110 8.8.3).
public struct EntityTag: Hashable, Sendable {
    /// Longer ones are not kept: nothing can be proved with them.
    public static let byteLimit = 96

    /// `W/`: equal tags do not say that the bytes are equal.
    public var isWeak: Bool
    /// With its quotation marks, without `W/`.
    public var value: [UInt8]

    public init(isWeak: Bool, value: [UInt8]) {
        self.isWeak = isWeak
        self.value = value
    }
}

/// `Content-Range: bytes first-last/total` (RFC 9110 14.4).
public struct ContentRange: Hashable, Sendable {
    public var first: UInt64
    public var last: UInt64
    public var total: UInt64

    public init(first: UInt64, last: UInt64, total: UInt64) {
        self.first = first
        self.last = last
        self.total = total
    }
}

/// The head of a reply, and where it starts in the stream of replies.
public struct ReplyReport: Hashable, Sendable {
    /// Counted from the first byte of the stream of replies.
    public var place: UInt64
    public var facts: ReplyFacts

    public init(place: UInt64, facts: ReplyFacts) {
        self.place = place
        self.facts = facts
    }
}
