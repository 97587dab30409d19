import Cluster
import Logging
import Model
import Wire

extension AgentEvent {
    /// One line for people; what costs connections or saves them is a warning or a notice, the rest is information.
    func log(to logger: Logger) {
        switch self {
        case .joined(let backend, let slot, _): logger.notice("the director takes this host as \(backend), \(slot)")
        case .refused(let refusal): logger.warning("refused by the director: \(refusal.text)")
        case .sessionLost: logger.notice("control session is closed")
        case .ringApplied(let epoch, let own, let tapped):
            logger.info("\(epoch): owner of \(own), backup of \(tapped)")
        case .slotLost(let slot, let reason):
            logger.warning("\(slot.map { "\($0)" } ?? "the slot") is lost: \(reason.text)")
        case .rejoining: logger.notice("clean again; joins with a new life")
        case .leaseExpired:
            logger.error("the lease has run out: neither the director nor every backup answers; nothing leaves the VIPs")
        case .leaseRegained: logger.notice("the lease is back")
        case .takeOverOrdered(let slot, _): logger.notice("\(slot): ordered to take over")
        case .takeOverStarted(let slot, let waited):
            logger.notice("\(slot): take-over begins after \(waited.milliseconds) ms of fencing")
        case .fenceAcknowledged(let slot, _): logger.info("\(slot): the former owner has fenced itself")
        case .serviceUp(let name): logger.notice("service \(name) is up")
        case .serviceDown(let name): logger.warning("service \(name) is down")
        case .serviceHeld(let name, let hold):
            logger.warning("service \(name) goes up and down too often; held down for \(hold.nanoseconds / 1_000_000_000) s")
        case .serviceCrashed(let name): logger.warning("the application of service \(name) has crashed")
        case .restartAwaited(let name, let grace):
            logger.notice("the application of service \(name) is given \(grace.milliseconds) ms to come back")
        case .restarted(let name, let after):
            logger.notice("the application of service \(name) is back after \(after.milliseconds) ms")
        case .datagramDropped: logger.debug("an old datagram was dropped")
        case .unexpectedMessage(let what): logger.debug("ignored: \(what)")
        case .limitReached(let what): logger.error("limit reached: \(what)")
        }
    }
}

extension LossReason {
    fileprivate var text: String {
        switch self {
        case .condemned: "the director has given it to another"
        case .fencedBy(let backend): "\(backend) takes it over"
        case .refused(let reason): "refused (\(reason))"
        case .applicationCrashed(let service): "the application of \(service) has crashed"
        case .yielded: "the operator drains this host"
        case .stopped: "the agent ends"
        }
    }
}
