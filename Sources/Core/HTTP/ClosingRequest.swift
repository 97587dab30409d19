/// The request by which a server is brought to close a connection whose client has everything but the FIN.
///
/// `OPTIONS *` asks for nothing and does nothing (RFC 9110 9.3.7): servers answer it themselves, and whatever they answer
/// is short. The client's own request is not asked again, so that its method does not matter.
public enum ClosingRequest {
    /// A longer answer is not waited for: some segments are all that is held back before the verdict.
    public static let answerLimit: UInt64 = 8192

    /// - Parameters:
    ///   - head: the head of the client's last request; its Host field is taken over.
    ///   - version: of the client's last request. HTTP/1.0 needs no Host field.
    public static func head(like head: [UInt8], _ version: Request.Version) -> [UInt8] {
        var bytes = Array((version == .http10 ? "OPTIONS * HTTP/1.0\r\n" : "OPTIONS * HTTP/1.1\r\n").utf8)
        var line = 0
        for index in head.indices where head[index] == .lineFeed {
            if starts(head[line...index], "host:") { bytes += head[line...index] }
            line = index + 1
        }
        bytes += "Connection: close\r\n\r\n".utf8
        return bytes
    }

    /// The bytes of the whole answer, after which the server closes; nil where that is not certain.
    public static func answerBytes(_ facts: ReplyFacts) -> UInt64? {
        guard facts.closes, facts.status >= 200, let body = facts.bodyBytes(answering: .options), body <= answerLimit,
            body + UInt64(facts.headBytes) <= answerLimit
        else { return nil }
        return body + UInt64(facts.headBytes)
    }

    private static func starts(_ line: ArraySlice<UInt8>, _ name: StaticString) -> Bool {
        guard line.count >= name.utf8CodeUnitCount else { return false }
        let known = UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
        return zip(line, known).allSatisfy { $0.lowercased == $1 }
    }
}
