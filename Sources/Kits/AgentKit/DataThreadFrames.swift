import CContract
import Cluster
import LinuxBPF
import LinuxBase
import Model
import Tracking
import Wire

/// What comes off the wire, and what the eBPF programs tell.
extension DataThread {
    func received(_ bytes: UnsafeRawBufferPointer, _ wireLength: Int, _ instant: Instant) {
        guard case .segment(let frame) = FrameParser.parse(ethernet: bytes, wireLength: wireLength),
            let slot = SlotID(group: frame.destination) ?? slot(ofCopy: frame),
            membership.tapped.contains(slot) || membership.own.contains(slot) || runner.isActive(slot),
            services.contains(where: { $0.endpoint == frame.flow.service })
        else { return }
        tracker.handle(frame, in: bytes, slot: slot, now: instant)
        if runner.isActive(slot) {
            runner.received(frame, slot: slot, tracker: tracker, now: MonotonicClock.now())
            settle(MonotonicClock.now())
        }
    }

    /// The slot of a unicast copy to this machine; a bridge may flood those to others as well.
    func slot(ofCopy frame: TCPFrame) -> SlotID? {
        frame.destination == address ? SlotID(mark: frame.source) : nil
    }

    /// A tap that fails says nothing, and what it does not say is not protected.
    func readSynAcks() {
        try? synAcks?.read(services) { service, options in learnHandshake(service, options) }
    }

    func learnHandshake(_ service: Endpoint, _ announced: HandshakeOptions) {
        // A SYN-ACK names only what its client has offered: what the server can do is the sum of them all.
        var options = announced
        if let known = profiles[service] {
            options.windowScale = options.windowScale ?? known.windowScale
            options.sackPermitted = options.sackPermitted || known.sackPermitted
            options.timestamps = options.timestamps || known.timestamps
            options.mss = max(options.mss, known.mss)
        }
        guard profiles[service] != options else { return }
        profiles[service] = options
        report(.handshake(service, options))
    }

    func received(_ event: baton_event) {
        let service = Endpoint(address: event.key.serviceAddress, port: event.key.servicePort)
        let flow = FlowKey(client: Endpoint(address: event.key.clientAddress, port: event.key.clientPort), service: service)
        switch event.kind {
        case BATON_EVENT_ADOPTED.rawValue, BATON_EVENT_LIVE.rawValue, BATON_EVENT_REPLY_SHORTER.rawValue:
            runner.observe(flow, tracker: tracker, now: MonotonicClock.now())
        case BATON_EVENT_CLOSED.rawValue:
            let closed = Instant(nanoseconds: event.time_ns)
            runner.closed(flow, at: closed, tracker: tracker, now: MonotonicClock.now())
            settle(MonotonicClock.now())
            // An adopted connection of our own is over when its socket is, unless a crash has closed that.
            guard !isGuarded(flow) else { return }
            if let handle = tracker.handle(of: flow), let slot = tracker[handle]?.slot, membership.own.contains(slot) {
                tracker.remove(handle)
            }
        case BATON_EVENT_APPLICATION_CRASHED.rawValue:
            crashed(service, at: Instant(nanoseconds: event.time_ns), hadConnections: true)
        case BATON_EVENT_LISTENER_CLOSED.rawValue:
            event.exit_code == 0
                ? report(.listenerClosed(service))
                : crashed(service, at: Instant(nanoseconds: event.time_ns), hadConnections: false)
        case _:
            break
        }
    }

    /// A crash closes one socket for each connection; one report says it all.
    func crashed(_ service: Endpoint, at instant: Instant, hadConnections: Bool) {
        guard hadConnections else {
            report(.applicationCrashed(service, hadConnections: false))
            return
        }
        if let until = crashedUntil[service], instant < until { return }
        crashedUntil[service] = instant + .milliseconds(200)
        report(.applicationCrashed(service, hadConnections: true))
    }
}
