import Model
import NIOCore

/// The time-outs and bounds of listener, connector and sessions.
public struct SecureStreamParameters: Sendable {
    /// A connection whose handshake is not finished after this time is closed.
    public var handshakeTimeout = Interval.seconds(2)
    /// How long a TCP connection may take to come up.
    public var connectTimeout = Interval.seconds(1)
    /// An empty frame is sent when nothing else was for this time.
    public var keepaliveInterval = Interval.seconds(1)
    /// A session from which nothing came for this time is closed. Both ends send keepalives.
    public var idleTimeout = Interval.seconds(5)
    /// Bytes sent that the peer's kernel has not acknowledged for this time end the session (TCP_USER_TIMEOUT).
    public var userTimeout = Interval.seconds(5)
    /// Time for the orderly end of a TLS session.
    public var shutdownTimeout = Interval.milliseconds(500)
    /// Bytes of the longest frame body.
    public var frameLimit = Limits.controlMessageBytes
    /// Bytes that may wait to be sent before the session is given up.
    public var sendQueueLimit = 8 * Limits.controlMessageBytes
    /// Connections whose handshake is under way; one more closes the oldest of them.
    public var handshakeLimit = 64
    /// Authenticated sessions of one listener.
    public var sessionLimit = 2 * Limits.backends
    /// Time before the first attempt to connect again; it doubles with every failure.
    public var reconnectMinimum = Interval.milliseconds(50)
    /// The longest time between two attempts; a session that lived longer makes the next start from the minimum.
    public var reconnectMaximum = Interval.seconds(1)

    public init() {}
}

extension TimeAmount {
    init(_ interval: Interval) { self = .nanoseconds(interval.nanoseconds) }
}

/// The time between attempts to connect: doubles from the minimum to the maximum, each drawn from the upper half.
struct ReconnectBackoff {
    private let minimum: Int64
    private let maximum: Int64
    private var current: Int64

    init(_ parameters: SecureStreamParameters) {
        minimum = max(parameters.reconnectMinimum.nanoseconds, 1_000_000)
        maximum = max(parameters.reconnectMaximum.nanoseconds, minimum)
        current = minimum
    }

    /// The time to wait before the next attempt.
    ///
    /// - Parameter random: A random number; spreads the agents of a cluster that all lost the same director.
    mutating func next(random: UInt64) -> TimeAmount {
        let half = current / 2
        let delay = half + Int64(random % UInt64(current - half + 1))
        current = min(current * 2, maximum)
        return .nanoseconds(delay)
    }

    mutating func reset() { current = minimum }
}
