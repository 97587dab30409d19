import CContract
import Cluster
import LinuxBPF
import LinuxBase
import LinuxCapture
import LinuxNetwork
import Model
import Takeover
import Tracking
import Wire

/// This machine's own connections, whose application has crashed and is back.
extension DataThread {
    /// While a slot is taken over, the director sends all of its frames to the group; of this machine's own slots the
    /// answers to probes come to the machine alone.
    func openAnswerTap() throws {
        guard answerTap == nil else { return }
        let tap = try AnswerTap(interface: interface, address: address, services: services.map(\.endpoint))
        try poller.add(tap.descriptor, token: Token.answers.rawValue)
        answerTap = tap
    }

    func closeAnswerTap() {
        guard let tap = answerTap, !runner.isReadopting else { return }
        attempt { try poller.remove(tap.descriptor) }
        answerTap = nil
    }

    func receivedAnswer(_ bytes: UnsafeRawBufferPointer, _ wireLength: Int, _ instant: Instant) {
        guard case .segment(let frame) = FrameParser.parse(ethernet: bytes, wireLength: wireLength),
            frame.payloadLength == 0, SlotID(mark: frame.source) == nil,
            let handle = tracker.handle(of: frame.flow), let slot = tracker[handle]?.slot, runner.isActive(slot)
        else { return }
        tracker.handle(frame, in: bytes, slot: slot, now: instant)
        runner.received(frame, slot: slot, tracker: tracker, now: MonotonicClock.now())
        settle(MonotonicClock.now())
    }

    func isGuarded(_ flow: FlowKey) -> Bool {
        (try? plane.guarded.get(baton_connection_key(flow))) != nil
    }

    /// What the crash of an application has cut off is probed, adopted and replayed here, as a backup would do it. The
    /// dead sockets go first; the guard keeps their RSTs back, and whatever the kernel says of connections without one.
    func readopt(_ service: Endpoint, _ now: Instant) {
        // The next crash may be near.
        crashedUntil[service] = nil
        attempt {
            try openAnswerTap()
            try releaseTap()
            let flows = try plane.guarded.entries().map { FlowKey($0.key) }.filter { $0.service == service }
            var unknown = Set(flows)
            for slot in membership.own {
                // Without its ISS, a connection cannot be probed.
                let mine = flows.filter { flow in
                    guard let handle = tracker.handle(of: flow), let connection = tracker[handle] else { return false }
                    return connection.slot == slot && connection.iss != nil
                }
                unknown.subtract(mine)
                guard !mine.isEmpty else { continue }
                for flow in mine {
                    try destroyer.destroy(flow)
                    try plane.connections.delete(baton_connection_key(flow))
                }
                runner.readopt(Set(mine), of: slot, tracker: tracker, profile: profile(of: slot), now: now)
            }
            // Nobody can go on with what was never followed: its client is told by its socket's own RST.
            for flow in unknown {
                try plane.guarded.delete(baton_connection_key(flow))
                try destroyer.destroy(flow)
            }
        }
        settle(now)
    }
}
