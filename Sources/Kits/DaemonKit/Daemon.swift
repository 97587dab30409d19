import Configuration
import ControlPlane
@preconcurrency import Glibc
import LinuxBPF
import LinuxBase
import Logging
import ServiceLifecycle
import UnixSignals

/// What both daemons' `main` do: read the key, run one service until a signal, end with a status that says why.
public enum Daemon {
    /// The exit statuses of the manual pages (sysexits.h where it has one).
    public enum Status {
        public static let failure: Int32 = 1
        public static let featureMissing: Int32 = 69
        public static let privilegeMissing: Int32 = 77
        public static let configuration: Int32 = 78
    }

    /// Log lines on standard error, where systemd and the lab collect them.
    public static func logger(_ label: String, level: LogLevel) -> Logger {
        var logger = Logger(label: label) { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = Logger.Level(rawValue: level.rawValue) ?? .info
        return logger
    }

    /// The cluster key of a file.
    public static func key(_ path: String) throws -> ClusterKey {
        try ClusterKey(bytes: try ClusterKeyFile.load(path).bytes)
    }

    /// Runs until SIGTERM or SIGINT.
    ///
    /// - Parameter onHangup: called for each SIGHUP; nil: SIGHUP ends the program, as it ends any other.
    public static func run(
        _ service: any Service, logger: Logger, onHangup: (@Sendable () -> Void)? = nil
    ) async throws {
        var services: [ServiceGroupConfiguration.ServiceConfiguration] = [
            .init(service: service, successTerminationBehavior: .gracefullyShutdownGroup)
        ]
        if let onHangup { services.append(.init(service: Hangups(handler: onHangup))) }
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: services,
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: logger
            )
        )
        try await group.run()
    }

    /// Prints an error for people, and tells the status to exit with.
    public static func report(_ error: any Error, program: String) -> Int32 {
        fputs("\(program): \(error)\n", stderr)
        if error is ConfigurationError { return Status.configuration }
        if error is FeatureMissing { return Status.featureMissing }
        if let error = error as? LinuxError { return error.errno == EPERM || error.errno == EACCES ? Status.privilegeMissing : Status.failure }
        if let error = error as? BPFError {
            return error.code == EPERM || error.code == EACCES ? Status.privilegeMissing : Status.failure
        }
        return Status.failure
    }
}

/// Hands SIGHUPs on.
private struct Hangups: Service {
    let handler: @Sendable () -> Void

    func run() async throws {
        for await _ in await UnixSignalsSequence(trapping: .sighup).cancelOnGracefulShutdown() { handler() }
    }
}
