import Model
import NIOCore

/// A way to find out whether a back-end serves: one file each.
public protocol HealthCheck: Sendable {
    /// Begins one attempt, which ends by `pass` or `fail` of the run. On the run's loop; must not block.
    func begin(_ run: CheckRun)
}

/// What is checked.
public struct CheckTarget: Hashable, Sendable {
    public var service: String
    public var backend: String
    /// The back-end's own address, and the port.
    public var endpoint: Endpoint

    public init(service: String, backend: String, endpoint: Endpoint) {
        self.service = service
        self.backend = backend
        self.endpoint = endpoint
    }
}

/// One attempt of a check that is under way.
///
/// Everything in it belongs to its loop; `@unchecked` only so that callbacks of the loop may hold it.
public final class CheckRun: @unchecked Sendable {
    public let loop: any EventLoop
    public let target: CheckTarget
    public let timeout: TimeAmount
    /// Called with each connection that is opened.
    var connected: ((any Channel) -> Void)?
    private let ended: (_ failure: String?) -> Void
    private var isOver = false
    private var cleanups: [() -> Void] = []

    /// - Parameter ended: called once, with why it failed or nil.
    public init(
        loop: any EventLoop,
        target: CheckTarget,
        timeout: TimeAmount,
        ended: @escaping (_ failure: String?) -> Void
    ) {
        self.loop = loop
        self.target = target
        self.timeout = timeout
        self.ended = ended
    }

    public func pass() { finish(nil) }

    /// - Parameter cause: for people; no line ends.
    public func fail(_ cause: String) { finish(cause) }

    /// Ends it without an outcome: what it holds is given back.
    public func cancel() { clean() }

    /// Runs when the attempt is over; at once when it is.
    func whenOver(_ body: @escaping () -> Void) {
        if isOver { body() } else { cleanups.append(body) }
    }

    private func finish(_ failure: String?) {
        guard !isOver else { return }
        clean()
        ended(failure)
    }

    private func clean() {
        guard !isOver else { return }
        isOver = true
        let all = cleanups
        cleanups = []
        for body in all { body() }
    }
}

/// Why a check did not pass, for the log.
public enum CheckFailure: Error, CustomStringConvertible {
    case noAnswer
    case connection(String)
    case closed
    case notHTTP

    public var description: String {
        switch self {
        case .noAnswer: "no answer within the timeout"
        case .connection(let cause): cause
        case .closed: "the application closed the connection before it had answered"
        case .notHTTP: "the answer is not HTTP/1"
        }
    }
}
