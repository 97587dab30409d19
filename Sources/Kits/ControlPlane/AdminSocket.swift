import Logging
import Model
import NIOCore
import NIOPosix

/// A daemon's admin socket: a unix stream socket of mode 0600 that takes JSON lines and answers each with one.
///
/// A connection may send any number of requests; they are answered in their order, one at a time. Make and use it on
/// the event loop given only; the handler is called there too.
public final class AdminSocket {
    public typealias Handler = (AdminRequest) -> AdminAnswer

    /// Bytes of the longest request line.
    public static let requestLimit = 16_384
    /// Connections at a time.
    public static let clientLimit = 64
    /// A connection that sends nothing for this time is closed.
    static let idleTimeout = TimeAmount.seconds(60)

    /// Between requests that a client sends without waiting for answers: the loop has more urgent work.
    static let pauseBetweenRequests = TimeAmount.milliseconds(1)

    /// The path of the socket.
    public var path: String { file.path }
    /// Connections now.
    public private(set) var clientCount = 0

    private let eventLoop: any EventLoop
    private let file: LocalSocketFile
    private let logger: Logger
    private var handler: Handler
    private var channel: (any Channel)?
    private var clients: [ObjectIdentifier: any Channel] = [:]
    private var isClosed = false

    /// Makes the socket, and its parent directory when that is missing, and listens.
    ///
    /// - Throws: `SocketError` when another process listens at the path, when what is there is no socket, or when the
    ///   socket cannot be made.
    public init(
        path: String,
        on eventLoop: any EventLoop,
        logger: Logger,
        handler: @escaping Handler
    ) throws(SocketError) {
        eventLoop.preconditionInEventLoop()
        self.eventLoop = eventLoop
        self.logger = logger
        self.handler = handler
        let (file, descriptor) = try LocalSocketFile.listen(path: path, mode: 0o600)
        self.file = file
        listen(descriptor)
    }

    /// Closes all connections and removes the socket file.
    public func close() {
        eventLoop.preconditionInEventLoop()
        guard !isClosed else { return }
        isClosed = true
        file.remove()
        channel?.close(promise: nil)
        channel = nil
        for client in clients.values { client.close(promise: nil) }
        handler = { _ in .failure("the daemon is ending") }
    }

    private func listen(_ descriptor: CInt) {
        let owner = NIOLoopBound(self, eventLoop: eventLoop)
        ServerBootstrap(group: eventLoop, childGroup: eventLoop)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { child in
                child.eventLoop.makeCompletedFuture {
                    try child.pipeline.syncOperations.addHandler(AdminClientHandler(owner: owner.value))
                }
            }
            .withBoundSocket(descriptor).assumeIsolated().whenComplete { [self] result in
                switch result {
                case .success(let channel):
                    if isClosed {
                        channel.close(promise: nil)
                    } else {
                        self.channel = channel
                    }
                case .failure(let error):
                    logger.error("\(path): cannot accept connections: \(error)")
                }
            }
    }

    // MARK: Called by the clients' handlers

    fileprivate func admit(_ client: any Channel) -> Bool {
        guard !isClosed, clientCount < AdminSocket.clientLimit else { return false }
        clientCount += 1
        clients[ObjectIdentifier(client)] = client
        return true
    }

    fileprivate func forget(_ client: any Channel) {
        if clients.removeValue(forKey: ObjectIdentifier(client)) != nil { clientCount -= 1 }
    }

    fileprivate func answer(_ line: [UInt8]) -> AdminAnswer {
        do {
            return handler(try AdminJSON.decode(AdminRequest.self, from: line))
        } catch {
            return .failure(#"not a request; expected one line of JSON such as {"command":"status"}"#)
        }
    }
}

/// One connection: reads a line, answers it, and only then reads on.
private final class AdminClientHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private static let newline = UInt8(ascii: "\n")

    private let owner: AdminSocket
    private var input = ByteBuffer()
    private var isAnswering = false
    private var isClosing = false
    private var idle: Scheduled<Void>?

    init(owner: AdminSocket) { self.owner = owner }

    func channelActive(context: ChannelHandlerContext) {
        guard owner.admit(context.channel) else {
            refuse(context, "too many clients")
            return
        }
        proceed(context)
    }

    func channelInactive(context: ChannelHandlerContext) {
        idle?.cancel()
        isClosing = true
        owner.forget(context.channel)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // The client went away; there is nobody to tell.
        context.close(promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        input.discardReadBytes()
        input.writeBuffer(&bytes)
    }

    func channelReadComplete(context: ChannelHandlerContext) { proceed(context) }

    /// Answers the next line, or reads on when there is none.
    private func proceed(_ context: ChannelHandlerContext) {
        guard !isAnswering, !isClosing else { return }
        idle?.cancel()
        let view = input.readableBytesView
        guard let end = view.firstIndex(of: Self.newline) else {
            if view.count > AdminSocket.requestLimit {
                refuse(context, "a request has at most \(AdminSocket.requestLimit) bytes")
            } else {
                waitForMore(context)
            }
            return
        }
        let line = Array(view[..<end])
        input.moveReaderIndex(forwardBy: line.count + 1)
        guard line.count <= AdminSocket.requestLimit else {
            refuse(context, "a request has at most \(AdminSocket.requestLimit) bytes")
            return
        }
        isAnswering = true
        switch owner.answer(line) {
        case .json(let bytes): write(context, bytes)
        case .later(let future):
            future.hop(to: context.eventLoop).assumeIsolated().whenComplete { [self] result in
                switch result {
                case .success(let bytes): write(context, bytes)
                case .failure(let error): write(context, AdminJSON.failure("\(error)"))
                }
            }
        }
    }

    private func waitForMore(_ context: ChannelHandlerContext) {
        idle = context.eventLoop.assumeIsolated().scheduleTask(in: AdminSocket.idleTimeout) { [weak self] in
            self?.isClosing = true
            context.close(promise: nil)
        }
        context.read()
    }

    private func write(_ context: ChannelHandlerContext, _ bytes: [UInt8]) {
        guard !isClosing else { return }
        let written = context.eventLoop.makePromise(of: Void.self)
        // The next request is served when this answer has left: a client that does not read keeps one answer in memory.
        written.futureResult.assumeIsolated().whenComplete { [self] result in
            if case .success = result { answered(context) }
        }
        context.writeAndFlush(wrapOutboundOut(Self.lineBuffer(context, bytes)), promise: written)
    }

    /// Goes on with what the client sent meanwhile, if anything, but not before the loop has had a turn for others.
    private func answered(_ context: ChannelHandlerContext) {
        guard !isClosing else { return }
        if input.readableBytes == 0 {
            isAnswering = false
            proceed(context)
            return
        }
        context.eventLoop.assumeIsolated().scheduleTask(in: AdminSocket.pauseBetweenRequests) { [self] in
            isAnswering = false
            proceed(context)
        }
    }

    private func refuse(_ context: ChannelHandlerContext, _ text: String) {
        isClosing = true
        let buffer = Self.lineBuffer(context, AdminJSON.failure(text))
        context.writeAndFlush(wrapOutboundOut(buffer)).assumeIsolated().whenComplete { _ in context.close(promise: nil)
        }
    }

    private static func lineBuffer(_ context: ChannelHandlerContext, _ bytes: [UInt8]) -> ByteBuffer {
        var buffer = context.channel.allocator.buffer(capacity: bytes.count + 1)
        // Line ends within JSON are white space, never part of a string.
        buffer.writeBytes(bytes.map { $0 == 0x0a || $0 == 0x0d ? 0x20 : $0 })
        buffer.writeInteger(newline)
        return buffer
    }
}
