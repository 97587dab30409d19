import Model
import NIOCore
import NIOPosix

/// `dns`: a query over UDP is answered without an error, and with the address that is expected.
public struct DNSCheck: HealthCheck {
    private let question: DNSQuestion
    private let expected: IPAddress?

    /// - Parameter expected: an address that must be among the answers; nil: any answer whose code is NOERROR.
    public init(_ question: DNSQuestion, expected: IPAddress? = nil) {
        self.question = question
        self.expected = expected
    }

    public func begin(_ run: CheckRun) {
        let (expected, question) = (expected, question)
        let identifier = UInt16.random(in: 0 ... .max)
        guard
            let address = try? SocketAddress(
                ipAddress: "\(run.target.endpoint.address)", port: Int(run.target.endpoint.port))
        else { return run.fail("\(run.target.endpoint) is no address") }
        DatagramBootstrap(group: run.loop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let reader = DatagramReader(run) { bytes in
                        switch question.read(bytes, identifier: identifier, expected: expected) {
                        case .another: break
                        case .good: run.pass()
                        case .bad(let cause): run.fail(cause)
                        }
                    }
                    try channel.pipeline.syncOperations.addHandler(reader)
                }
            }
            .connect(to: address)
            .whenComplete { result in
                switch result {
                case .success(let channel):
                    run.whenOver { channel.close(promise: nil) }
                    let query = channel.allocator.buffer(bytes: question.query(identifier: identifier))
                    channel.writeAndFlush(AddressedEnvelope(remoteAddress: address, data: query), promise: nil)
                case .failure(let error): run.fail(oneLine("\(error)"))
                }
            }
    }
}

/// Gives on what comes at a datagram or raw socket.
final class DatagramReader: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>

    private let run: CheckRun
    private let received: ([UInt8]) -> Void

    init(_ run: CheckRun, _ received: @escaping ([UInt8]) -> Void) {
        self.run = run
        self.received = received
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        received(Array(unwrapInboundIn(data).data.readableBytesView))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        run.fail(oneLine("\(error)"))
    }
}
