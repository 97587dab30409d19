import Model
import NIOCore

/// `http` and `https`: a GET is answered with a good status, and with a body that has what it should have.
public struct HTTPCheck: HealthCheck {
    public struct Expectation: Sendable {
        public var path: String
        /// The Host field; nil: address and port.
        public var host: String?
        public var statuses: [ClosedRange<Int>]
        /// Bytes that the body must have.
        public var text: [UInt8]?
        /// An extended regular expression that the body must match.
        public var pattern: TextPattern?

        public init(
            path: String = "/", host: String? = nil, statuses: [ClosedRange<Int>] = [200...399], text: [UInt8]? = nil,
            pattern: TextPattern? = nil
        ) {
            self.path = path
            self.host = host
            self.statuses = statuses
            self.text = text
            self.pattern = pattern
        }

        var wantsBody: Bool { text != nil || pattern != nil }
    }

    /// No more of an answer is read, its head included.
    public static let longestAnswer = 65_536

    private let expectation: Expectation
    private let tls: CheckTLS?
    private let agent: String

    /// - Parameters:
    ///   - tls: nil: `http`.
    ///   - agent: the User-Agent field.
    public init(_ expectation: Expectation, tls: CheckTLS? = nil, agent: String = "baton-director") {
        self.expectation = expectation
        self.tls = tls
        self.agent = agent
    }

    public func begin(_ run: CheckRun) {
        let (expectation, tls) = (expectation, tls)
        let request = HTTPProbe.request(
            run.target.endpoint, path: expectation.path, host: expectation.host, agent: agent,
            version: expectation.wantsBody ? "1.0" : "1.1", usualPort: tls == nil ? 80 : 443)
        run.connect(
            handlers: { try (tls?.handlers(run) ?? []) + [AnswerReader(run, expectation)] },
            opened: { channel in channel.writeAndFlush(channel.allocator.buffer(bytes: request), promise: nil) }
        )
    }
}

/// What an answer comes to.
struct AnswerJudge {
    enum Verdict: Equatable {
        case more
        case good
        case bad(String)
    }

    let expectation: HTTPCheck.Expectation

    /// - Parameter isWhole: nothing more will come.
    func judge(_ bytes: [UInt8], isWhole: Bool) -> Verdict {
        switch HTTPProbe.read(bytes) {
        case .malformed: return .bad("\(CheckFailure.notHTTP)")
        case .more: return isWhole ? .bad("\(CheckFailure.closed)") : .more
        case .status(let code):
            guard expectation.statuses.contains(where: { $0.contains(code) }) else { return .bad("the status is \(code)") }
        }
        guard expectation.wantsBody else { return .good }
        guard let body = HTTPProbe.body(bytes) else {
            return isWhole ? .bad("\(CheckFailure.closed)") : .more
        }
        if let text = expectation.text, !contains(body, text) { return isWhole ? .bad("the body lacks the text") : .more }
        if let pattern = expectation.pattern {
            // An expression may match the beginning, and not the whole (`$`): only the whole says.
            guard isWhole else { return .more }
            if !pattern.matches(body) { return .bad("the body does not match") }
        }
        return .good
    }

    private func contains(_ body: ArraySlice<UInt8>, _ text: [UInt8]) -> Bool {
        guard let first = text.first else { return true }
        guard body.count >= text.count else { return false }
        return (body.startIndex...(body.endIndex - text.count)).contains { start in
            body[start] == first && body[start..<(start + text.count)].elementsEqual(text)
        }
    }
}

private final class AnswerReader: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let run: CheckRun
    private let judge: AnswerJudge
    private var bytes: [UInt8] = []

    init(_ run: CheckRun, _ expectation: HTTPCheck.Expectation) {
        self.run = run
        judge = AnswerJudge(expectation: expectation)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard bytes.count < HTTPCheck.longestAnswer else { return }
        bytes += Array(unwrapInboundIn(data).readableBytesView.prefix(HTTPCheck.longestAnswer - bytes.count))
        decide(isWhole: bytes.count == HTTPCheck.longestAnswer)
    }

    func channelInactive(context: ChannelHandlerContext) {
        decide(isWhole: true)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // A server that closes without a TLS goodbye has said all the same.
        if case .good = judge.judge(bytes, isWhole: true) { run.pass() } else { run.fail(oneLine("\(error)")) }
        context.close(promise: nil)
    }

    private func decide(isWhole: Bool) {
        switch judge.judge(bytes, isWhole: isWhole) {
        case .more: break
        case .good: run.pass()
        case .bad(let cause): run.fail(cause)
        }
    }
}
