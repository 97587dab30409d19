/// The TCP options that one side announced in its SYN or SYN-ACK (RFC 9293 3.2, RFC 7323, RFC 2018).
public struct HandshakeOptions: Hashable, Sendable {
    /// Maximum segment size in bytes; 536 where the option was absent (RFC 9293 3.7.1).
    public var mss: UInt16
    /// Shift count of the window scale option; nil where the option was absent.
    public var windowScale: UInt8?
    public var sackPermitted: Bool
    public var timestamps: Bool

    @inlinable
    public init(mss: UInt16 = 536, windowScale: UInt8? = nil, sackPermitted: Bool = false, timestamps: Bool = false) {
        self.mss = mss
        self.windowScale = windowScale
        self.sackPermitted = sackPermitted
        self.timestamps = timestamps
    }
}
