/// The rewriting of a request so that only the rest of its reply is regenerated ([Z] VI-C).
public enum RangeRewrite {
    /// A request that asks for the rest.
    public struct Rewritten: Hashable, Sendable {
        /// The new head.
        public var head: [UInt8]
        /// So much longer than the client's own head is it; negative where it is shorter.
        public var inserted: Int
        /// What it asks for, and what its reply has to say in `Content-Range`.
        public var asked: ContentRange
    }

    /// Why a request is replayed as it is.
    public enum Obstacle: UInt8, Error, Sendable, CaseIterable {
        /// The client has less than the configured number of bytes, or the configuration says never.
        case belowSize
        /// Not GET, or with a body of its own.
        case method
        /// HTTP/1.0: servers differ in what they do about Range (facts of lighttpd and nginx).
        case version
        /// The client asked for several ranges, or for what we cannot read.
        case ranges
        /// The client asked for a range and was sent everything, or the other way round.
        case rangeIgnored
        /// The client's own If-Range or another precondition: what the server made of it is not known.
        case precondition
        case status
        case contentEncoding
        /// Chunked, or until the end of the connection: the length of the whole is not known.
        case framing
        /// No strong entity tag.
        case validator
        /// The client has all of the body.
        case nothingLeft
        /// The head's bytes are not what the record says.
        case head
    }

    /// Rewrites a request.
    ///
    /// - Parameters:
    ///   - head: the bytes of the request's head, the empty line included.
    ///   - facts: of the reply that the client has a part of.
    ///   - held: bytes of its body that the client has.
    ///   - minimum: bytes from which on it is worth while; nil: never.
    /// - Throws: why the request has to be replayed as it is.
    public static func rewrite(
        _ head: [UInt8],
        _ request: Request,
        facts: ReplyFacts,
        held: UInt64,
        minimum: UInt64?
    ) throws(Obstacle) -> Rewritten {
        guard let minimum, held >= minimum, held > 0 else { throw .belowSize }
        guard request.method == .get, !request.traits.contains(.hasBody), request.isComplete, request.count == 1 else {
            throw .method
        }
        guard request.version == .http11, facts.version == .http11 else { throw .version }
        guard request.traits.isDisjoint(with: [.hasIfRange, .hasPrecondition]) else { throw .precondition }
        guard facts.contentEncoding == nil else { throw .contentEncoding }
        guard case .length(let length) = facts.framing else { throw .framing }
        let asked = try self.asked(request, facts, length: length, held: held)
        guard let etag = facts.etag, !etag.isWeak else { throw .validator }
        return try build(head, request, asked, etag)
    }

    private static func asked(
        _ request: Request,
        _ facts: ReplyFacts,
        length: UInt64,
        held: UInt64
    ) throws(Obstacle) -> ContentRange {
        guard request.range != .other else { throw .ranges }
        guard held < length else { throw .nothingLeft }
        switch (facts.status, request.range == RequestRange.none) {
        case (200, true):
            return ContentRange(first: held, last: length - 1, total: length)
        case (206, false):
            guard let range = facts.contentRange, range.last - range.first + 1 == length else { throw .ranges }
            return ContentRange(first: range.first + held, last: range.last, total: range.total)
        case (200, false), (206, true):
            throw .rangeIgnored
        case _:
            throw .status
        }
    }

    /// The client's own Range field goes, ours stands at the end of the head.
    private static func build(
        _ head: [UInt8],
        _ request: Request,
        _ asked: ContentRange,
        _ etag: EntityTag
    ) throws(Obstacle) -> Rewritten {
        guard let headEnd = request.headEnd, UInt64(head.count) == headEnd - request.start, head.count >= 4,
            head.suffix(4).elementsEqual([.carriageReturn, .lineFeed, .carriageReturn, .lineFeed])
        else { throw .head }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(head.count + 160)
        var removed = 0
        var line = 0
        for index in head.indices where head[index] == .lineFeed {
            let isRange = starts(head[line...index], "range:")
            if isRange { removed += 1 } else { bytes += head[line...index] }
            line = index + 1
        }
        guard removed == (request.range == RequestRange.none ? 0 : 1) else { throw .head }
        bytes.removeLast(2)
        bytes += "Range: bytes=\(asked.first)-\(asked.last)\r\nIf-Range: ".utf8
        bytes += etag.value
        bytes += "\r\n\r\n".utf8
        return Rewritten(head: bytes, inserted: bytes.count - head.count, asked: asked)
    }

    private static func starts(_ line: ArraySlice<UInt8>, _ name: StaticString) -> Bool {
        guard line.count >= name.utf8CodeUnitCount else { return false }
        let known = UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
        return zip(line, known).allSatisfy { $0.lowercased == $1 }
    }
}
