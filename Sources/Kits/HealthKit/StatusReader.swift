import NIOCore

/// Waits for the status line of one answer.
public final class StatusReader: ChannelInboundHandler {
    public typealias InboundIn = ByteBuffer

    private let status: EventLoopPromise<Int>
    private var bytes: [UInt8] = []

    public init(_ status: EventLoopPromise<Int>) {
        self.status = status
    }

    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard bytes.count < HTTPProbe.longestAnswer else { return }
        bytes += Array(unwrapInboundIn(data).readableBytesView)
        switch HTTPProbe.read(bytes) {
        case .more: break
        case .status(let code): status.succeed(code)
        case .malformed: status.fail(CheckFailure.notHTTP)
        }
    }

    public func channelInactive(context: ChannelHandlerContext) {
        status.fail(CheckFailure.closed)
        context.fireChannelInactive()
    }

    public func errorCaught(context: ChannelHandlerContext, error: any Error) {
        status.fail(CheckFailure.connection("\(error)"))
        context.close(promise: nil)
    }
}
