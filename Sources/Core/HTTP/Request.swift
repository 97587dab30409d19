/// One request of a client's stream, as far as it was seen. Places count from the first byte of the connection.
public struct Request: Hashable, Sendable {
    /// Where its request line starts.
    public var start: UInt64
    /// What the client had acknowledged of the replies when the first byte of the request was seen.
    public var acknowledgedAtStart: UInt64
    /// Behind the empty line that ends the head; nil while the head is not complete.
    public var headEnd: UInt64?
    /// Behind the last byte of the body, trailers included; nil while the request is not complete.
    public var end: UInt64?
    public var method = RequestMethod.unknown
    public var version = Version.http11
    public var range = RequestRange.none
    public var traits: Traits = []
    /// Requests that this record stands for: more than one where a client has more of them on its way than are kept
    /// apart. `method` is then the one that allows least.
    public var count: UInt32 = 1

    public enum Version: UInt8, Sendable {
        case http10 = 0
        case http11 = 1
    }

    /// What else a replay has to know of the head.
    public struct Traits: OptionSet, Hashable, Sendable {
        public let rawValue: UInt16
        public init(rawValue: UInt16) { self.rawValue = rawValue }

        /// A body of a length above 0, or a chunked one.
        public static let hasBody = Traits(rawValue: 1 << 0)
        public static let isChunked = Traits(rawValue: 1 << 1)
        /// `Expect: 100-continue`.
        public static let expectsContinue = Traits(rawValue: 1 << 2)
        /// An `Upgrade` field: the server may go over to another protocol with its reply.
        public static let asksUpgrade = Traits(rawValue: 1 << 3)
        public static let hasIfRange = Traits(rawValue: 1 << 4)
        /// If-Match, If-None-Match, If-Modified-Since or If-Unmodified-Since.
        public static let hasPrecondition = Traits(rawValue: 1 << 5)
        public static let hasAcceptEncoding = Traits(rawValue: 1 << 6)
        /// `Connection: close`, or HTTP/1.0 without `keep-alive`: the server closes behind its reply (RFC 9112 9.3).
        public static let closes = Traits(rawValue: 1 << 7)
    }

    public init(start: UInt64, acknowledgedAtStart: UInt64) {
        self.start = start
        self.acknowledgedAtStart = acknowledgedAtStart
    }

    public var isComplete: Bool { end != nil }

    /// Takes the next request into this record.
    mutating func merge(_ next: Request) {
        if rank(next.method) > rank(method) { method = next.method }
        traits.formUnion(next.traits)
        end = next.end
        count &+= next.count
    }

    private func rank(_ method: RequestMethod) -> Int {
        if method.isSafe { return 0 }
        if method.isIdempotent { return 1 }
        return method == .unknown ? 3 : 2
    }
}

/// A request's Range field (RFC 9110 14.2).
public enum RequestRange: Hashable, Sendable {
    case none
    /// `bytes=first-last`, or to the end.
    case from(UInt64, through: UInt64?)
    /// `bytes=-length`: the last bytes.
    case last(UInt64)
    /// More than one range, more than one field, another unit, or nothing that we can read.
    case other

    /// Reads the value of one field.
    init(_ value: ShortText) {
        self = .other
        let start = 6
        guard !value.isCut, value.starts(with: "bytes="), let dash = value.place(of: 0x2d, from: start) else { return }
        let behind = dash + 1
        if dash == start {
            if let length = value.number(from: behind, to: value.count) { self = .last(length) }
            return
        }
        guard let first = value.number(from: start, to: dash) else { return }
        if behind == value.count {
            self = .from(first, through: nil)
        } else if let last = value.number(from: behind, to: value.count), last >= first {
            self = .from(first, through: last)
        }
    }
}
