import HTTP
import Model

/// A client's stream in pieces, a reply's head, and a request that is to be rewritten. The first byte is the size of the
/// pieces: what is found must not depend on it.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzHTTP(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    guard size >= 1 else { return 0 }
    let bytes = UnsafeRawBufferPointer(start: data + 1, count: size - 1)
    var whole = Conversation()
    whole.received(bytes, acknowledged: 0)
    var pieces = RequestStream()
    var queue = RequestQueue()
    let step = Int(data[0]) + 1
    var at = 0
    while at < bytes.count {
        let end = min(at + step, bytes.count)
        pieces.feed(UnsafeRawBufferPointer(rebasing: bytes[at..<end]), acknowledged: 0, into: &queue)
        at = end
    }
    precondition(pieces.fault == whole.stream.fault && pieces.place == whole.stream.place, "pieces matter")
    precondition(queue.count == whole.requests.count, "pieces matter")
    for index in 0..<queue.count { precondition(queue[index] == whole.requests[index], "pieces matter") }
    check(queue, length: UInt64(bytes.count))
    rewrite(queue, bytes)
    guard case .facts(let facts) = ReplyHead.parse(bytes) else { return 0 }
    precondition(Int(facts.headBytes) <= bytes.count, "a head that is longer than its bytes")
    let comparison = ReplyComparison.whole(facts, facts, answering: .get)
    if case .different = comparison { preconditionFailure("a reply differs from itself") }
    whole.reported(ReplyReport(place: 0, facts: facts))
    whole.acknowledged(to: UInt64(bytes.count))
    precondition(whole.replayPoint <= UInt64(bytes.count), "a replay point beyond the stream")
    return 0
}

private func check(_ queue: RequestQueue, length: UInt64) {
    var place: UInt64 = 0
    for index in 0..<queue.count {
        let request = queue[index]
        precondition(request.start >= place, "requests overlap")
        precondition(index == queue.count - 1 || request.isComplete, "a request behind one that is not complete")
        place = request.end ?? request.headEnd ?? request.start
        precondition(place <= length && place >= request.start, "a request ends outside the stream")
    }
}

/// A rewritten request must be one request again, with exactly the range that was asked for.
private func rewrite(_ queue: RequestQueue, _ bytes: UnsafeRawBufferPointer) {
    guard let request = queue.first, let end = request.headEnd else { return }
    let head = Array(bytes[Int(request.start)..<Int(end)])
    var facts = ReplyFacts(status: 200, headBytes: 100, framing: .length(1000))
    facts.etag = EntityTag(isWeak: false, value: Array("\"a\"".utf8))
    if request.range != RequestRange.none {
        facts.status = 206
        facts.contentRange = ContentRange(first: 0, last: 999, total: 5000)
    }
    guard let new = try? RangeRewrite.rewrite(head, request, facts: facts, held: 10, minimum: 1) else { return }
    var stream = RequestStream()
    var again = RequestQueue()
    new.head.withUnsafeBytes { stream.feed($0, acknowledged: 0, into: &again) }
    precondition(stream.isBetween && again.count == 1, "a rewritten request is not understood")
    precondition(again.first?.range == .from(10, through: 999), "a rewritten request asks for something else")
    precondition(new.head.count == head.count + new.inserted, "the inserted length is wrong")
}
