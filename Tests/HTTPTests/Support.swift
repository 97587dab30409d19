import HTTP
import Model

/// Feeds a text in pieces of a size, and gives what was found.
func split(_ text: String, piece: Int = .max, acknowledged: UInt64 = 0) -> (RequestStream, RequestQueue) {
    var stream = RequestStream()
    var queue = RequestQueue()
    let bytes = Array(text.utf8)
    var at = 0
    while at < bytes.count {
        let end = piece >= bytes.count - at ? bytes.count : at + piece
        bytes[at..<end].withUnsafeBytes { stream.feed($0, acknowledged: acknowledged, into: &queue) }
        at = end
    }
    return (stream, queue)
}

extension Conversation {
    mutating func received(_ text: String, acknowledged: UInt64) {
        Array(text.utf8).withUnsafeBytes { received($0, acknowledged: acknowledged) }
    }
}

extension ReplyHead {
    static func facts(_ text: String) -> ReplyFacts? {
        guard case .facts(let facts) = parse(Array(text.utf8)) else { return nil }
        return facts
    }
}

/// A head in lines.
func head(_ lines: String...) -> String { lines.joined(separator: "\r\n") + "\r\n\r\n" }

let get = head("GET /large.bin HTTP/1.1", "Host: example.org")
