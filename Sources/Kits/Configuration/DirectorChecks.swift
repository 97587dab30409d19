import Model

extension DirectorConfiguration {
    /// One entry of `services[].checks`: how the director finds out whether a back-end serves. All checks of a service must
    /// pass.
    public typealias Check = ServiceCheck<CheckKind>
    public typealias Dampening = CheckDampening

    /// What a check of the director's tries.
    public enum CheckKind: String, KindOfCheck {
        /// An ICMP echo.
        case ping
        /// To connect.
        case tcp
        /// A TLS handshake.
        case tls
        /// A GET.
        case http
        /// A GET over TLS.
        case https
        /// A query over UDP.
        case dns
        /// A program of the operator's.
        case command

        public static let usual = CheckKind.tcp
        public static let times = CheckTimes(
            interval: .seconds(2), timeout: .seconds(1), jitter: 10, intervals: .milliseconds(50) ... .seconds(3600),
            timeouts: .milliseconds(1) ... .seconds(300))
        public var probe: CheckKind? { self }
    }

    /// `rate` and `burst`: how many new flows may begin.
    public struct Rate: Hashable, Sendable {
        /// `rate`: new flows a second. Whole number 1...10000000.
        public var rate: Int
        /// `burst`: so many at once. Whole number 1...10000000; default: those of one second.
        public var burst: Int

        public init(rate: Int, burst: Int? = nil) {
            self.rate = rate
            self.burst = burst ?? rate
        }
    }
}
