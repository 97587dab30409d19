import Cluster
import Configuration
import LinuxBPF
import LinuxBase
import Model
import NIOCore
import NIOPosix
import Wire

// When the flow table is walked, and what comes of it. On the control thread, but for the walk.

extension DirectorRuntime {
    /// Counting a million flows takes a tenth of a second: never on the control thread.
    func scheduleCounting(atOnce: Bool = false) {
        let pause = atOnce ? .zero : pauseBeforeCount()
        counting = loop.scheduleTask(in: pause) { [unowned self] in
            let (plane, services, timeouts) = (self.host.plane, self.host.serviceIDs, self.flowTimeouts())
            self.isCounting = true
            let begun = MonotonicClock.now()
            self.walker.runIfActive(eventLoop: self.loop) {
                try FlowWalk.count(plane, services: services, timeouts: timeouts)
            }.whenComplete { result in
                self.lastCount = .nanoseconds((MonotonicClock.now() - begun).nanoseconds)
                if case .success(let walk) = result { self.counted(walk, begun: begun) }
                self.isCounting = false
                self.scheduleCounting()
            }
        }
    }

    private func pauseBeforeCount() -> TimeAmount {
        // Somebody waits for the end of the last flow while a back-end is being drained.
        if machine.drains.contains(where: { $0.phase == .draining }) { return .milliseconds(500) }
        // Where plans weigh loads, what the data plane cannot count is put right sooner, if that is cheap.
        let usual = host.weighing.isEmpty ? TimeAmount.seconds(30) : max(.seconds(5), lastCount * 20)
        let shortest = configuration.services.map { FlowTimeouts($0).shortest }.min() ?? .seconds(60)
        let timely = max(TimeAmount.nanoseconds(shortest.nanoseconds / 2), max(.seconds(1), lastCount * 20))
        return min(usual, timely, .seconds(30))
    }

    private func flowTimeouts() -> [FlowTimeouts?] {
        var timeouts = [FlowTimeouts?](repeating: nil, count: Limits.services)
        for (service, id) in zip(configuration.services, host.serviceIDs) where Int(id.rawValue) < timeouts.count {
            timeouts[Int(id.rawValue)] = FlowTimeouts(service)
        }
        return timeouts
    }

    private func counted(_ walk: FlowWalk.Count, begun: Instant) {
        timedOutFlows &+= walk.timedOut
        handle(.flows(walk.slots, begun: begun))
        if !walk.resets.isEmpty { handle(.timedOut(walk.resets)) }
    }

    /// A drain has begun: counts now, unless a count is under way, whose end makes the next one come soon.
    func countSoon() {
        guard !isCounting else { return }
        counting?.cancel()
        scheduleCounting(atOnce: true)
    }
}
