import Logging
import Model
import NIOCore

/// Why a session ended.
public enum SecureSessionEnd: Equatable, Sendable {
    /// `close()` was called here.
    case closedHere
    /// The peer closed it, or its connection broke.
    case closedByPeer(String)
    /// Nothing came from the peer within the idle time-out.
    case idle
    /// The peer sent a frame above the bound.
    case frameTooLong
    /// The peer did not take what was sent to it.
    case sendQueueFull
}

/// An authenticated, encrypted connection that carries frames.
///
/// Both ends have proved that they hold the cluster key when a session exists. Use it on its event loop only, where the
/// handlers are called too. Set the handlers in the `onSession` closure, before any frame can arrive.
public final class SecureSession {
    /// The other end.
    public let peer: Endpoint
    /// This end: the address from which this machine talks to the peer.
    public let local: Endpoint
    /// Called with the body of every frame, 1 byte or more.
    public var onFrame: (_ body: [UInt8]) -> Void = { _ in }
    /// Called once, when the session has ended; nothing is called after it.
    public var onClosed: (SecureSessionEnd) -> Void = { _ in }
    /// False once the session has ended.
    public private(set) var isOpen = true

    private let channel: any Channel
    private let eventLoop: any EventLoop
    private let parameters: SecureStreamParameters
    private let failures: AuthenticationFailures
    private var assembler: FrameAssembler
    /// Keepalive intervals since something was received. Counted rather than read from a clock: when this process was
    /// stopped for a while, what the peer sent meanwhile is still to be read.
    private var silentIntervals: Int64 = 0
    private var lastSent = NIODeadline.now()
    private var keepalive: Scheduled<Void>?
    /// For the listener or connector that made the session; called after `onClosed`.
    var onEnded: () -> Void = {}

    init(
        channel: any Channel,
        peer: Endpoint,
        local: Endpoint,
        parameters: SecureStreamParameters,
        failures: AuthenticationFailures
    ) {
        self.channel = channel
        self.peer = peer
        self.local = local
        self.parameters = parameters
        self.failures = failures
        eventLoop = channel.eventLoop
        assembler = FrameAssembler(limit: parameters.frameLimit)
        scheduleKeepalive()
    }

    /// Sends one frame; it has been given to the kernel, as far as its buffer allows, when this returns.
    ///
    /// - Parameter body: 1 ... `frameLimit` bytes.
    /// - Returns: False when the session has ended, or when the body is empty or too long. A session whose peer takes
    ///   nothing any more is ended here.
    @discardableResult
    public func send(_ body: [UInt8]) -> Bool {
        eventLoop.preconditionInEventLoop()
        guard isOpen, !body.isEmpty, body.count <= parameters.frameLimit else { return false }
        guard waitingBytes + body.count <= parameters.sendQueueLimit else {
            end(.sendQueueFull)
            return false
        }
        write(body)
        return isOpen
    }

    /// Ends the session in good order; `onClosed` is called with `.closedHere` from the loop's next turn.
    public func close() {
        eventLoop.preconditionInEventLoop()
        guard isOpen else { return }
        isOpen = false
        keepalive?.cancel()
        channel.close(promise: nil)
        eventLoop.assumeIsolated().execute { [self] in report(.closedHere) }
    }

    // MARK: Called by the channel's handler

    func received(_ bytes: inout ByteBuffer) {
        guard isOpen else { return }
        silentIntervals = 0
        assembler.append(&bytes)
        // A handler may close the session, so look each time.
        while isOpen {
            switch assembler.next() {
            case .wait: return
            case .keepalive: continue
            case .frame(let body): onFrame(body)
            case .tooLong(let count):
                failures.record(
                    .frameTooLong,
                    from: peer,
                    detail: "\(count) bytes announced, \(parameters.frameLimit) allowed"
                )
                end(.frameTooLong)
            }
        }
    }

    /// Ends the session for a reason that is not `close()`.
    func end(_ reason: SecureSessionEnd) {
        guard isOpen else { return }
        isOpen = false
        keepalive?.cancel()
        channel.close(promise: nil)
        report(reason)
    }

    /// Stops or resumes reading; for tests of peers that take nothing.
    func setReading(_ isReading: Bool) {
        try? channel.syncOptions?.setOption(.autoRead, value: isReading)
    }

    // MARK: Private

    private func report(_ reason: SecureSessionEnd) {
        let closed = onClosed
        let ended = onEnded
        // The handlers hold their owners; a session that has ended must not keep them.
        onFrame = { _ in }
        onClosed = { _ in }
        onEnded = {}
        closed(reason)
        ended()
    }

    private func write(_ body: [UInt8]) {
        var buffer = channel.allocator.buffer(capacity: FrameAssembler.headerBytes + body.count)
        buffer.writeInteger(UInt32(body.count))
        buffer.writeBytes(body)
        lastSent = .now()
        channel.writeAndFlush(buffer, promise: nil)
    }

    private var waitingBytes: Int {
        (try? channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    }

    private func scheduleKeepalive() {
        let interval = TimeAmount(parameters.keepaliveInterval)
        keepalive = eventLoop.assumeIsolated().scheduleTask(in: interval) { [weak self] in self?.keepaliveDue() }
    }

    private func keepaliveDue() {
        guard isOpen else { return }
        silentIntervals += 1
        guard silentIntervals * parameters.keepaliveInterval.nanoseconds < parameters.idleTimeout.nanoseconds else {
            end(.idle)
            return
        }
        let due = lastSent + TimeAmount(parameters.keepaliveInterval)
        if NIODeadline.now() >= due, waitingBytes == 0 { write([]) }
        if isOpen { scheduleKeepalive() }
    }
}
