import Configuration
import ControlPlane
import LinuxBase
import Logging
import Model
import NIOCore
import NIOPosix
import ServiceLifecycle

/// `baton-agent` as a service: opens the edges, runs until it is told to stop, puts everything back.
public struct AgentDaemon: Service {
    private let configuration: AgentConfiguration
    private let key: ControlPlane.ClusterKey
    private let logger: Logger

    public init(configuration: AgentConfiguration, key: ControlPlane.ClusterKey, logger: Logger) {
        self.configuration = configuration
        self.key = key
        self.logger = logger
    }

    public func run() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loop = group.next()
        try? Memory.lock()
        let failure = loop.makePromise(of: Void.self)
        let runtime = try await loop.submit {
            RealtimeThread.promoteCurrent(priority: 10)
            let runtime = try AgentRuntime(configuration: configuration, key: key, loop: loop, logger: logger)
            do {
                try runtime.start { failure.fail($0) }
            } catch {
                runtime.stop()
                throw error
            }
            return runtime
        }.get()
        logger.notice("baton-agent \(configuration.name) runs on \(configuration.interface)")
        let outcome = try await withGracefulShutdownHandler {
            try await failure.futureResult.map { Result<Void, any Error>.success(()) }.recover { .failure($0) }.get()
        } onGracefulShutdown: {
            failure.succeed(())
        }
        try await loop.submit { runtime.stop() }.get()
        try await group.shutdownGracefully()
        // Callbacks of the loop's last turn still use it.
        withExtendedLifetime(runtime) {}
        try outcome.get()
    }
}
