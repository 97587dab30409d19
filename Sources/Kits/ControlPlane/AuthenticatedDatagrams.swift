import Glibc
import Logging
import Model
import NIOCore
import NIOPosix

/// What an `AuthenticatedDatagrams` did since its start.
public struct DatagramCounters: Equatable, Sendable {
    /// Datagrams handed to the kernel.
    public var sent: UInt64 = 0
    /// Datagrams that the kernel did not take (no route, full buffer, firewall), or with a body too long.
    public var sendFailed: UInt64 = 0
    /// Datagrams with a right tag.
    public var received: UInt64 = 0
}

/// A UDP socket whose datagrams carry an HMAC-SHA-256 of the cluster.
///
/// Everything happens on the event loop given, synchronously: `send` has made its system call when it returns, and the
/// handler is called from the loop's read. Datagrams that fail the check never reach the handler; they are counted and
/// logged by `AuthenticationFailures`. Make and use it on that loop only.
public final class AuthenticatedDatagrams {
    public typealias Handler = (_ body: [UInt8], _ from: Endpoint) -> Void

    /// Where the socket is bound, with the port that the kernel chose when 0 was asked for.
    public let localEndpoint: Endpoint
    public private(set) var counters = DatagramCounters()

    private static let receiveBufferBytes: CInt = 1 << 20
    private static let datagramsPerRead = 32
    private static let unsendableLimit = 2 * Limits.backends
    private static let reopenDelay = TimeAmount.milliseconds(100)

    private let eventLoop: any EventLoop
    private let seal: DatagramSeal
    private let failures: AuthenticationFailures
    private let logger: Logger
    private var handler: Handler
    private var channel: (any Channel)?
    /// A second descriptor of the socket, for sending; -1 when closed.
    ///
    /// NIO closes a datagram channel for good on ENETUNREACH, EPERM and ENOBUFS, that is when a cable is out or a
    /// firewall says no. Heartbeats must go on afterwards, so they are sent past it.
    private var sender: CInt = -1
    private var isClosed = false
    /// Peers to which datagrams could not be sent lately, and when the last of them was; bounded, for the log only.
    private var unsendable: [Endpoint: NIODeadline] = [:]
    /// So long without a failure, and the log says that it is over: while a cable is out, the kernel takes some
    /// datagrams and refuses others.
    private let recovery: TimeAmount

    /// Binds the socket and starts to receive.
    ///
    /// - Parameter recovery: so long without a failure to a peer, and the log says that it is over.
    /// - Throws: `SocketError` when the address cannot be bound.
    public init(
        bind endpoint: Endpoint,
        on eventLoop: any EventLoop,
        key: ClusterKey,
        use: KeyUse,
        failures: AuthenticationFailures,
        logger: Logger,
        recovery: TimeAmount = .seconds(10),
        handler: @escaping Handler
    ) throws(SocketError) {
        eventLoop.preconditionInEventLoop()
        self.eventLoop = eventLoop
        self.seal = DatagramSeal(key: key, use: use)
        self.failures = failures
        self.logger = logger
        self.recovery = recovery
        self.handler = handler
        let descriptor = try BoundSocket.datagram(endpoint, receiveBufferBytes: Self.receiveBufferBytes)
        localEndpoint = Endpoint(localAddressOf: descriptor) ?? endpoint
        adopt(descriptor)
    }

    /// Replaces the handler.
    public func setHandler(_ handler: @escaping Handler) {
        eventLoop.preconditionInEventLoop()
        self.handler = handler
    }

    /// Sends one datagram now.
    ///
    /// - Parameter body: 1 ... `DatagramSeal.bodyLimit` bytes.
    /// - Returns: Whether the kernel took it. Nothing is queued: a heartbeat that is late is worth nothing.
    @discardableResult
    public func send(body: [UInt8], to peer: Endpoint) -> Bool {
        eventLoop.preconditionInEventLoop()
        guard sender >= 0 else { return false }
        guard let datagram = seal.seal(body) else {
            sendFailed(EMSGSIZE, to: peer)
            return false
        }
        let code = transmit(datagram, to: peer)
        guard code == 0 else {
            sendFailed(code, to: peer)
            return false
        }
        counters.sent &+= 1
        if !unsendable.isEmpty, let last = unsendable[peer], NIODeadline.now() - last >= recovery {
            unsendable[peer] = nil
            logger.notice("datagrams of \(localEndpoint) to \(peer) are sent again")
        }
        return true
    }

