import Model
import Tracking
import Wire

/// What another agent sends: a sequence of messages, each with its length in two bytes before it. Those that ask are
/// answered, copies are merged, lists are compared; the tracker's invariants must hold after each.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzConnectionCopy(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    var parameters = TrackerParameters()
    parameters.connections = 8
    parameters.journalBytes = 64 << 10
    parameters.journalBytesPerConnection = 32 << 10
    parameters.gapsPerConnection = 4
    parameters.gaps = 8
    var tracker = Tracker(parameters: parameters, secret: (1, 2))
    var now = Instant(nanoseconds: 0)
    let bytes = UnsafeBufferPointer(start: data, count: size)
    var at = 0
    while at + 2 <= size {
        let end = min(at + 2 + (Int(bytes[at]) << 8 | Int(bytes[at + 1])), size)
        if let message = try? PeerMessage(decoding: bytes[at + 2..<end]) { feed(message, &tracker, now) }
        tracker.checkInvariants()
        now = now + .milliseconds(700)
        at = end
    }
    return 0
}

private func feed(_ message: PeerMessage, _ tracker: inout Tracker, _ now: Instant) {
    if let answer = tracker.answer(message, now: now) {
        precondition(answer.encodeBody().count < Limits.controlMessageBytes, "an answer that no peer takes")
    }
    switch message {
    case .listed(let list): for summary in list.connections { _ = tracker.compare(summary, now: now) }
    case .copies(let answer):
        for copy in answer.copies {
            tracker.merge(copy, now: now)
            tracker.checkInvariants()
        }
        for flow in answer.unknown { tracker.holeStays(flow, irs: SequenceNumber(0), now: now) }
        _ = tracker.dueHoles(now: now, limit: 8) { _ in true }
    case .hello, .list, .fetch, .refused: break
    }
}
