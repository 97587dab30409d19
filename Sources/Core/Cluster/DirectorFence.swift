import Model

/// The operator's fence command, where one is configured: without its success no silent back-end is given up.
extension DirectorMachine {
    /// How far the fencing of a silent member is.
    public enum Fencing: Hashable, Sendable {
        case none
        case running
        /// It certainly is off; its silence may be acted on.
        case done
        case failed(retryAt: Instant)
    }

    /// After a failure the command is run again when this has passed, as long as the back-end is silent.
    static let fenceRetry = Interval.seconds(10)

    /// Whether a silent member may be condemned now. Where a command is wanted and has not run yet, it is started.
    mutating func isFenced(_ index: Int, now: Instant, into effects: inout [DirectorEffect]) -> Bool {
        guard configuration?.fencesByCommand == true else { return true }
        let member = members[index]
        switch member.fencing {
        case .done: return true
        case .running: return false
        case .failed(let retryAt) where now < retryAt: return false
        case .none, .failed:
            members[index].fencing = .running
            let address = slotIndex(member.slot).map { slots[$0].address } ?? IPAddress(high: 0, low: 0)
            effects.append(.fenceCommand(name(of: member.id), member.slot, address))
            effects.append(.log(.fenceStarted(name(of: member.id))))
            return false
        }
    }

    /// The command has ended. What it says of a life that is gone, or heard again, says nothing.
    mutating func fenced(_ slot: SlotID, failure: String?, now: Instant, into effects: inout [DirectorEffect]) {
        fenceCommands &+= 1
        let index = memberIndex(slot: slot)
        if let failure {
            fenceFailures &+= 1
            effects.append(.log(.fenceFailed(index.map { name(of: members[$0].id) } ?? "\(slot)", failure)))
        }
        guard let index, members[index].fencing == .running else { return }
        if failure != nil {
            members[index].fencing = .failed(retryAt: now + Self.fenceRetry)
        } else {
            members[index].fencing = .done
            effects.append(.log(.fenceSucceeded(name(of: members[index].id))))
            assignSlots(now: now, into: &effects)
        }
    }
}
