import HTTP
import Model
import Tracking
import Wire

/// Times and bounds of a take-over.
public struct TakeoverParameters: Sendable {
    /// After an unanswered probe; doubled each time up to `probeIntervalMax`.
    public var probeInterval = Interval.milliseconds(20)
    public var probeIntervalMax = Interval.milliseconds(500)
    /// What is done for time that has passed before the machine looks again at what has come: few enough that no probe
    /// is repeated only because its answer was not looked at.
    public var deadlinesAtATime = 128
    /// A client that has not answered by then is given up.
    public var probeTimeout = Interval.seconds(5)
    /// Adoptions whose socket is not confirmed yet, at a time: below any sensible listen backlog.
    public var adoptionsInFlight = 256
    public var adoptionInterval = Interval.milliseconds(5)
    public var adoptionIntervalMax = Interval.milliseconds(50)
    public var adoptionTimeout = Interval.seconds(10)
    /// Journal bytes in one packet into the TUN device.
    public var segmentBytes = 8192
    /// The local application may take so long for the head of a trial's reply.
    public var trialTimeout = Interval.milliseconds(500)
    /// Journal bytes before the adopted socket's window is known: below the smallest initial window of Linux.
    public var firstFlightBytes = 32 << 10
    /// How soon a socket that takes journal bytes is looked at again.
    public var feedInterval = Interval.milliseconds(1)
    /// Journal bytes are sent again after this time without progress; doubled up to a second.
    public var replayInterval = Interval.milliseconds(50)
    /// The local application may be silent for so long before its regenerated reply has reached what the client has.
    public var catchUpTimeout = Interval.seconds(30)
    /// Longer than a usual round trip to a client: frames that it sent before the probe have come by then.
    public var lateAnswers = Interval.milliseconds(200)
    /// The local application may take so long to close a connection whose client has everything but the FIN: longer than
    /// the time-outs of idle connections of usual servers.
    public var closeTimeout = Interval.seconds(90)
    /// A client sends what is missing in the journal again within this time, unless the dead server had acknowledged
    /// it: then nobody has it any more.
    public var holeTimeout = Interval.seconds(5)
    /// A RST is sent so many times more, for it may be lost and is not answered; the first time after `resetInterval`,
    /// which is doubled each time.
    public var resetRepeats = 2
    public var resetInterval = Interval.milliseconds(100)
    /// How far the adopted socket's timestamp clock starts above what the client last saw from the dead server:
    /// frames of that may still be on their way.
    public var timestampMargin: UInt32 = 300

    public init() {}
}

/// What one kind of adoption needs to know of the local machine and the service.
public struct AdoptionProfile: Sendable {
    public var replay: ReplayPolicy
    /// The SYN-ACK options of the dead owner; nil where nobody has told them, and then no socket can be made like its.
    public var server: HandshakeOptions?
    /// Counts where `replay` is `http`.
    public var http: HTTPReplay

    public init(replay: ReplayPolicy, server: HandshakeOptions?, http: HTTPReplay = HTTPReplay()) {
        self.replay = replay
        self.server = server
        self.http = http
    }
}

/// A connection as the data plane has to know it before its adoption (`struct baton_connection`).
public struct ConnectionEntry: Hashable, Sendable {
    public var flow: FlowKey
    public var slot: SlotID
    public var iss: SequenceNumber
    public var irs: SequenceNumber
    /// Counted from ISS + 1.
    public var sndUna: UInt64
    public var rightEdge: UInt64
    /// Nil where timestamps are not in use; `value` is the client's latest, `echo` where the socket's clock starts.
    public var timestamps: TCPTimestamps?
    public var sackPermitted: Bool
    /// Nil where window scaling is not in use.
    public var clientWindowScale: UInt8?
    public var serverWindowScale: UInt8?
    public var mss: UInt16
    /// Nothing passes SND.UNA before the effect `release`; what the socket sends is given to `regenerated`.
    public var isChecked: Bool
}

