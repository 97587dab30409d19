/// How far a back-end's drain has come: the answer to `drain`, `undrain` and `drain-status`.
public struct DrainStatus: Codable, Sendable {
    public var backend: String
    /// `none`, `draining`, `moving` (its slots are being taken over), `drained` (free: it may be restarted).
    public var state: String
    /// `wait`, `migrate` or `migrate-now`; nil without a drain.
    public var mode: String?
    /// Flows that it still serves, as of the last count; nil before the first.
    public var flows: Int?
    /// What is waited for: `flows`, `no-backup`, `backup-incomplete`, `unsettled`, `take-over`; nil when for nothing.
    public var waitingFor: String?

    public init(backend: String, state: String, mode: String?, flows: Int?, waitingFor: String?) {
        self.backend = backend
        self.state = state
        self.mode = mode
        self.flows = flows
        self.waitingFor = waitingFor
    }
}
