import Model

/// A service, by the number that the director gave it; the same number as in the data plane's maps.
public struct ServiceID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public var rawValue: UInt16
    @inlinable
    public init(rawValue: UInt16) { self.rawValue = rawValue }
    @inlinable
    public static func < (left: ServiceID, right: ServiceID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "service \(rawValue)" }
}

extension BackendID {
    /// The director, where a message names its sender or receiver.
    public static let director = BackendID(rawValue: 0xffff)
}

/// Numbers that both ends of a control connection must agree on.
public enum ControlProtocol {
    /// Raised by every change of a message's layout.
    public static let version: UInt16 = 4
    /// No lease and no promise may be longer: a director that has just started waits this out before it condemns.
    public static let longestLease = Interval.seconds(2)
    /// No other interval in a message may be longer.
    public static let longestInterval = Interval.seconds(86_400)
}
