import Model
import ModuleInterfaces
import Wire

/// The director's part of the cluster: who is in the ring, who owns each slot, who takes over, where new flows go.
///
/// Pure: time comes in, effects go out, in order (see `DirectorEffect`). The rule by which one owner at a time is kept,
/// and its proof: docs/design/0002-lease.md. The state is in three tables: `slots` (lives of back-ends, bounded by
/// `Limits.slots`), `members` (the present lives, at most one a back-end), `plans`.
public struct DirectorMachine: Sendable {
    public let life: Life
    public internal(set) var configuration: DirectorConfiguration?
    public internal(set) var epoch = Epoch(rawValue: 0)
    /// Rising by slot.
    public internal(set) var slots: [Slot] = []
    /// Rising by back-end.
    public internal(set) var members: [Member] = []
    /// The last take-overs, oldest first.
    public internal(set) var takeOvers: [TakeOverRecord] = []
    /// Rising by back-end.
    public internal(set) var drains: [Drain] = []
    /// Runs of the fence command that have ended, and those of them that failed.
    public internal(set) var fenceCommands: UInt64 = 0
    public internal(set) var fenceFailures: UInt64 = 0
    public internal(set) var drops = DropCounters()
    /// The ring table as it was last sent.
    public internal(set) var table = RingTable(epoch: Epoch(rawValue: 0), members: [], slots: [])

    /// Services that fail their checks at a back-end.
    var failing: [FailingService] = []

    /// Names in the order of their numbers; a number is never given again in one run.
    var names: [String] = []
    var sequence: UInt64 = 0
    var plans: [(service: ServiceID, plan: DispatchPlan)] = []
    /// What each plan was made of: a policy is asked again only when that has changed.
    var planned: [(service: ServiceID, backends: [DispatchBackend])] = []
    var published: [SlotPublication] = []
    /// Until here back-ends of the records may come back; the data plane keeps its old plans for as long.
    var graceUntil: Instant?
    var lastHandled: Instant?
    /// The instant of the input that is being handled.
    var clock = Instant(nanoseconds: 0)
    /// When the last count of flows began.
    var countedAt: Instant?
    var nextTick = Instant.never
    var nextWake = Instant.never

    static let takeOverHistory = 64

    /// - Parameter life: drawn anew at each start.
    public init(life: Life) {
        self.life = life
    }

    public mutating func handle(_ input: DirectorInput, now: Instant, into effects: inout [DirectorEffect]) {
        clock = now
        if case .configuration(let new) = input {
            configure(new, now: now, into: &effects)
        } else if configuration != nil {
            noticeStall(now: now, into: &effects)
            dispatch(input, now: now, into: &effects)
        }
        lastHandled = now
        wake(now: now, into: &effects)
    }

    private mutating func dispatch(_ input: DirectorInput, now: Instant, into effects: inout [DirectorEffect]) {
        switch input {
        case .configuration: break
        case .restored(let records): restore(records, now: now, into: &effects)
        case .received(let message, let session): received(message, from: session, now: now, into: &effects)
        case .sessionClosed(let session): sessionClosed(session, into: &effects)
        case .datagram(let datagram): received(datagram, now: now, into: &effects)
        case .flows(let counts, let begun): counted(counts, begun: begun, now: now, into: &effects)
        case .drain(let name, let mode): drain(name, mode, now: now, into: &effects)
        case .fenceCommandEnded(let slot, let failure):
            fenced(slot, failure: failure, now: now, into: &effects)
        case .timedOut(let flows): timedOut(flows, into: &effects)
        case .undrain(let name): undrain(name, now: now, into: &effects)
        case .checks(let service, let name, let pass): checked(service, at: name, pass: pass, into: &effects)
        case .timer: tick(now: now, into: &effects)
        }
        if !drains.isEmpty { advanceDrains(now: now, into: &effects) }
    }

    // MARK: Configuration

    private mutating func configure(
        _ new: DirectorConfiguration,
        now: Instant,
        into effects: inout [DirectorEffect]
    ) {
        var accepted = new
        if let configuration { accepted.timings = configuration.timings }
        accepted.backups = min(accepted.backups, Limits.backups)
        accepted.services = Array(accepted.services.prefix(Limits.services))
        let former = configuration?.services.map(\.description) ?? []
        configuration = accepted
        planned = []
        // Another service may get the number.
        failing.removeAll { entry in !accepted.services.contains { $0.description.id == entry.service } }
        for backend in accepted.backends where !names.contains(backend.name) {
            guard names.count < Limits.backends else {
                effects.append(.log(.limitReached("back-ends")))
                break
            }
            names.append(backend.name)
        }
        if former != accepted.services.map(\.description) { announceServices(former: former, into: &effects) }
        if !members.isEmpty { rebuild(now: now, into: &effects) }
        updatePlans(into: &effects)
    }

    var timings: ClusterTimings { configuration?.timings ?? ClusterTimings() }

    func backend(named name: String) -> BackendID? {
        guard configuration?.backends.contains(where: { $0.name == name }) == true else { return nil }
        return names.firstIndex(of: name).map { BackendID(rawValue: UInt16($0)) }
    }

    func configuration(of id: BackendID) -> BackendConfiguration? {
        let name = name(of: id)
        return configuration?.backends.first { $0.name == name }
    }

    public func name(of id: BackendID) -> String {
        Int(id.rawValue) < names.count ? names[Int(id.rawValue)] : "?"
    }

    // MARK: Time

    /// When this very process was stopped, the silence was its own: nobody is suspected for it.
    private mutating func noticeStall(now: Instant, into effects: inout [DirectorEffect]) {
        guard let lastHandled, !members.isEmpty, now - lastHandled > timings.window else { return }
        for index in members.indices { members[index].detector.heartbeat(at: now) }
        effects.append(.log(.stalled(now - lastHandled)))
    }

    private mutating func tick(now: Instant, into effects: inout [DirectorEffect]) {
        nextTick = now + timings.heartbeatInterval
        if let until = graceUntil, now >= until {
            graceUntil = nil
            let missing = members.filter { $0.lastHeartbeat == nil }.map { name(of: $0.id) }
            effects.append(.log(.graceEnded(missing: missing)))
        }
        evaluate(now: now, into: &effects)
        dropFormerBackups(now: now, into: &effects)
        updatePlans(into: &effects)
    }

    private mutating func wake(now: Instant, into effects: inout [DirectorEffect]) {
        if members.isEmpty {
            nextTick = .never
        } else if nextTick == .never {
            nextTick = now + timings.heartbeatInterval
        }
        var next = nextTick
        for member in members where member.condition == .present { next = min(next, member.detector.deadline) }
        if next <= now, next != .never { next = now + .microseconds(100) }
        guard next != nextWake else { return }
        nextWake = next
        effects.append(.timer(next))
    }
}
