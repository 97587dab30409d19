import Configuration
import ControlPlane
import LinuxBase
import Logging
import Model
import ModuleInterfaces
import NIOCore
import NIOPosix
import ServiceLifecycle

/// `baton-director` as a service: opens the edges, runs until it is told to stop; the data plane stays.
public struct DirectorDaemon: Service {
    private let configuration: DirectorConfiguration
    private let key: ControlPlane.ClusterKey
    private let registry: ModuleRegistry
    private let source: ConfigurationSource?
    private let reloads: ReloadRequests
    private let logger: Logger

    public init(
        configuration: DirectorConfiguration,
        key: ControlPlane.ClusterKey,
        registry: ModuleRegistry,
        source: ConfigurationSource? = nil,
        reloads: ReloadRequests = ReloadRequests(),
        logger: Logger
    ) {
        self.configuration = configuration
        self.key = key
        self.registry = registry
        self.source = source
        self.reloads = reloads
        self.logger = logger
    }

    public func run() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loop = group.next()
        try? Memory.lock()
        let failure = loop.makePromise(of: Void.self)
        let runtime = try await loop.submit {
            RealtimeThread.promoteCurrent(priority: 10)
            let runtime = try DirectorRuntime(
                configuration: configuration, key: key, registry: registry, source: source, loop: loop,
                logger: logger)
            do {
                try runtime.start { failure.fail($0) }
            } catch {
                runtime.stop()
                throw error
            }
            return runtime
        }.get()
        reloads.answer { loop.execute { runtime.reloadBySignal() } }
        logger.notice("baton-director runs on \(configuration.interface)")
        let outcome = try await withGracefulShutdownHandler {
            try await failure.futureResult.map { Result<Void, any Error>.success(()) }.recover { .failure($0) }.get()
        } onGracefulShutdown: {
            failure.succeed(())
        }
        reloads.answer(nil)
        try await loop.submit { runtime.stop() }.get()
        try await group.shutdownGracefully()
        // Callbacks of the loop's last turn still use it.
        withExtendedLifetime(runtime) {}
        try outcome.get()
    }
}
