import Model

extension DirectorConfiguration {
    /// One entry of `services[].checks`: how the director finds out whether a back-end serves. All checks of a service must
    /// pass.
    public struct Check: Hashable, Sendable {
        /// `kind`: what is tried. `ping`, `tcp`, `tls`, `http`, `https`, `dns` or `command`; required.
        public var kind: CheckKind
        /// `port`: at the back-end's own address. 1...65535; default: the service's (nil here).
        public var port: UInt16?
        /// `interval`: between the starts of two checks. Duration 50ms...1h; default 2s.
        public var interval: Interval
        /// `timeout`: how long one check may take. Duration 1ms...5m, no longer than `interval`; default 1s, or the
        /// interval where that is shorter.
        public var timeout: Interval
        /// `rise`: good checks in a row before it is up again. Whole number 1...100; default 2.
        public var rise: Int
        /// `fall`: failed checks in a row before it is down. Whole number 1...100; default 3.
        public var fall: Int
        /// `jitter`: how far from the interval a start may be, in percent of it. Whole number 0...50; default 10.
        public var jitter: Int
        /// `dampening`: what changes too often is held down for longer; nil: it is not.
        public var dampening: Dampening?
        /// `host`: for `tls` the name that is asked for; for `http` and `https` the Host field too. Nil: none, and address
        /// and port.
        public var host: String?
        /// `verify`: `tls`, `https`: whether the certificate must be valid, and `host`'s where that is said. Default false.
        public var verify: Bool
        /// `authorities`: `tls`, `https`: the file of the certificates that are trusted. Absolute path; default the
        /// system's (nil here).
        public var authorities: String?
        /// `path`: `http`, `https`: what is asked for. Begins with `/`; default `/`.
        public var path: String
        /// `status`: `http`, `https`: good status codes. One, a range, or a list of them; default 200-399.
        public var statuses: [ClosedRange<Int>]
        /// `body`: `http`, `https`: a text that the body must have; nil: none.
        public var body: String?
        /// `regex`: `http`, `https`: an extended regular expression that the body must match; nil: none.
        public var regex: String?
        /// `query`: `dns`: the name that is asked for; required there.
        public var query: String
        /// `type`: `dns`: the type of record. Default A.
        public var recordType: String
        /// `answer`: `dns`: an address that must be among the answers; nil: none.
        public var answer: IPAddress?
        /// `command`: `command`: the program, by an absolute path, and its arguments. 1 to 32 words; required there.
        public var command: [String]

        public init(
            kind: CheckKind,
            port: UInt16? = nil,
            interval: Interval = .seconds(2),
            timeout: Interval = .seconds(1),
            rise: Int = 2,
            fall: Int = 3,
            jitter: Int = 10,
            dampening: Dampening? = nil,
            host: String? = nil,
            verify: Bool = false,
            authorities: String? = nil,
            path: String = "/",
            statuses: [ClosedRange<Int>] = [200...399],
            body: String? = nil,
            regex: String? = nil,
            query: String = "",
            recordType: String = "A",
            answer: IPAddress? = nil,
            command: [String] = []
        ) {
            self.kind = kind
            self.port = port
            self.interval = interval
            self.timeout = timeout
            self.rise = rise
            self.fall = fall
            self.jitter = jitter
            self.dampening = dampening
            self.host = host
            self.verify = verify
            self.authorities = authorities
            self.path = path
            self.statuses = statuses
            self.body = body
            self.regex = regex
            self.query = query
            self.recordType = recordType
            self.answer = answer
            self.command = command
        }
    }

    /// What a check of the director's tries.
    public enum CheckKind: String, CaseIterable, Sendable {
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
    }

    /// `dampening`: how many changes are too many, and what follows.
    public struct Dampening: Hashable, Sendable {
        /// `changes`: so many within the time are too many. Whole number 2...64; default 4.
        public var changes: Int
        /// `within`: the time. Duration 1s...24h; default 1m.
        public var within: Interval
        /// `hold`: how long it is held down then; twice, four and eight times as long where that does not help. Duration
        /// 1s...1h; default 1m.
        public var hold: Interval

        public init(changes: Int = 4, within: Interval = .seconds(60), hold: Interval = .seconds(60)) {
            self.changes = changes
            self.within = within
            self.hold = hold
        }
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