    /// Closes the socket; the handler is not called any more.
    public func close() {
        eventLoop.preconditionInEventLoop()
        guard !isClosed else { return }
        isClosed = true
        closeSender()
        channel?.close(promise: nil)
        channel = nil
        handler = { _, _ in }
    }

    // MARK: Sending

    private func transmit(_ datagram: [UInt8], to peer: Endpoint) -> CInt {
        let result = peer.withSocketAddress(family: localEndpoint.family) { address, length in
            while true {
                let sent = sendto(sender, datagram, datagram.count, CInt(MSG_DONTWAIT), address, length)
                if sent >= 0 { return 0 as CInt }
                let code = errno
                if code != EINTR { return code }
            }
        }
        return result ?? EAFNOSUPPORT
    }

    /// Counts, and logs the first of a row of failures to one peer.
    private func sendFailed(_ code: CInt, to peer: Endpoint) {
        counters.sendFailed &+= 1
        guard unsendable.count < Self.unsendableLimit || unsendable[peer] != nil else { return }
        if unsendable.updateValue(.now(), forKey: peer) == nil {
            logger.warning("datagram of \(localEndpoint) to \(peer) not sent: \(errorText(code))")
        }
    }

    private func closeSender() {
        if sender >= 0 { Glibc.close(sender) }
        sender = -1
    }

    // MARK: The channel

    /// Gives a bound socket to NIO for receiving.
    private func adopt(_ descriptor: CInt) {
        sender = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
        let owner = NIOLoopBound(self, eventLoop: eventLoop)
        // 2,048 bytes for each: a datagram too long still shows as too long. Cutting is the kernel's.
        let buffer = FixedSizeRecvByteBufferAllocator(capacity: 2048 * Self.datagramsPerRead)
        let opened = DatagramBootstrap(group: eventLoop)
            .channelOption(.datagramVectorReadMessageCount, value: Self.datagramsPerRead)
            .channelOption(.recvAllocator, value: buffer)
            // Heartbeats come one at a time; the poller says when there is more, so nobody has to ask whether there is.
            .channelOption(.maxMessagesPerRead, value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(DatagramReader(owner: owner.value))
                }
            }
            .withBoundSocket(descriptor)
        opened.assumeIsolated().whenComplete { [self] result in
            switch result {
            case .success(let channel):
                if isClosed {
                    channel.close(promise: nil)
                } else {
                    self.channel = channel
                }
            case .failure(let error):
                logger.error("UDP \(localEndpoint): cannot receive: \(error)")
                channelClosed()
            }
        }
    }

    fileprivate func received(_ datagram: ByteBuffer, from address: SocketAddress) {
        guard !isClosed, let peer = Endpoint(address) else { return }
        switch datagram.withUnsafeReadableBytes({ seal.open($0) }) {
        case .body(let body):
            counters.received &+= 1
            handler(body, peer)
        case .refused(let cause):
            failures.record(cause, from: peer)
        }
    }

    fileprivate func receiveError(_ error: any Error) {
        guard !isClosed else { return }
        logger.warning("UDP \(localEndpoint): \(error)")
    }

    /// The channel is gone although nobody closed it: bind again until it works.
    fileprivate func channelClosed() {
        guard !isClosed else { return }
        channel = nil
        closeSender()
        eventLoop.assumeIsolated().scheduleTask(in: Self.reopenDelay) { [self] in
            guard !isClosed, channel == nil, sender < 0 else { return }
            do throws(SocketError) {
                adopt(try BoundSocket.datagram(localEndpoint, receiveBufferBytes: Self.receiveBufferBytes))
            } catch {
                channelClosed()
            }
        }
    }
}

private final class DatagramReader: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>

    private let owner: AuthenticatedDatagrams

    init(owner: AuthenticatedDatagrams) { self.owner = owner }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        owner.received(envelope.data, from: envelope.remoteAddress)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { owner.receiveError(error) }

    func channelInactive(context: ChannelHandlerContext) { owner.channelClosed() }
}
