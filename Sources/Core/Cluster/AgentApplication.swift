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
            down(index, .down, into: &effects)
        }
    }

    /// A clean exit or a reload: what is established may still be served, new flows go elsewhere until it is up again.
    mutating func listenerClosed(_ service: String, into effects: inout [AgentEffect]) {
        guard let index = index(of: service), services[index].healthy else { return }
        down(index, .listenerClosed, into: &effects)
    }

    private mutating func down(_ index: Int, _ kind: Sign.Kind, into effects: inout [AgentEffect]) {
        services[index].tally.becomeDown()
        effects.append(.log(.serviceDown(services[index].configuration.name)))
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
        guard let index = index(of: service), hadConnections || services[index].healthy else { return }
        services[index].tally.becomeDown()
        effects.append(.log(.serviceCrashed(service)))
        guard case .member = standing else { return }
        effects.append(.fence(true))
        fenced = true
        sign(index, .crashed, into: &effects)
        lose(.applicationCrashed(service: service), into: &effects)
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
