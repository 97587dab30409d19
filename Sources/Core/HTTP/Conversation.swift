import Model

/// One HTTP/1 connection as a backup follows it: which requests are not known to be answered in full, and where in the
/// stream of replies the answer to the oldest of them starts. That pair is the replay point.
///
/// The replay point moves to a later request only where both places are certain; docs/design/0004-http-replay.md has the
/// proof. In doubt it stays where it is: to replay more is right as well. Nothing is allocated for a packet.
public struct Conversation: Sendable {
    public private(set) var stream: RequestStream
    public private(set) var requests = RequestQueue()
    /// Where the reply to the oldest request starts, or will; counted from the first byte of the stream of replies.
    public private(set) var replyStart: UInt64
    /// What is known of that reply: interim heads in their order, then the final one.
    public private(set) var heads: [ReplyFacts] = []
    /// The client sends requests before it has the replies to those before.
    public private(set) var pipelines = false
    /// The server went over to another protocol (101): no request and no reply follow.
    public private(set) var hasEnded = false
    /// Where the next head of the oldest request's reply starts.
    private var nextHead: UInt64
    /// Two servers said different things of the oldest request's reply: which of them the client has is not known.
    private var isDisputed = false
    private var finalStart: UInt64?
    /// Where the last request that was answered in full ended.
    private var answeredEnd: UInt64
    private var acknowledged: UInt64
    /// Reports that are not known to belong to the oldest request, by place.
    private var reports: [ReplyReport] = []

    /// Reports kept; the oldest ones give way.
    public static let reportLimit = 8
    /// Interim replies to one request; what has more is never known whole.
    public static let headLimit = 8

    /// - Parameters:
    ///   - start: the replay point in the client's stream; 0 at the start of a connection.
    ///   - replyStart: the same in the server's.
    public init(start: UInt64 = 0, replyStart: UInt64 = 0) {
        stream = RequestStream(at: start)
        self.replyStart = replyStart
        nextHead = replyStart
        answeredEnd = start
        acknowledged = replyStart
    }

    /// Goes on where another backup's conversation, or the owner's, stands: see `ConversationCopy`.
    ///
    /// - Parameters:
    ///   - start: the replay point in the client's stream; its bytes from there on are fed next.
    ///   - replyStart: the same in the server's.
    public init(_ copy: ConversationCopy, start: UInt64, replyStart: UInt64) {
        self.init(start: start, replyStart: replyStart)
        pipelines = copy.pipelines
        reports = copy.reports.filter { $0.place >= replyStart }
    }

    /// What another follower of the connection needs beside the replay point and the client's bytes from there on.
    public var copy: ConversationCopy {
        var place = replyStart
        var known: [ReplyReport] = []
        for facts in heads {
            known.append(ReplyReport(place: place, facts: facts))
            place += UInt64(facts.headBytes)
        }
        let told = isDisputed ? reports : known + reports
        return ConversationCopy(pipelines: pipelines, reports: Array(told.prefix(ConversationCopy.reportLimit)))
    }

    /// Where a replay starts in the client's stream; nothing before it is needed any more.
    public var replayPoint: UInt64 { requests.first?.start ?? answeredEnd }

    // MARK: Inputs

    /// Takes the next bytes of the client.
    ///
    /// - Parameter acknowledged: SND.UNA, what the segment that brought them says included.
    public mutating func received(_ bytes: UnsafeRawBufferPointer, acknowledged: UInt64) {
        guard !hasEnded else { return }
        let known = requests.last
        let count = requests.count
        self.acknowledged = max(self.acknowledged, acknowledged)
        stream.feed(bytes, acknowledged: acknowledged, into: &requests)
        notePipelining(from: count, after: known)
        advance()
    }

    /// The client has acknowledged more of the replies.
    public mutating func acknowledged(to place: UInt64) {
        guard place > acknowledged else { return }
        acknowledged = place
        advance()
    }

    /// The primary says that a reply starts here. Reports may come late, twice, and in any order.
    public mutating func reported(_ report: ReplyReport) {
        guard report.place >= replyStart, !hasEnded else { return }
        if let known = copy.reports.first(where: { $0.place == report.place }) {
            // A server has died before its client had anything of this, and another one answers otherwise. Which of
            // both the client has is known to nobody who was only told of it: the owner's copy says it.
            if known.facts != report.facts { dispute(report.place) }
            return
        }
        guard report.place >= nextHead, !isDisputed else { return }
        if reports.count >= Self.reportLimit { reports.removeFirst() }
        reports.append(report)
        advance()
    }

