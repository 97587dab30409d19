import Model
import NIOCore
import NIOPosix

/// `tcp`: the port takes a connection.
public struct TCPCheck: HealthCheck {
    public init() {}

    public func begin(_ run: CheckRun) {
        run.connect(handlers: { [] }, opened: { _ in run.pass() })
    }
}

extension CheckRun {
    /// Connects to the target; the connection is closed when the attempt is over.
    ///
    /// - Parameters:
    ///   - handlers: made for the connection; what it throws fails the attempt.
    ///   - opened: called when the connection is established.
    func connect(
        handlers: @escaping @Sendable () throws -> [any ChannelHandler],
        opened: @escaping @Sendable (any Channel) -> Void
    ) {
        let address: SocketAddress
        do {
            address = try SocketAddress(ipAddress: "\(target.endpoint.address)", port: Int(target.endpoint.port))
        } catch {
            return fail("\(error)")
        }
        ClientBootstrap(group: loop)
            .connectTimeout(timeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    for handler in try handlers() { try channel.pipeline.syncOperations.addHandler(handler) }
                }
            }
            .connect(to: address)
            .whenComplete { result in
                switch result {
                case .success(let channel):
                    self.whenOver { channel.close(promise: nil) }
                    self.connected?(channel)
                    opened(channel)
                case .failure(let error): self.fail(oneLine("\(error)"))
                }
            }
    }
}

/// A cause as one line of a log.
func oneLine(_ text: String) -> String {
    String(text.map { $0.isNewline ? " " : $0 }.prefix(400))
}
