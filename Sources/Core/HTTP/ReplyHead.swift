/// Reads the head of a reply. Hostile input never traps; whatever two readers may take in two ways is malformed.
public enum ReplyHead {
    public enum Parsing: Hashable, Sendable {
        case facts(ReplyFacts)
        /// The bytes are the beginning of a head.
        case incomplete
        case malformed
    }

    /// A longer head is malformed.
    public static let byteLimit = 16 << 10

    /// Reads the head with which the bytes begin.
    public static func parse(_ bytes: UnsafeRawBufferPointer) -> Parsing {
        var lines = Lines(bytes: bytes)
        guard case .line(let first) = lines.next() else { return lines.end }
        guard var reply = StatusLine(bytes, first) else { return .malformed }
        while true {
            guard case .line(let line) = lines.next() else { return lines.end }
            if line.isEmpty { break }
            guard reply.take(bytes, line) else { return .malformed }
        }
        guard let facts = reply.facts(headBytes: lines.at) else { return .malformed }
        return .facts(facts)
    }

    public static func parse(_ bytes: [UInt8]) -> Parsing { bytes.withUnsafeBytes { parse($0) } }

    /// Cuts a head into lines, each without its CR LF.
    private struct Lines {
        enum Step {
            case line(Range<Int>)
            case over
        }

        let bytes: UnsafeRawBufferPointer
        var at = 0
        var end = Parsing.incomplete

        mutating func next() -> Step {
            let start = at
            let limit = min(bytes.count, ReplyHead.byteLimit)
            while at < limit {
                let byte = bytes[at]
                at += 1
                if byte == .carriageReturn {
                    guard at < limit else { break }
                    guard bytes[at] == .lineFeed else { return fail() }
                    at += 1
                    return .line(start..<at - 2)
                }
                if !byte.isFieldContent { return fail() }
            }
            end = limit < ReplyHead.byteLimit ? .incomplete : .malformed
            return .over
        }

        private mutating func fail() -> Step {
            end = .malformed
            return .over
        }
    }
}

/// The status line, and what the fields after it add.
private struct StatusLine {
    let status: UInt16
    let version: Request.Version
    private var contentLength: UInt64?
    private var isChunked = false
    private var etag: EntityTag?
    private var lastModified: [UInt8]?
    private var contentEncoding: [UInt8]?
    private var contentRange: ContentRange?
    private var closes = false
    private var keepsAlive = false
    private var seen: Set<RequestFieldName> = []

    private enum RequestFieldName: Hashable {
        case contentLength, transferEncoding, etag, lastModified, contentEncoding, contentRange
    }

    /// `HTTP/1.x SP 3DIGIT [SP reason]` (RFC 9112 4); some servers leave the last space out.
    init?(_ bytes: UnsafeRawBufferPointer, _ line: Range<Int>) {
        let start = line.lowerBound
        guard line.count >= 12, starts(bytes, start, "HTTP/1.") else { return nil }
        switch bytes[start + 7] {
        case 0x30: version = .http10
        case 0x31: version = .http11
        case _: return nil
        }
        guard bytes[start + 8] == .space, line.count == 12 || bytes[start + 12] == .space else { return nil }
        var value: UInt16 = 0
        for index in start + 9..<start + 12 {
            guard let digit = bytes[index].decimalDigit else { return nil }
            value = value * 10 + UInt16(digit)
        }
        guard value >= 100, value < 600 else { return nil }
        status = value
    }

