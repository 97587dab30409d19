import Synchronization

/// Where a signal asks a director to reload; before it runs, and when it ends, such a request is dropped.
public final class ReloadRequests: Sendable {
    private let handler = Mutex<(@Sendable () -> Void)?>(nil)

    public init() {}

    /// Any thread.
    public func request() { handler.withLock { $0 }?() }

    func answer(_ new: (@Sendable () -> Void)?) { handler.withLock { $0 = new } }
}
