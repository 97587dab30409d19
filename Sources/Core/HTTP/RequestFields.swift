/// The fields of a request's head that a replay has to know.
enum RequestField: UInt8, Sendable {
    case contentLength, transferEncoding, expect, upgrade, range, ifRange, precondition, acceptEncoding, connection
    case other

    /// - Parameter name: in small letters.
    init(name: ShortText) {
        self =
            if name.equals("content-length") { .contentLength }
            else if name.equals("transfer-encoding") { .transferEncoding }
            else if name.equals("expect") { .expect }
            else if name.equals("upgrade") { .upgrade }
            else if name.equals("range") { .range }
            else if name.equals("if-range") { .ifRange }
            else if name.equals("if-match") || name.equals("if-none-match") { .precondition }
            else if name.equals("if-modified-since") || name.equals("if-unmodified-since") { .precondition }
            else if name.equals("accept-encoding") { .acceptEncoding }
            else if name.equals("connection") { .connection }
            else { .other }
    }
}

// MARK: Fields

extension RequestStream {
    mutating func stepField(_ byte: UInt8, _ requests: inout RequestQueue) {
        switch state {
        case .fieldStart:
            text.clear()
            if byte == .carriageReturn {
                state = .headLF
            } else if byte.isTokenCharacter {
                text.append(byte.lowercased)
                state = .fieldName
            } else {
                fail(byte.isBlank ? .foldedLine : byte == .lineFeed ? .lineEnd : .fieldLine)
            }
        case .fieldName:
            if byte == .colon {
                field = RequestField(name: text)
                text.clear()
                state = .valueStart
            } else if byte.isTokenCharacter {
                text.append(byte.lowercased)
            } else {
                fail(.fieldLine)
            }
        case .valueStart, .value:
            stepValue(byte)
        case .valueLF:
            guard byte == .lineFeed else {
                fail(.lineEnd)
                return
            }
            take(&requests)
            state = .fieldStart
        case .headLF:
            guard byte == .lineFeed else {
                fail(.lineEnd)
                return
            }
            headComplete(&requests)
        case .between, .betweenLF, .method, .target, .version, .requestLineLF, .body, .chunkSizeStart, .chunkSize,
            .chunkExtension, .chunkSizeLF, .chunkData, .chunkDataCR, .chunkDataLF, .trailerStart, .trailerName,
            .trailerValue, .trailerLF, .trailersLF:
            break
        }
        if state != .between, state != .body, state != .chunkSizeStart { boundHead() }
    }

    private mutating func stepValue(_ byte: UInt8) {
        if byte == .carriageReturn {
            state = .valueLF
        } else if !byte.isFieldContent {
            fail(byte == .lineFeed ? .lineEnd : .controlCharacter)
        } else if state == .value || !byte.isBlank {
            state = .value
            text.append(byte.lowercased)
        }
    }

    /// Takes in a field whose line is over.
    private mutating func take(_ requests: inout RequestQueue) {
        text.trimEnd()
        switch field {
        case .contentLength: takeContentLength()
        case .transferEncoding:
            if head.isChunked || !text.equals("chunked") { fail(.transferCoding) }
            head.isChunked = true
        case .expect: if text.equals("100-continue") { mark(.expectsContinue, &requests) }
        case .upgrade: mark(.asksUpgrade, &requests)
        case .range:
            let range = requests.last?.range == RequestRange.none ? RequestRange(text) : .other
            requests.updateLast { $0.range = range }
        case .ifRange: mark(.hasIfRange, &requests)
        case .precondition: mark(.hasPrecondition, &requests)
        case .acceptEncoding: mark(.hasAcceptEncoding, &requests)
        case .connection:
            if text.lists("close") == true { mark(.closes, &requests) }
            if text.lists("keep-alive") != false { head.keepsAlive = true }
        case .other: break
        }
    }

    private mutating func takeContentLength() {
        guard head.contentLength == nil else {
            fail(.contentLengthRepeated)
            return
        }
        guard let length = text.number else {
            fail(.contentLength)
            return
        }
        head.contentLength = length
    }

