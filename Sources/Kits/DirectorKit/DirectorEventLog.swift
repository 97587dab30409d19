import Cluster
import Logging
import Model
import Wire

extension DirectorEvent {
    /// One line for people; what a failure costs or repairs is a warning or a notice, the rest is information.
    func log(to logger: Logger) {
        switch self {
        case .joined(let name, let slot, _): logger.notice("\(name) joined as \(slot)")
        case .rejoined(let name, let slot): logger.notice("\(name) is back on its control session, \(slot)")
        case .refused(let name, let refusal): logger.warning("\(name) refused: \(refusal.text)")
        case .sessionLost(let name): logger.notice("control session of \(name) is closed")
        case .suspected(let name, let silent):
            logger.warning("\(name) is silent for \(silent.milliseconds) ms")
        case .recovered(let name): logger.notice("\(name) is heard again")
        case .condemned(let name, let slot, let sign):
            logger.warning("\(name) (\(slot)) has failed: \(sign.name)")
        case .takeOverOrdered(let slot, let victim, let backup):
            logger.notice("\(slot): \(backup) is ordered to take over from \(victim)")
        case .takeOverFenced(let slot, let backup): logger.info("\(slot): nobody but \(backup) may talk for it now")
        case .takeOverSettled(let slot, let backup): logger.notice("\(slot): \(backup) is the owner")
        case .takeOverFinished(let record):
            let report = record.report
            logger.notice(
                "\(record.slot): \(report?.adopted ?? 0) of \(report?.connections ?? 0) connections taken over by \(record.backup)"
            )
        case .takeOverFailed(let slot, let backup): logger.warning("\(slot): \(backup) could not take over")
        case .fenceStarted(let name): logger.notice("\(name) is silent: the fence command runs")
        case .fenceSucceeded(let name): logger.notice("\(name): the fence command has succeeded")
        case .fenceFailed(let name, let why):
            logger.error("\(name) is not taken over: the fence command failed: \(why); it is run again in 10 s")
        case .drainBegun(let name, let mode): logger.notice("\(name) is drained (\(mode.rawValue)): no new flows")
        case .yieldOrdered(let name, let slot): logger.notice("\(name) is told to give \(slot) away")
        case .drained(let name): logger.notice("\(name) is drained: it may be restarted")
        case .drainEnded(let name): logger.notice("\(name) is drained no more")
        case .slotOrphaned(let slot): logger.error("\(slot) has no owner: its flows are reset")
        case .slotRetired(let slot): logger.info("\(slot) is retired")
        case .serviceUp(let name, let service): logger.notice("\(name): \(service) is up")
        case .serviceDown(let name, let service): logger.warning("\(name): \(service) is down")
        case .serviceCrashed(let name, let service): logger.warning("\(name): \(service) has crashed")
        case .stalled(let interval):
            logger.warning("this director was stopped for \(interval.milliseconds) ms; nobody is suspected for that")
        case .graceEnded(let missing):
            let names = missing.isEmpty ? "nobody" : missing.joined(separator: ", ")
            logger.notice("time to come back after the restart is over; missing: \(names)")
        case .unexpectedMessage(let what): logger.debug("ignored: \(what)")
        case .limitReached(let what): logger.error("limit reached: \(what)")
        case .planRefused(let service, let fault):
            logger.error("\(service): the policy's plan cannot be run: \(fault); its new flows are dropped")
        }
    }
}
