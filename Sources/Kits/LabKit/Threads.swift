import CLab
import Glibc
import Synchronization

private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

// Formed here, in a nonisolated place: a closure made within an isolated function would trap on its new thread.
private func threadMain(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let context { Unmanaged<ThreadBody>.fromOpaque(context).takeRetainedValue().run() }
    return nil
}

/// Runs a closure on a detached thread of its own.
func startThread(_ run: @escaping @Sendable () -> Void) {
    let context = Unmanaged.passRetained(ThreadBody(run))
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    pthread_attr_setstacksize(&attributes, 512 << 10)
    var thread = pthread_t()
    let code = pthread_create(&thread, &attributes, threadMain, context.toOpaque())
    pthread_attr_destroy(&attributes)
    precondition(code == 0, "no thread: \(errorText(code))")
}

/// A value that one thread sets once and others wait for.
final class Promise<Value: Sendable>: Sendable {
    private let value = Mutex<Value?>(nil)
    private let ends: (read: Int32, write: Int32)

    init() throws {
        var ends: [Int32] = [-1, -1]
        guard clab_pipe(&ends) == 0 else { throw LabError.system("pipe", code: errno) }
        self.ends = (ends[0], ends[1])
    }

    deinit {
        close(ends.read)
        close(ends.write)
    }

    func fulfil(_ result: Value) {
        value.withLock { $0 = result }
        var byte: UInt8 = 1
        _ = write(ends.write, &byte, 1)
    }

    /// nil when the time is over or a signal asked for the end.
    func wait(until deadline: Deadline = .never) -> Value? {
        while true {
            if let result = value.withLock({ $0 }) { return result }
            guard !deadline.isOver, !Interrupts.isRaised else { return nil }
            var watch = pollfd(fd: ends.read, events: Int16(POLLIN), revents: 0)
            _ = poll(&watch, 1, deadline.pollMilliseconds(atMost: 50))
        }
    }
}

/// Runs a closure in another network namespace, on a thread made for it, and returns what it returned.
func inNetworkNamespace<Value: Sendable>(
    _ path: String,
    _ body: @escaping @Sendable () throws -> Value
) throws -> Value {
    let promise = try Promise<Result<Value, any Error>>()
    startThread {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            return promise.fulfil(.failure(LabError.system(path, code: errno)))
        }
        defer { close(descriptor) }
        guard clab_enter_network(descriptor) == 0 else {
            return promise.fulfil(.failure(LabError.system("setns \(path)", code: errno)))
        }
        promise.fulfil(Result { try body() })
    }
    guard let result = promise.wait() else { throw LabError.interrupted }
    return try result.get()
}