    private mutating func dispute(_ place: UInt64) {
        if place < nextHead || finalStart == place {
            isDisputed = true
        } else {
            reports.removeAll { $0.place == place }
        }
    }

    /// Another server is about to answer from here on: what the former one has said beyond what the client has is void.
    public mutating func forgetReplies(from place: UInt64) {
        let known = copy.reports.filter { $0.place < place }
        guard known.count < heads.count + reports.count || isDisputed else { return }
        restart(at: replyStart)
        reports = known
        advance()
    }

    // MARK: The replay point

    /// Each reply has a byte at least: a request that begins when nothing more was acknowledged than at the beginning
    /// of the one before was sent before that one's reply. So was one that begins before a reply's known end.
    private mutating func notePipelining(from count: Int, after known: Request?) {
        guard !pipelines else { return }
        var before = known
        for index in min(count, requests.count)..<requests.count {
            let request = requests[index]
            if let before, request.acknowledgedAtStart <= before.acknowledgedAtStart { pipelines = true }
            before = request
        }
        if requests.count > 1, let end = replyEnd, requests[1].acknowledgedAtStart < end { pipelines = true }
        if requests.count > RequestQueue.limit { pipelines = true }
    }

    /// The place behind the reply to the oldest request; nil while it is not known.
    public var replyEnd: UInt64? {
        guard !isDisputed, let request = requests.first, request.count == 1, let finalStart, let facts = heads.last,
            let body = facts.bodyBytes(answering: request.method)
        else { return nil }
        let (end, isOver) = (finalStart + UInt64(facts.headBytes)).addingReportingOverflow(body)
        return isOver ? nil : end
    }

    private mutating func advance() {
        var isMoving = true
        while isMoving { isMoving = matchReport() || passReply() || findReply() }
    }

    /// A report that stands where the next head has to be is that head.
    private mutating func matchReport() -> Bool {
        guard finalStart == nil, !requests.isEmpty, heads.count < Self.headLimit,
            let index = reports.firstIndex(where: { $0.place == nextHead })
        else { return false }
        let facts = reports.remove(at: index).facts
        heads.append(facts)
        if facts.status == 101 { hasEnded = true }
        if facts.isInterim {
            nextHead += UInt64(facts.headBytes)
        } else {
            finalStart = nextHead
        }
        return true
    }

    /// The chain: the oldest request was sent in full, its reply's end is known, and the client has acknowledged it.
    private mutating func passReply() -> Bool {
        guard let request = requests.first, let end = request.end, let reply = replyEnd, acknowledged >= reply,
            !isLast(request, reply)
        else { return false }
        answeredEnd = end
        requests.removeFirst(1)
        restart(at: reply)
        return true
    }

    /// Behind the reply to this request, which ends here, the server closes: one of both says so (RFC 9112 9.6), and no
    /// other reply is known to begin there.
    private func isLast(_ request: Request, _ end: UInt64) -> Bool {
        guard heads.last?.closes ?? false || request.traits.contains(.closes) else { return false }
        return !reports.contains { $0.place == end }
    }

    /// Where the stream of replies ends, if the client has all of it, and nothing but the server's FIN is left, which may
    /// be on its way or acknowledged; nil where that is not certain.
    public var lastEnd: UInt64? {
        guard !hasEnded, let request = requests.first, request.isComplete, let end = replyEnd, isLast(request, end),
            acknowledged == end || acknowledged == end + 1
        else { return nil }
        return end
    }

    /// Where the chain is broken (chunks, a lost report): a reply was reported to start exactly where a client that
    /// does not pipeline stood when it began a request. The latest such request, for reports come late.
    private mutating func findReply() -> Bool {
        guard !pipelines else { return false }
        var index = requests.count - 1
        while index > 0 {
            let request = requests[index]
            let place = request.acknowledgedAtStart
            if place > replyStart, reports.contains(where: { $0.place == place }) {
                answeredEnd = request.start
                requests.removeFirst(index)
                restart(at: place)
                return true
            }
            index -= 1
        }
        return false
    }

    private mutating func restart(at place: UInt64) {
        replyStart = place
        nextHead = place
        finalStart = nil
        isDisputed = false
        heads.removeAll(keepingCapacity: true)
        reports.removeAll { $0.place < place }
    }
}