    /// Takes one field line in; false when it is malformed, or a second one of what there is but one of.
    mutating func take(_ bytes: UnsafeRawBufferPointer, _ line: Range<Int>) -> Bool {
        guard let colon = line.first(where: { bytes[$0] == .colon }), colon > line.lowerBound else { return false }
        var name = ShortText()
        for index in line.lowerBound..<colon {
            guard bytes[index].isTokenCharacter else { return false }
            name.append(bytes[index].lowercased)
        }
        var value = colon + 1..<line.upperBound
        while let first = value.first, bytes[first].isBlank { value = first + 1..<value.upperBound }
        while let last = value.last, bytes[last].isBlank { value = value.lowerBound..<last }
        if name.equals("content-length") { return once(.contentLength) && takeLength(bytes, value) }
        if name.equals("transfer-encoding") {
            isChunked = true
            return once(.transferEncoding) && text(bytes, value).equals("chunked")
        }
        if name.equals("etag") {
            etag = entityTag(bytes, value)
            return once(.etag)
        }
        if name.equals("last-modified") {
            lastModified = Array(bytes[value].prefix(40))
            return once(.lastModified)
        }
        if name.equals("content-encoding") {
            let coding = bytes[value].prefix(40).map(\.lowercased)
            contentEncoding = coding == Array("identity".utf8) ? nil : coding
            return once(.contentEncoding)
        }
        if name.equals("content-range") {
            contentRange = range(bytes, value)
            return once(.contentRange)
        }
        if name.equals("connection") {
            let options = text(bytes, value)
            if options.lists("close") == true { closes = true }
            if options.lists("keep-alive") != false { keepsAlive = true }
        }
        return true
    }

    private mutating func once(_ field: RequestFieldName) -> Bool { seen.insert(field).inserted }

    private mutating func takeLength(_ bytes: UnsafeRawBufferPointer, _ value: Range<Int>) -> Bool {
        contentLength = text(bytes, value).number
        return contentLength != nil
    }

    private func text(_ bytes: UnsafeRawBufferPointer, _ value: Range<Int>) -> ShortText {
        var text = ShortText()
        for index in value { text.append(bytes[index].lowercased) }
        return text
    }

    /// What is no entity tag, or too long, is as good as none: nothing can be proved with it. An empty value keeps it
    /// apart from a reply without one.
    private func entityTag(_ bytes: UnsafeRawBufferPointer, _ value: Range<Int>) -> EntityTag {
        var value = value
        let isWeak = value.count >= 2 && bytes[value.lowerBound] == 0x57 && bytes[value.lowerBound + 1] == 0x2f
        if isWeak { value = value.lowerBound + 2..<value.upperBound }
        guard value.count >= 2, value.count <= EntityTag.byteLimit, bytes[value.lowerBound] == 0x22,
            value.first(where: { $0 > value.lowerBound && bytes[$0] == 0x22 }) == value.upperBound - 1,
            !value.contains(where: { bytes[$0] <= 0x20 })
        else { return EntityTag(isWeak: true, value: []) }
        return EntityTag(isWeak: isWeak, value: Array(bytes[value]))
    }

    /// Only `bytes first-last/total`; `*` in any place proves nothing.
    private func range(_ bytes: UnsafeRawBufferPointer, _ value: Range<Int>) -> ContentRange? {
        let text = text(bytes, value)
        guard text.starts(with: "bytes "), !text.isCut, let dash = text.place(of: 0x2d, from: 6),
            let slash = text.place(of: 0x2f, from: dash),
            let first = text.number(from: 6, to: dash), let last = text.number(from: dash + 1, to: slash),
            let total = text.number(from: slash + 1, to: text.count), first <= last, last < total
        else { return nil }
        return ContentRange(first: first, last: last, total: total)
    }

    func facts(headBytes: Int) -> ReplyFacts? {
        if isChunked, contentLength != nil || version == .http10 { return nil }
        let framing: ReplyFacts.Framing = isChunked ? .chunked : contentLength.map { .length($0) } ?? .untilClose
        return ReplyFacts(
            status: status,
            headBytes: UInt32(headBytes),
            version: version,
            framing: framing,
            etag: etag,
            lastModified: lastModified,
            contentEncoding: contentEncoding,
            contentRange: contentRange,
            closes: closes || version == .http10 && !keepsAlive
        )
    }
}

private func starts(_ bytes: UnsafeRawBufferPointer, _ place: Int, _ text: StaticString) -> Bool {
    guard place + text.utf8CodeUnitCount <= bytes.count else { return false }
    let known = text.utf8Start
    for index in 0..<text.utf8CodeUnitCount where bytes[place + index] != known[index] { return false }
    return true
}