/// What the data plane knows of an adoption by now.
public struct AdoptionProgress: Hashable, Sendable {
    public enum State: Hashable, Sendable {
        /// No socket was found for it yet.
        case adopting
        case catchingUp
        case live
        /// The regenerated reply does not reach what the client has.
        case refused
        /// The data plane has forgotten it: its socket is closed.
        case gone
    }

    public var state: State
    public var isAdopted: Bool
    /// The adopted socket's latest ACK and the end of its window, in the client's sequence space; nil before its first
    /// segment.
    public var localAck: SequenceNumber?
    public var localRightEdge: SequenceNumber?
    /// What the adopted socket has sent, counted from ISS + 1 (`snd_nxt`).
    public var sent: UInt64
    /// What the client has acknowledged, counted likewise (`snd_una`): pure ACKs that the director sends to the new
    /// owner alone are seen by the data plane, not by the tracker.
    public var acknowledged: UInt64
    public var adoptedAt: Instant?
    public var firstReplyAt: Instant?
    public var liveAt: Instant?
    public var caughtUpBytes: UInt64

    public init(
        state: State,
        isAdopted: Bool = false,
        localAck: SequenceNumber? = nil,
        localRightEdge: SequenceNumber? = nil,
        sent: UInt64 = 0,
        acknowledged: UInt64 = 0,
        adoptedAt: Instant? = nil,
        firstReplyAt: Instant? = nil,
        liveAt: Instant? = nil,
        caughtUpBytes: UInt64 = 0
    ) {
        self.state = state
        self.isAdopted = isAdopted
        self.localAck = localAck
        self.localRightEdge = localRightEdge
        self.sent = sent
        self.acknowledged = acknowledged
        self.adoptedAt = adoptedAt
        self.firstReplyAt = firstReplyAt
        self.liveAt = liveAt
        self.caughtUpBytes = caughtUpBytes
    }
}

/// What the machine wants done; in this order.
public enum TakeoverEffect: Hashable, Sendable {
    /// Send an IP packet to a client: a probe or a RST.
    case sendToClient([UInt8])
    /// Make the data plane know a connection, before anything of it is injected.
    case install(ConnectionEntry)
    /// Make the data plane forget it.
    case uninstall(FlowKey)
    /// Write an IP packet into the TUN device.
    case inject([UInt8])
    /// Read the data plane's entry and give it to `progress`.
    case observe(FlowKey)
    /// The regenerated reply continues what the client has: let it pass from now on.
    case release(FlowKey)
    /// Make this request of the local application on a connection of one's own, read the head of the reply and no
    /// more, and give what it says to `tried`.
    case trial(FlowKey, [UInt8])
    /// The tracker may forget the connection: it is over. What is served goes on being tracked.
    case forget(ConnectionHandle)
    /// Every connection is decided: adopted, or told that it is over.
    case settled
    /// Every adopted connection is live or over.
    case finished
}

/// What came of a take-over so far.
public struct TakeoverFigures: Hashable, Sendable {
    public var connections = 0
    public var adopted = 0
    public var live = 0
    /// By the raw value of `ResetCause`.
    public var resets = [Int](repeating: 0, count: ResetCause.allCases.count)
    public var caughtUpBytes: UInt64 = 0
    public var startedAt: Instant?
    /// First of all connections.
    public var firstAnswerAt: Instant?
    public var firstAdoptedAt: Instant?
    public var firstReplyAt: Instant?
    public var firstNewByteAt: Instant?
    public var settledAt: Instant?
    public var finishedAt: Instant?
    /// One value for each connection: [Z] T_r, T_c, T_a, T_f in nanoseconds.
    public var response: [Int64] = []
    public var reconstruction: [Int64] = []
    public var application: [Int64] = []
    public var catchUp: [Int64] = []

    public func resets(_ cause: ResetCause) -> Int { resets[Int(cause.rawValue)] }
}