    private func mark(_ trait: Request.Traits, _ requests: inout RequestQueue) {
        requests.updateLast { $0.traits.insert(trait) }
    }

    private mutating func headComplete(_ requests: inout RequestQueue) {
        let end = place
        requests.updateLast { $0.headEnd = end }
        // RFC 9112 9.3.
        if head.isHTTP10, !head.keepsAlive { mark(.closes, &requests) }
        if head.isChunked, head.contentLength != nil {
            fail(.twoLengths)
        } else if head.isChunked, head.isHTTP10 {
            fail(.transferCoding)
        } else if requests.last?.method == .connect {
            fail(.tunnel)
        } else if head.isChunked {
            requests.updateLast { $0.traits.formUnion([.hasBody, .isChunked]) }
            state = .chunkSizeStart
        } else if let length = head.contentLength, length > 0 {
            mark(.hasBody, &requests)
            remaining = length
            state = .body
        } else {
            complete(&requests)
        }
    }
}

// MARK: Chunks

extension RequestStream {
    /// Chunk sizes above this are no sizes.
    private static let chunkBytes: UInt64 = 1 << 56

    mutating func stepChunk(_ byte: UInt8) {
        switch state {
        case .chunkSizeStart:
            guard let digit = byte.hexDigit else {
                fail(.chunk)
                return
            }
            remaining = UInt64(digit)
            state = .chunkSize
        case .chunkSize:
            if let digit = byte.hexDigit, remaining < Self.chunkBytes {
                remaining = remaining << 4 | UInt64(digit)
            } else if byte == .carriageReturn {
                state = .chunkSizeLF
            } else if byte == 0x3b {
                state = .chunkExtension
            } else {
                fail(.chunk)
            }
        case .chunkExtension:
            if byte == .carriageReturn {
                state = .chunkSizeLF
            } else if !byte.isFieldContent {
                fail(.chunk)
            }
        case .chunkSizeLF:
            if byte == .lineFeed { state = remaining == 0 ? .trailerStart : .chunkData } else { fail(.lineEnd) }
        case .chunkDataCR:
            if byte == .carriageReturn { state = .chunkDataLF } else { fail(.chunk) }
        case .chunkDataLF:
            if byte == .lineFeed { state = .chunkSizeStart } else { fail(.lineEnd) }
        case .between, .betweenLF, .method, .target, .version, .requestLineLF, .fieldStart, .fieldName, .valueStart,
            .value, .valueLF, .headLF, .body, .chunkData, .trailerStart, .trailerName, .trailerValue, .trailerLF,
            .trailersLF:
            break
        }
    }

    mutating func stepTrailer(_ byte: UInt8, _ requests: inout RequestQueue) {
        switch state {
        case .trailerStart:
            if byte == .carriageReturn {
                state = .trailersLF
            } else if byte.isTokenCharacter {
                state = .trailerName
            } else {
                fail(byte.isBlank ? .foldedLine : byte == .lineFeed ? .lineEnd : .fieldLine)
            }
        case .trailerName:
            if byte == .colon {
                state = .trailerValue
            } else if !byte.isTokenCharacter {
                fail(.fieldLine)
            }
        case .trailerValue:
            if byte == .carriageReturn {
                state = .trailerLF
            } else if !byte.isFieldContent {
                fail(byte == .lineFeed ? .lineEnd : .controlCharacter)
            }
        case .trailerLF:
            if byte == .lineFeed { state = .trailerStart } else { fail(.lineEnd) }
        case .trailersLF:
            if byte == .lineFeed { complete(&requests) } else { fail(.lineEnd) }
        case .between, .betweenLF, .method, .target, .version, .requestLineLF, .fieldStart, .fieldName, .valueStart,
            .value, .valueLF, .headLF, .body, .chunkSizeStart, .chunkSize, .chunkExtension, .chunkSizeLF, .chunkData,
            .chunkDataCR, .chunkDataLF:
            break
        }
    }
}
