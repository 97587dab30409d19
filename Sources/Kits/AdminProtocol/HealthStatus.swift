extension DirectorStatus {
    /// One of the director's own checks, at one back-end.
    public struct Check: Codable, Sendable {
        public var service: String
        public var backend: String
        public var kind: String
        /// Address and port.
        public var target: String
        /// `up`, `down`, `held`: down for longer, since it changes too often.
        public var state: String
        /// Why the last attempt failed.
        public var failure: String?
        /// Seconds since the last change.
        public var sinceS: Double
        public var passed: UInt64
        public var failed: UInt64
        public var changes: UInt64
        /// Of the last attempt that passed.
        public var lastMs: Double?

        public init(
            service: String, backend: String, kind: String, target: String, state: String, failure: String?,
            sinceS: Double, passed: UInt64, failed: UInt64, changes: UInt64, lastMs: Double?
        ) {
            self.service = service
            self.backend = backend
            self.kind = kind
            self.target = target
            self.state = state
            self.failure = failure
            self.sinceS = sinceS
            self.passed = passed
            self.failed = failed
            self.changes = changes
            self.lastMs = lastMs
        }
    }

    /// What bounds the new flows of a service.
    public struct Limit: Codable, Sendable {
        public var service: String
        /// New flows a second, and so many at once; nil: as many as come.
        public var rate: Int?
        public var burst: Int?
        /// SYNs dropped by the service's own limit, and by that of all services.
        public var refusedByService: UInt64
        public var refusedByAll: UInt64
        /// Flows whose handshake was completed.
        public var completed: UInt64
        /// Back-ends that have reached their upper threshold.
        public var full: [String]
        /// The back-end that stands by for when no other one can.
        public var sorry: String?

        public init(
            service: String, rate: Int?, burst: Int?, refusedByService: UInt64, refusedByAll: UInt64, completed: UInt64,
            full: [String], sorry: String?
        ) {
            self.service = service
            self.rate = rate
            self.burst = burst
            self.refusedByService = refusedByService
            self.refusedByAll = refusedByAll
            self.completed = completed
            self.full = full
            self.sorry = sorry
        }
    }
}
