import Model
import Wire

/// The signs of the local applications ([Z] II-C: a software failure is a failure too).
extension AgentMachine {
    mutating func checked(_ service: String, passed: Bool, now: Instant, into effects: inout [AgentEffect]) {
        guard let index = index(of: service), services[index].tally.count(passed, now: now) else { return }
        if services[index].healthy {
            effects.append(.log(.serviceUp(service)))
            sign(index, .up, into: &effects)
        } else {
            down(index, .down, now: now, into: &effects)
        }
    }

    /// A clean exit or a reload: what is established may still be served, new flows go elsewhere until it is up again.
    mutating func listenerClosed(_ service: String, now: Instant, into effects: inout [AgentEffect]) {
        guard let index = index(of: service), services[index].healthy else { return }
        down(index, .listenerClosed, now: now, into: &effects)
    }

    private mutating func down(_ index: Int, _ kind: Sign.Kind, now: Instant, into effects: inout [AgentEffect]) {
        services[index].tally.becomeDown(now: now)
        effects.append(.log(.serviceDown(services[index].configuration.name)))
        noteHold(index, now: now, into: &effects)
        sign(index, kind, into: &effects)
    }

    /// The application died with connections. The whole life ends: silent first, then the sign, so that whoever hears
    /// it need not wait for a lease.
    ///
    /// A listener that was not up has no flows of this slot worth a take-over; a crash loop must not use up slots. An
    /// established connection always is: its client would wait for ever for what the guard keeps back.
    mutating func crashed(
        _ service: String,
        hadConnections: Bool,
        now: Instant,
        into effects: inout [AgentEffect]
    ) {
        guard let index = index(of: service), services[index].restart == nil,
            hadConnections || services[index].healthy
        else { return }
        let wasHealthy = services[index].healthy
        services[index].tally.becomeDown(now: now)
        effects.append(.log(.serviceCrashed(service)))
        if wasHealthy { noteHold(index, now: now, into: &effects) }
        guard case .member = standing else { return }
        guard !waitsForRestart(index, now: now) else {
            services[index].restart = Restart(since: now, nextLook: now + Restart.lookInterval)
            effects.append(.log(.restartAwaited(service, services[index].configuration.restartGrace)))
            if wasHealthy { sign(index, .down, into: &effects) }
            return
        }
        giveUp(index, into: &effects)
    }

    private func noteHold(_ index: Int, now: Instant, into effects: inout [AgentEffect]) {
        guard let until = services[index].heldUntil, until > now else { return }
        effects.append(.log(.serviceHeld(services[index].configuration.name, until - now)))
    }

    private mutating func giveUp(_ index: Int, into effects: inout [AgentEffect]) {
        services[index].restart = nil
        effects.append(.fence(true))
        fenced = true
        sign(index, .crashed, into: &effects)
        lose(.applicationCrashed(service: services[index].configuration.name), into: &effects)
    }

    // MARK: The same application, back again

    /// An application that has crashed with its connections, and may be back in time to go on with them itself.
    struct Restart: Hashable, Sendable {
        var since: Instant
        var nextLook: Instant

        static let lookInterval = Interval.milliseconds(10)
        /// More crashes than this within a minute are no accident: the backup may fare better.
        static let crashLimit = 3
    }

    private mutating func waitsForRestart(_ index: Int, now: Instant) -> Bool {
        guard services[index].configuration.restartGrace > .zero else { return false }
        services[index].crashes.removeAll { now - $0 > .seconds(60) }
        guard services[index].crashes.count < Restart.crashLimit else { return false }
        services[index].crashes.append(now)
        return true
    }

    /// Looks again, or gives the connections to the backup.
    mutating func awaitRestarts(now: Instant, into effects: inout [AgentEffect]) {
        for index in services.indices {
            guard let restart = services[index].restart, now >= restart.nextLook else { continue }
            if now - restart.since >= services[index].configuration.restartGrace {
                giveUp(index, into: &effects)
                // The life is over, and with it whatever else was waited for.
                return
            }
            services[index].restart?.nextLook = now + Restart.lookInterval
            effects.append(.lookForListener(services[index].configuration.name))
        }
    }

    /// It listens again: this machine never stopped being the owner, so there is no lease to wait for and nobody to ask.
    /// New flows come when its checks pass.
    mutating func listenerFound(_ service: String, now: Instant, into effects: inout [AgentEffect]) {
        guard let index = index(of: service), let restart = services[index].restart else { return }
        services[index].restart = nil
        effects.append(.log(.restarted(service, after: now - restart.since)))
        effects.append(.readopt(service))
    }

    private func sign(_ index: Int, _ kind: Sign.Kind, into effects: inout [AgentEffect]) {
        guard case .open = session, case .member = standing, let id = services[index].id else { return }
        effects.append(.send(.sign(Sign(service: id, kind: kind))))
    }

    /// All of them, after a ring table: the director may have forgotten, or not have heard.
    mutating func sendSigns(into effects: inout [AgentEffect]) {
        for index in services.indices {
            sign(index, services[index].healthy ? .up : .down, into: &effects)
        }
    }
}
