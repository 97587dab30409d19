import Model

/// The kinds of checks that one of the daemons knows, and what it takes for granted.
public protocol KindOfCheck: RawRepresentable<String>, CaseIterable, Hashable, Sendable {
    /// What a check is in code that does not say.
    static var usual: Self { get }
    static var times: CheckTimes { get }
    /// What is sent to the application; nil: nothing is.
    var probe: DirectorConfiguration.CheckKind? { get }
}

/// The times of a daemon's checks: defaults and bounds.
public struct CheckTimes: Sendable {
    public var interval: Interval
    public var timeout: Interval
    public var jitter: Int
    var intervals: ClosedRange<Interval>
    var timeouts: ClosedRange<Interval>
}

/// A health check, of the director's or of an agent's: the same keys in both files, other kinds and defaults.
public struct ServiceCheck<Kind: KindOfCheck>: Hashable, Sendable {
    /// `kind`: what is tried. Required in the director's file; default `tcp` in an agent's.
    public var kind: Kind
    /// `port`: where. 1...65535; default: the service's (nil here).
    public var port: UInt16?
    /// `interval`: between the starts of two checks. Duration 50ms...1h, default 2s; of an agent 10ms...1m, default 500ms.
    public var interval: Interval
    /// `timeout`: how long one check may take. Duration 1ms...5m (of an agent 1m), no longer than `interval`; default 1s
    /// (of an agent 200ms), or the interval where that is shorter.
    public var timeout: Interval
    /// `rise`: good checks in a row before it is up again. Whole number 1...100; default 2.
    public var rise: Int
    /// `fall`: failed checks in a row before it is down. Whole number 1...100; default 3.
    public var fall: Int
    /// `jitter`: how far from the interval a start may be, in percent of it. Whole number 0...50; default 10, of an agent
    /// 0.
    public var jitter: Int
    /// `dampening`: what changes too often is held down for longer; nil: it is not.
    public var dampening: CheckDampening?
    /// `host`: for `tls` the name that is asked for; for `http` and `https` the Host field too. 1 to 255 of
    /// `A-Za-z0-9._:-[]`. Nil: none, and address and port.
    public var host: String?
    /// `verify`: `tls`, `https`: whether the certificate must be valid, and `host`'s where that is said. Default false.
    public var verify: Bool
    /// `authorities`: `tls`, `https`: the file of the certificates that are trusted. Absolute path; default the
    /// system's (nil here).
    public var authorities: String?
    /// `path`: `http`, `https`: what is asked for, with its query. Begins with `/`, at most 1024 visible ASCII
    /// characters; default `/`.
    public var path: String
    /// `status`: `http`, `https`: good status codes. One, a range, or a list of them, 100...599; default 200-399.
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
        kind: Kind = .usual,
        port: UInt16? = nil,
        interval: Interval = Kind.times.interval,
        timeout: Interval = Kind.times.timeout,
        rise: Int = 2,
        fall: Int = 3,
        jitter: Int = Kind.times.jitter,
        dampening: CheckDampening? = nil,
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

/// `dampening`: how many changes are too many, and what follows.
public struct CheckDampening: Hashable, Sendable {
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
