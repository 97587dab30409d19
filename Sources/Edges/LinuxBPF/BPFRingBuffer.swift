import Clibbpf
import Glibc

/// The reading end of a ring buffer. One thread may use it: the one whose event loop waits on `epollDescriptor`.
public final class BPFRingBuffer {
    private let ring: OpaquePointer
    private let name: String
    private let receiver: Receiver
    private let descriptor: Descriptor

    /// What the C callback gets back as its context.
    private final class Receiver {
        let handler: (UnsafeRawBufferPointer) -> Void
        init(_ handler: @escaping (UnsafeRawBufferPointer) -> Void) { self.handler = handler }
    }

    /// - Parameter handler: called from `consume` with each event; the bytes are the kernel's, valid for the call only.
    init(
        descriptor: Descriptor, name: String, handler: @escaping (UnsafeRawBufferPointer) -> Void
    ) throws(BPFError) {
        LibbpfLog.clear()
        let receiver = Receiver(handler)
        let context = Unmanaged.passUnretained(receiver).toOpaque()
        guard let ring = ring_buffer__new(descriptor.number, BPFRingBuffer.receive, context, nil) else {
            throw BPFError.latest("read", "ring buffer \(name)")
        }
        self.ring = ring
        self.name = name
        self.receiver = receiver
        self.descriptor = descriptor
    }

    private static let receive: ring_buffer_sample_fn = { context, data, size in
        guard let context else { return 0 }
        let receiver = Unmanaged<Receiver>.fromOpaque(context).takeUnretainedValue()
        receiver.handler(UnsafeRawBufferPointer(start: data, count: size))
        return 0
    }

    /// Readable when there are events. It is this object's: do not close it.
    public var epollDescriptor: Int32 { ring_buffer__epoll_fd(ring) }

    /// Hands all events that are there to the handler; never waits.
    /// - Returns: how many there were.
    @discardableResult
    public func consume() throws(BPFError) -> Int {
        let count = ring_buffer__consume(ring)
        guard count >= 0 else { throw BPFError.latest("read", "ring buffer \(name)", code: -count) }
        return Int(count)
    }

    /// Waits for events, at most `milliseconds`, and hands them to the handler.
    @discardableResult
    public func poll(milliseconds: Int32) throws(BPFError) -> Int {
        let count = ring_buffer__poll(ring, milliseconds)
        if count == -EINTR { return 0 }
        guard count >= 0 else { throw BPFError.latest("read", "ring buffer \(name)", code: -count) }
        return Int(count)
    }

    deinit {
        ring_buffer__free(ring)
    }
}
