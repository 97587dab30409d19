import CLinux
import Glibc

/// A thread of its own, in SCHED_FIFO where the system allows it.
public struct RealtimeThread: Sendable {
    private let thread: pthread_t
    /// The error number of the refused real-time class; 0 when the thread is in SCHED_FIFO or none was asked for.
    public let refusal: Int32
    /// Whether the thread really is in SCHED_FIFO.
    public let isRealtime: Bool

    /// Starts a thread that runs the body once.
    ///
    /// Signals: the thread has the mask of the caller. Network namespace: that of the calling thread.
    /// - Parameters:
    ///   - name: shown by `ps -L`; cut to 15 bytes.
    ///   - priority: SCHED_FIFO priority, 1...99; 0 asks for an ordinary thread. Where SCHED_FIFO is refused the thread
    ///     runs in the ordinary class, and `isRealtime` is false.
    ///   - stackBytes: size of the stack.
    /// - Throws: when no thread can be made at all.
    public static func start(
        name: String,
        priority: Int32 = 0,
        stackBytes: Int = 1 << 20,
        body: sending @escaping () -> Void
    ) throws(LinuxError) -> RealtimeThread {
        let context = Unmanaged.passRetained(ThreadBody(body)).toOpaque()
        var thread = pthread_t()
        var refusal: Int32 = 0
        var result = clinux_thread_start(&thread, stackBytes, priority, runThreadBody, context)
        if result != 0, priority > 0 {
            refusal = result
            result = clinux_thread_start(&thread, stackBytes, 0, runThreadBody, context)
        }
        guard result == 0 else {
            Unmanaged<ThreadBody>.fromOpaque(context).release()
            throw LinuxError("start thread", name, errno: result)
        }
        // Only a label: a failure (the thread may be over already) changes nothing.
        _ = clinux_thread_name(thread, String(decoding: name.utf8.prefix(15), as: UTF8.self))
        return RealtimeThread(thread: thread, refusal: refusal, isRealtime: priority > 0 && refusal == 0)
    }

    /// Puts the calling thread into SCHED_FIFO; false where the system does not allow it.
    @discardableResult
    public static func promoteCurrent(priority: Int32) -> Bool { clinux_thread_promote(priority) == 0 }

    /// Puts the calling thread into the ordinary class: threads inherit that of whoever starts them.
    public static func demoteCurrent() {
        var ordinary = sched_param(sched_priority: 0)
        pthread_setschedparam(pthread_self(), SCHED_OTHER, &ordinary)
    }

    /// Waits until the body has returned. Call it exactly once, from another thread.
    public func join() {
        pthread_join(thread, nil)
    }
}

private final class ThreadBody {
    let run: () -> Void
    init(_ run: @escaping () -> Void) { self.run = run }
}

/// What pthread_create calls. A free function: a closure written in an isolated function would inherit its isolation,
/// and the new thread would trap on entry.
private func runThreadBody(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let context else { return nil }
    Unmanaged<ThreadBody>.fromOpaque(context).takeRetainedValue().run()
    return nil
}
