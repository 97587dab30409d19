import LinuxBase
import Model
import Tracking
import Wire

/// Runs the resynchroniser on the data thread: its requests go out by the control thread, what it finds is reported.
struct Resynchronisation {
    private var machine = Resynchroniser()
    private var told: [SlotProtection] = []
    private var tapDropped: UInt32 = 0

    func nextTick(_ tracker: borrowing Tracker) -> Instant { machine.nextDeadline(tracker) }

    mutating func set(_ sources: [SlotSource], _ now: Instant) { machine.setSources(sources, now: now) }

    mutating func connected(_ owner: BackendID, _ isOpen: Bool, _ now: Instant) {
        machine.setConnected(owner, isOpen, now: now)
    }

    mutating func received(
        _ message: PeerMessage,
        from owner: BackendID,
        _ tracker: inout Tracker,
        _ now: Instant,
        _ report: (DataReport) -> Void
    ) {
        var effects: [ResynchronisationEffect] = []
        machine.received(message, from: owner, tracker: &tracker, now: now, into: &effects)
        perform(effects, tracker, report)
    }

    mutating func tick(_ tracker: inout Tracker, _ now: Instant, _ report: (DataReport) -> Void) {
        guard machine.nextDeadline(tracker) <= now else { return }
        var effects: [ResynchronisationEffect] = []
        machine.tick(tracker: &tracker, now: now, into: &effects)
        perform(effects, tracker, report)
    }

    /// Twice a second: what the tap has lost, and what the director should know.
    mutating func sweep(
        _ tracker: inout Tracker,
        tapDropped: UInt32,
        _ now: Instant,
        _ report: (DataReport) -> Void
    ) {
        if tapDropped != self.tapDropped { machine.tapLost(now: now) }
        self.tapDropped = tapDropped
        tell(tracker, report)
    }

    private mutating func perform(
        _ effects: [ResynchronisationEffect],
        _ tracker: borrowing Tracker,
        _ report: (DataReport) -> Void
    ) {
        for effect in effects {
            switch effect {
            case .send(let message, let owner): report(.peerRequest(message, to: owner))
            case .synchronised(let slot, let after):
                report(.synchronised(slot, after: after))
                tell(tracker, report)
            }
        }
    }

    private mutating func tell(_ tracker: borrowing Tracker, _ report: (DataReport) -> Void) {
        let protection = machine.protection(tracker)
        guard protection != told else { return }
        told = protection
        report(.protection(protection))
    }

    var protection: [SlotProtection] { told }
}
