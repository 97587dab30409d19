import Model

/// Bounds and time-outs of a tracker.
public struct TrackerParameters: Hashable, Sendable {
    public var connections = Limits.backupConnections
    /// Bytes of one journal; at most 64 MiB.
    public var journalBytesPerConnection = Limits.journalBytesPerConnection
    /// Bytes of all journals, in order or not.
    public var journalBytes = Limits.journalBytes
    /// Pieces beyond a gap, of one connection.
    public var gapsPerConnection = 64
    /// Pieces beyond a gap, of all connections.
    public var gaps = 65_536
    /// No server's receive window is longer: what a client seems to send further ahead is not of this connection. Twice
    /// the largest `tcp_rmem` in use; what is less keeps more stray and forged frames out.
    public var windowBytes = 64 << 20
    /// How long an unfinished handshake is kept.
    public var handshakeTimeout = Interval.seconds(10)
    /// How long a connection is kept after the client's FIN without another frame ([Z] II-E).
    public var closedTimeout = Interval.seconds(60)
    public var idleTimeout = Interval.seconds(3600)

    public init() {}
}

extension Tracker {
    public typealias Parameters = TrackerParameters
}
