import CLinux
import Glibc
import Model

/// A counter in the kernel that wakes a `Poller`; any thread may signal it.
public final class EventFD: Sendable {
    public let descriptor: FileDescriptor

    public init() throws(LinuxError) {
        descriptor = FileDescriptor(owning: try systemCall("create eventfd") { clinux_eventfd() })
    }

    /// Wakes whoever waits for the descriptor. Never blocks: at its limit the counter is signalled all the same.
    public func signal() {
        var one: UInt64 = 1
        _ = write(descriptor.rawValue, &one, 8)
    }

    /// Takes the number of signals since the last call; 0 if there was none.
    @discardableResult
    public func drain() -> UInt64 {
        var count: UInt64 = 0
        return read(descriptor.rawValue, &count, 8) == 8 ? count : 0
    }
}

/// A timer on CLOCK_MONOTONIC that wakes a `Poller`.
public final class TimerFD: Sendable {
    public let descriptor: FileDescriptor

    public init() throws(LinuxError) {
        descriptor = FileDescriptor(owning: try systemCall("create timerfd") { clinux_timerfd() })
    }

    /// Fires once at the given instant, at once if that is past; nil and `.never` disarm it.
    public func arm(at instant: Instant?) throws(LinuxError) {
        // 0 would disarm the timer (timerfd_settime(2)).
        let when = instant.map { $0 == .never ? 0 : max($0.nanoseconds, 1) } ?? 0
        _ = try systemCall("arm timer") { clinux_timerfd_arm(descriptor.rawValue, when) }
    }

    /// Whether it has fired since the last call; makes it unreadable again.
    @discardableResult
    public func drain() -> Bool {
        var count: UInt64 = 0
        return read(descriptor.rawValue, &count, 8) == 8 && count > 0
    }
}

/// Waits for several descriptors at once (epoll, level-triggered, nanosecond time-outs).
///
/// Any thread may add and remove; one thread waits.
public final class Poller: Sendable {
    /// What became ready, and the token it was added with.
    public struct Ready: Hashable, Sendable {
        public var token: UInt64
        public var readable: Bool
        public var writable: Bool
        /// Error or hang-up.
        public var failed: Bool
    }

    private let epoll: FileDescriptor

    public init() throws(LinuxError) {
        epoll = FileDescriptor(owning: try systemCall("create epoll") { clinux_epoll() })
    }

    /// Watches a descriptor; the caller keeps it open until it is removed.
    public func add(_ descriptor: Int32, token: UInt64, readable: Bool = true, writable: Bool = false)
        throws(LinuxError)
    {
        let events = (readable ? UInt32(CLINUX_READABLE) : 0) | (writable ? UInt32(CLINUX_WRITABLE) : 0)
        _ = try systemCall("watch descriptor", "\(descriptor)") {
            clinux_epoll_add(epoll.rawValue, descriptor, events, token)
        }
    }

    public func add(_ descriptor: FileDescriptor, token: UInt64) throws(LinuxError) {
        try add(descriptor.rawValue, token: token)
    }

    public func remove(_ descriptor: Int32) throws(LinuxError) {
        _ = try systemCall("stop watching descriptor", "\(descriptor)") {
            clinux_epoll_remove(epoll.rawValue, descriptor)
        }
    }

    /// Waits until something is ready or the time is up (nil: for ever), and calls the body for each; returns how many.
    ///
    /// At most 64 in one call. Allocates nothing. An interrupting signal ends the wait as if the time were up.
    @discardableResult
    public func wait(timeout: Interval?, body: (Ready) -> Void) throws(LinuxError) -> Int {
        var failure: LinuxError?
        let count = withUnsafeTemporaryAllocation(of: clinux_ready.self, capacity: 64) { ready -> Int in
            guard let base = ready.baseAddress else { return 0 }
            let count = clinux_epoll_wait(epoll.rawValue, base, 64, max(timeout?.nanoseconds ?? -1, -1))
            if count < 0 {
                if errno != EINTR { failure = LinuxError.last("wait for events", "") }
                return 0
            }
            for index in 0..<Int(count) {
                let (token, events) = (ready[index].token, ready[index].events)
                body(
                    Ready(
                        token: token,
                        readable: events & UInt32(CLINUX_READABLE) != 0,
                        writable: events & UInt32(CLINUX_WRITABLE) != 0,
                        failed: events & UInt32(CLINUX_FAILED) != 0
                    )
                )
            }
            return Int(count)
        }
        if let failure { throw failure }
        return count
    }
}