/// What is known of a connection's replies, to be handed on.
public struct ConversationCopy: Hashable, Sendable {
    /// Heads of replies that it may hold.
    public static let reportLimit = Conversation.reportLimit

    /// The client sends requests before it has the replies to those before.
    public var pipelines: Bool
    /// Heads of replies from the replay point on.
    public var reports: [ReplyReport]

    public init(pipelines: Bool = false, reports: [ReplyReport] = []) {
        self.pipelines = pipelines
        self.reports = reports
    }
}

// MARK: What a take-over may replay

/// From where, and towards what, a connection is replayed.
public struct Replay: Hashable, Sendable {
    /// The replay point in the client's stream and in the server's.
    public var start: UInt64
    public var replyStart: UInt64
    /// The first request that is replayed; nil when none was begun.
    public var request: Request?
    /// What the dead server had sent of its reply: interim heads, then the final one, as far as they are known.
    public var heads: [ReplyFacts]
    /// Nothing but the server's FIN is left, behind the reply to this request; `replyStart` is where it stands.
    public var last: Request?

    public init(start: UInt64, replyStart: UInt64, request: Request?, heads: [ReplyFacts], last: Request? = nil) {
        self.start = start
        self.replyStart = replyStart
        self.request = request
        self.heads = heads
        self.last = last
    }

    /// The head of the reply itself, behind the interim ones.
    public var final: ReplyFacts? {
        guard let last = heads.last, !last.isInterim else { return nil }
        return last
    }

    /// The client has the whole head of the reply, and not all of its body.
    public func isInsideBody(acknowledged: UInt64) -> Bool {
        guard let final, let request else { return false }
        let start = replyStart + heads.reduce(0) { $0 + UInt64($1.headBytes) }
        guard acknowledged >= start, let body = final.bodyBytes(answering: request.method) else { return false }
        return acknowledged - start < body
    }

    /// Bytes of the reply's body that the client has; 0 while it is not known to have any.
    public func bodyBytes(acknowledged: UInt64) -> UInt64 {
        guard final != nil else { return 0 }
        let body = replyStart + heads.reduce(0) { $0 + UInt64($1.headBytes) }
        return acknowledged > body ? acknowledged - body : 0
    }
}

extension Conversation {
    /// Decides what may be replayed after the client has answered a probe.
    ///
    /// - Parameters:
    ///   - clientSent: the end of what the client has sent, by the sequence number of its answer.
    ///   - received: the end of what the journal has without a gap.
    /// - Throws: `ResetCause` as the reason why the client has to be told that it is over.
    public func replay(
        methods: ReplayMethods,
        clientSent: UInt64,
        received: UInt64
    ) throws(ReplayRefusal) -> Replay {
        // What the client has sent behind its last request is void (RFC 9112 9.6), whatever it is.
        if let lastEnd, let last = requests.first {
            return Replay(start: received, replyStart: lastEnd, request: nil, heads: [], last: last)
        }
        if hasEnded || stream.fault == .tunnel { throw ReplayRefusal(cause: .requestNotUnderstood) }
        // Bytes that are not understood may be any request: only an operator who allows all may have them replayed.
        if stream.fault != nil, methods != .all { throw ReplayRefusal(cause: .requestNotUnderstood) }
        if let request = requests.first, request.traits.contains(.asksUpgrade), heads.last == nil,
            acknowledged > replyStart
        {
            throw ReplayRefusal(cause: .replyUnknown)
        }
        for index in 0..<requests.count {
            let request = requests[index]
            if request.method.isAllowed(methods) { continue }
            let isLast = index == requests.count - 1
            if isLast, index == 0, stream.fault == nil, isNeverReceived(request, clientSent, received) { continue }
            throw ReplayRefusal(cause: .methodNotAllowed)
        }
        let known = isDisputed ? [] : heads
        return Replay(start: replayPoint, replyStart: replyStart, request: requests.first, heads: known)
    }

    /// No server can have received this request in full, and none has begun to answer it: the client itself has sent no
    /// byte beyond what is here, and its end is not among that.
    private func isNeverReceived(_ request: Request, _ clientSent: UInt64, _ received: UInt64) -> Bool {
        !request.isComplete && clientSent == received && stream.place == received && heads.isEmpty
            && acknowledged == replyStart
    }
}

/// Why a connection must not be replayed.
public struct ReplayRefusal: Error, Hashable, Sendable {
    public var cause: ResetCause

    public init(cause: ResetCause) {
        self.cause = cause
    }
}
