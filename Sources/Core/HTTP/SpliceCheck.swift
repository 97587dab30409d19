import Model

/// Decides, before one byte passes what the client has, whether a regenerated stream of replies continues the one that
/// the dead server had begun.
public struct SpliceCheck: Hashable, Sendable {
    /// What the regenerated stream has to look like.
    public enum Expectation: Hashable, Sendable {
        /// The whole reply. Its last head is this much longer than the dead server's, as a trial has shown, and the
        /// adoption is shifted by as much.
        case whole(longerBy: Int)
        /// The rest of a body, behind a head of exactly this length.
        case rest(ContentRange, headBytes: Int)
        /// So many bytes, all of which lie below what the client has, and then the FIN: `replay.last` is set.
        case end(bytes: Int)
    }

    public enum Verdict: Hashable, Sendable {
        /// More bytes are needed.
        case undecided
        /// It continues what the client has.
        case continues
        case breaks(ResetCause)
    }

    public var replay: Replay
    public var expectation: Expectation

    public init(replay: Replay, expectation: Expectation = .whole(longerBy: 0)) {
        self.replay = replay
        self.expectation = expectation
    }

    /// Judges the first bytes of the regenerated stream.
    ///
    /// - Parameters:
    ///   - end: where its FIN stands, counted from the first of these bytes; nil while none was seen.
    ///   - acknowledged: what the client has by now, counted as `replay.replyStart` is.
    public func judge(_ bytes: [UInt8], end: Int? = nil, acknowledged: UInt64) -> Verdict {
        if case .end(let length) = expectation {
            return judgeEnd(length, received: bytes.count, end, acknowledged: acknowledged)
        }
        // What the client has nothing of may be anything.
        guard acknowledged > replay.replyStart else { return .continues }
        guard let request = replay.request, request.count == 1, !replay.heads.isEmpty else {
            return .breaks(.replyUnknown)
        }
        let held = acknowledged - replay.replyStart
        var original: UInt64 = 0
        var at = 0
        for facts in replay.heads {
            let regenerated: ReplyFacts
            switch ReplyHead.parse(Array(bytes[min(at, bytes.count)...])) {
            case .incomplete: return .undecided
            case .malformed: return .breaks(.replyDiffers)
            case .facts(let facts): regenerated = facts
            }
            original += UInt64(facts.headBytes)
            // Two heads are never mixed: their dates differ at least.
            if held < original { return .breaks(.replyUnknown) }
            if !facts.isInterim {
                return judgeFinal(facts, regenerated, request.method, held: held - original)
            }
            guard regenerated.status == facts.status, regenerated.headBytes == facts.headBytes,
                expectation == .whole(longerBy: 0)
            else { return .breaks(.replyDiffers) }
            at += Int(regenerated.headBytes)
            // Behind the interim replies that the client has, all is new to it.
            if held == original { return .continues }
        }
        return .breaks(.replyUnknown)
    }

    /// A stream that ends in the right place has nothing that the client could get; what it says does not matter.
    private func judgeEnd(_ length: Int, received: Int, _ end: Int?, acknowledged: UInt64) -> Verdict {
        guard acknowledged <= replay.replyStart + 1 else { return .breaks(.replyUnknown) }
        guard received <= length, end ?? length == length else { return .breaks(.replyDiffers) }
        return end == nil ? .undecided : .continues
    }

    private func judgeFinal(
        _ original: ReplyFacts,
        _ regenerated: ReplyFacts,
        _ method: RequestMethod,
        held: UInt64
    ) -> Verdict {
        // Beyond the end of this reply the client has a part of another, which nobody has compared.
        if let body = original.bodyBytes(answering: method), held > body { return .breaks(.replyUnknown) }
        let longerBy: Int
        let comparison: ReplyComparison
        switch expectation {
        case .whole(let difference):
            longerBy = difference
            comparison = ReplyComparison.whole(original, regenerated, answering: method)
        case .rest(let asked, let headBytes):
            guard regenerated.headBytes == headBytes else { return .breaks(.replyDiffers) }
            longerBy = 0
            comparison = ReplyComparison.rest(original, regenerated, asked: asked)
        case .end:
            return .breaks(.replyDiffers)
        }
        switch comparison {
        case .same: return longerBy == 0 ? .continues : .breaks(.replyDiffers)
        case .aligned(let difference): return longerBy == difference ? .continues : .breaks(.replyDiffers)
        case .different: return .breaks(.replyDiffers)
        case .unproven: return .breaks(.replyUnknown)
        }
    }
}
