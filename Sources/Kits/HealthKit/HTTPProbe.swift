import Model

/// What checks by HTTP ask, and what they read of the answer.
public enum HTTPProbe {
    /// An answer whose status line has not come within so many bytes, interim replies included, has none.
    public static let longestAnswer = 16_384

    /// The request (RFC 9112 3).
    ///
    /// - Parameters:
    ///   - host: the Host field; nil: the endpoint.
    ///   - agent: the User-Agent field.
    ///   - version: `1.1`, or `1.0` where the body is wanted as it is, not in chunks.
    public static func request(
        _ endpoint: Endpoint, path: String, host: String?, agent: String, version: String = "1.1", usualPort: UInt16 = 80
    ) -> [UInt8] {
        // The usual port is left out (RFC 9110 7.2).
        let address = endpoint.address.isIPv4 ? "\(endpoint.address)" : "[\(endpoint.address)]"
        let host = host ?? (endpoint.port == usualPort ? address : "\(address):\(endpoint.port)")
        let lines = [
            "GET \(path) HTTP/\(version)", "Host: \(host)", "User-Agent: \(agent)", "Accept: */*", "Connection: close",
            "", "",
        ]
        return Array(lines.joined(separator: "\r\n").utf8)
    }

    public enum Answer: Equatable, Sendable {
        case more
        case status(Int)
        case malformed
    }

    /// What the bytes that have come so far say; interim replies (RFC 9110 15.2) are passed over.
    public static func read(_ bytes: [UInt8]) -> Answer {
        var rest = bytes[...]
        while true {
            guard let end = rest.firstIndex(of: 10) else {
                let isPlausible = zip(rest, "HTTP/1.".utf8).allSatisfy { $0 == $1 }
                return isPlausible && bytes.count < longestAnswer ? .more : .malformed
            }
            guard let code = status(rest[..<end]) else { return .malformed }
            guard (100...199).contains(code), code != 101 else { return .status(code) }
            guard let next = headEnd(rest) else { return bytes.count < longestAnswer ? .more : .malformed }
            rest = rest[next...]
        }
    }

    /// The body of an answer of HTTP/1.0, as far as it has come; nil while the head has not.
    static func body(_ bytes: [UInt8]) -> ArraySlice<UInt8>? {
        headEnd(bytes[...]).map { bytes[$0...] }
    }

    /// `HTTP/1.1 200 OK` (RFC 9112 4), without its line feed.
    private static func status(_ line: ArraySlice<UInt8>) -> Int? {
        let bytes = Array(line.last == 13 ? line.dropLast() : line)
        guard bytes.count >= 12, bytes.starts(with: "HTTP/1.".utf8), isDigit(bytes[7]), bytes[8] == 32,
            bytes[9...11].allSatisfy(isDigit), bytes.count == 12 || bytes[12] == 32
        else { return nil }
        return bytes[9...11].reduce(0) { $0 * 10 + Int($1 - 48) }
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (48...57).contains(byte) }

    /// Where the empty line of a head ends.
    private static func headEnd(_ bytes: ArraySlice<UInt8>) -> Int? {
        var lineStart = bytes.startIndex
        for index in bytes.indices where bytes[index] == 10 {
            let line = bytes[lineStart..<index]
            if line.isEmpty || line.elementsEqual([13]) { return index + 1 }
            lineStart = index + 1
        }
        return nil
    }
}
