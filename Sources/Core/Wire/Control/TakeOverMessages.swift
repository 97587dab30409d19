import Model

/// The director's order to a backup: make this slot yours.
public struct TakeOverOrder: Hashable, Sendable {
    public var slot: SlotID
    /// The epoch of the ring table that names the receiver as the slot's next owner; it travels first.
    public var epoch: Epoch
    /// Everybody who may still be talking for the slot; the first is the former owner. Each must have acknowledged a
    /// fence or be out of its lease before the receiver may talk.
    public var contenders: [Contender]
    /// How long the director's own echoes to the contenders may still keep a lease alive, from the sending on.
    public var holdOff: Interval

    public struct Contender: Hashable, Sendable {
        public var id: BackendID
        public var life: Life
        public var address: IPAddress

        public init(id: BackendID, life: Life, address: IPAddress) {
            self.id = id
            self.life = life
            self.address = address
        }
    }

    public init(slot: SlotID, epoch: Epoch, contenders: [Contender], holdOff: Interval) {
        self.slot = slot
        self.epoch = epoch
        self.contenders = contenders
        self.holdOff = holdOff
    }
}

/// What a backup tells about a take-over; a later report replaces an earlier one.
public struct TakeOverReport: Hashable, Sendable {
    public enum Phase: UInt8, Hashable, Sendable, CaseIterable {
        /// Every contender is silent: probing has begun.
        case fenced = 1
        case progress = 2
        /// Every connection is decided, and the slot's group is the reporter's own.
        case settled = 3
        /// Every adopted connection has caught up or ended: the times are final.
        case finished = 4
        /// Given up; the reporter does not talk for the slot, and will not.
        case failed = 5
    }

    public var slot: SlotID
    public var epoch: Epoch
    public var phase: Phase
    /// Connections of the slot that the backup knew.
    public var connections: UInt32
    /// Connections that the local application has accepted.
    public var adopted: UInt32
    /// Connections reset, indexed by the raw value of `ResetCause`.
    public var resets: [UInt32]
    /// Bytes that the application sent again and the client already had.
    public var caughtUpBytes: UInt64
    public var moments: TakeOverMoments
    public var times: TakeOverTimes

    public init(
        slot: SlotID,
        epoch: Epoch,
        phase: Phase,
        connections: UInt32 = 0,
        adopted: UInt32 = 0,
        resets: [UInt32] = Array(repeating: 0, count: ResetCause.allCases.count),
        caughtUpBytes: UInt64 = 0,
        moments: TakeOverMoments = TakeOverMoments(),
        times: TakeOverTimes = TakeOverTimes()
    ) {
        self.slot = slot
        self.epoch = epoch
        self.phase = phase
        self.connections = connections
        self.adopted = adopted
        self.resets = resets
        self.caughtUpBytes = caughtUpBytes
        self.moments = moments
        self.times = times
    }

    /// Connections reset for this cause.
    public func resets(_ cause: ResetCause) -> UInt32 {
        Int(cause.rawValue) < resets.count ? resets[Int(cause.rawValue)] : 0
    }
}

/// When the stages of a take-over were reached, on the backup's clock; nil where not (yet) reached.
public struct TakeOverMoments: Hashable, Sendable {
    public var ordered: Instant?
    /// Every contender was silent.
    public var started: Instant?
    public var firstProbe: Instant?
    public var firstAnswer: Instant?
    public var firstAdoption: Instant?
    public var firstReply: Instant?
    /// The first byte that no client of the slot had before.
    public var firstNewByte: Instant?
    public var settled: Instant?
    public var finished: Instant?

    public init(
        ordered: Instant? = nil,
        started: Instant? = nil,
        firstProbe: Instant? = nil,
        firstAnswer: Instant? = nil,
        firstAdoption: Instant? = nil,
        firstReply: Instant? = nil,
        firstNewByte: Instant? = nil,
        settled: Instant? = nil,
        finished: Instant? = nil
    ) {
        self.ordered = ordered
        self.started = started
        self.firstProbe = firstProbe
        self.firstAnswer = firstAnswer
        self.firstAdoption = firstAdoption
        self.firstReply = firstReply
        self.firstNewByte = firstNewByte
        self.settled = settled
        self.finished = finished
    }
}

/// The stages of a fail-over as [Z] IV-C splits them, medians over the slot's connections; nil where not known (yet).
///
/// T_d, the detection, is the director's to measure.
public struct TakeOverTimes: Hashable, Sendable {
    /// T_r: probe sent to answer received.
    public var response: Interval?
    /// T_c: answer received to the connection established anew.
    public var reconstruction: Interval?
    /// T_a: connection established to the application's first byte of reply.
    public var application: Interval?
    /// T_f: first byte of reply to the first byte that the client did not have (catch-up).
    public var catchUp: Interval?

    public init(
        response: Interval? = nil,
        reconstruction: Interval? = nil,
        application: Interval? = nil,
        catchUp: Interval? = nil
    ) {
        self.response = response
        self.reconstruction = reconstruction
        self.application = application
        self.catchUp = catchUp
    }
}
