import HTTP
import Model
import Takeover
import Testing
import Tracking
import Wire

/// A small generator with a seed (SplitMix64), so that a failing case can be run again.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }
}

/// Bytes that tell where they stand.
func pattern(_ range: Range<Int>) -> [UInt8] {
    range.map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
}

/// The socket that an adoption made, as far as the machine can see it.
struct AdoptedSocket {
    var irs: SequenceNumber
    var received: [UInt8] = []
    var hasFIN = false
    /// Bytes that the application has read, to make room in the window.
    var read = 0
    var windowBytes = 65_536
    var sent: UInt64 = 0

    var ack: SequenceNumber { irs.advanced(by: 1 + received.count + (hasFIN ? 1 : 0)) }
    var rightEdge: SequenceNumber { irs.advanced(by: 1 + read + windowBytes) }

    /// What TCP takes of a segment; true when all of it lay within the window.
    mutating func take(_ frame: TCPFrame, _ payload: [UInt8]) -> Bool {
        let place = frame.sequence.distance(from: irs.advanced(by: 1))
        let fits = place + payload.count <= read + windowBytes
        if place <= received.count, place + payload.count > received.count {
            received += payload.dropFirst(received.count - place).prefix(read + windowBytes - received.count)
        }
        if frame.flags.contains(.fin), received.count == place + payload.count { hasFIN = true }
        return fits
    }
}

/// A tracker, a take-over machine, a data plane in a few lines, and the clients' frames.
final class TakeoverFixture {
    static let slot = SlotID(rawValue: 3)
    static let service = Endpoint(address: IPAddress(ipv4: 0x0a00_0064), port: 80)

    var tracker: Tracker
    var machine: TakeoverMachine
    var now = Instant(nanoseconds: 1_000_000_000)
    let irs: UInt32
    let iss: UInt32

    /// The owner tells its SYN-ACKs, at once.
    var ownerTells = true
    // The data plane's behaviour.
    var accepts = true
    var dropsInjected: (TCPFrame) -> Bool = { _ in false }
    var socketWindow = 65_536
    var applicationReads = true
    /// Catch-up is over as soon as a socket is found.
    var goesLive = true

    // What was seen.
    var entries: [FlowKey: ConnectionEntry] = [:]
    var sockets: [FlowKey: AdoptedSocket] = [:]
    var assigned: Set<FlowKey> = []
    var adopted: Set<FlowKey> = []
    var toClient: [(at: Instant, frame: TCPFrame, payload: [UInt8])] = []
    var injected: [(at: Instant, frame: TCPFrame, payload: [UInt8])] = []
    var order: [String] = []
    var trials: [String] = []
    var outsideWindow = 0
    var mostInFlight = 0
    var isSettled = false
    var isFinished = false
    var nextTick: Instant? { machine.nextDeadline }

    init(
        irs: UInt32 = 1000,
        iss: UInt32 = 5000,
        replay: ReplayPolicy = .stream,
        http: HTTPReplay = HTTPReplay(),
        server: HandshakeOptions = HandshakeOptions(mss: 1460, windowScale: 7, sackPermitted: true, timestamps: true),
        parameters: TakeoverParameters = TakeoverParameters(),
        tracker trackerParameters: TrackerParameters = TrackerParameters()
    ) {
        self.irs = irs
        self.iss = iss
        tracker = Tracker(parameters: trackerParameters, secret: (3, 4))
        machine = TakeoverMachine(slot: TakeoverFixture.slot, parameters: parameters) { _ in
            AdoptionProfile(replay: replay, server: server, http: http)
        }
        if replay == .http { tracker.setHTTP([TakeoverFixture.service]) }
    }

    static func flow(_ port: UInt16 = 40_000) -> FlowKey {
        FlowKey(client: Endpoint(address: IPAddress(ipv4: 0xc0a8_0105), port: port), service: service)
    }

    // MARK: The client

    /// Gives tracker and machine a frame; places are offsets from IRS + 1 and ISS + 1.
    func send(
        _ flags: TCPFlags,
        at place: Int = 0,
        ack: Int = 0,
        _ payload: [UInt8] = [],
        window: UInt16 = 500,
        timestamps: TCPTimestamps? = TCPTimestamps(value: 100, echo: 9000),
        port: UInt16 = 40_000,
        handshake: HandshakeOptions? = nil,
        selective: Range<Int>? = nil
    ) {
        let flow = TakeoverFixture.flow(port)
        var bytes = TCPPacket(
            from: flow.client,
            to: flow.service,
            sequence: SequenceNumber(irs &+ 1).advanced(by: flags.contains(.syn) ? -1 : place),
            acknowledgment: SequenceNumber(iss &+ 1).advanced(by: ack),
            flags: flags,
            window: window,
            timestamps: timestamps,
            handshake: handshake,
            payload: payload
        ).encode()
        if let selective {
            // One block in place of the timestamps (RFC 2018 3).
            var option: [UInt8] = [5, 10]
            for place in [selective.lowerBound, selective.upperBound] {
                let number = SequenceNumber(iss &+ 1).advanced(by: place).rawValue
                for shift in [24, 16, 8, 0] { option.append(UInt8(truncatingIfNeeded: number >> UInt32(shift))) }
            }
            bytes.replaceSubrange(40..<52, with: option + [1, 1])
        }
        var effects: [TakeoverEffect] = []
        bytes.withUnsafeBytes { raw in
            guard let frame = FrameParser.parse(packet: raw).frame else { return }
            tracker.handle(frame, in: raw, slot: TakeoverFixture.slot, now: now)
            if flags.contains(.syn), ownerTells {
                tracker.announced(flow, iss: SequenceNumber(iss), acknowledged: frame.sequence.advanced(by: 1))
            }
            machine.received(frame, tracker: tracker, now: now, into: &effects)
        }
        perform(effects)
        tick()
    }

    static let offered = HandshakeOptions(mss: 1460, windowScale: 4, sackPermitted: true, timestamps: true)

    func connect(port: UInt16 = 40_000, _ request: [UInt8] = [], _ offered: HandshakeOptions = offered) {
        let timestamps = offered.timestamps ? TCPTimestamps(value: 90, echo: 0) : nil
        send([.syn], timestamps: timestamps, port: port, handshake: offered)
        let later = offered.timestamps ? TCPTimestamps(value: 91, echo: 8000) : nil
        send([.ack], timestamps: later, port: port)
        var at = 0
        while at < request.count {
            let end = min(at + 20_000, request.count)
            let flags: TCPFlags = end == request.count ? [.ack, .psh] : [.ack]
            send(flags, at: at, Array(request[at..<end]), timestamps: later, port: port)
            at = end
        }
    }

    // MARK: Driving

    func start() {
        var effects: [TakeoverEffect] = []
        machine.start(tracker: tracker, now: now, into: &effects)
        perform(effects)
        tick()
    }

    func tick() {
        guard machine.figures.startedAt != nil else { return }
        var effects: [TakeoverEffect] = []
        let next = machine.tick(tracker: tracker, now: now, into: &effects)
        #expect(next == nil || next == machine.nextDeadline)
        perform(effects)
    }

    /// Lets time pass, calling on the machine whenever it has asked for it.
    func run(_ interval: Interval) {
        let end = now + interval
        var calls = 0
        while let due = nextTick, due <= end, calls < 100_000 {
            now = max(due, now)
            tick()
            calls += 1
        }
        #expect(calls < 100_000, "the machine asks for ticks without end")
        now = end
        tick()
    }

    func progress(_ flow: FlowKey, _ progress: AdoptionProgress) {
        var effects: [TakeoverEffect] = []
        machine.progress(flow, progress, tracker: tracker, now: now, into: &effects)
        perform(effects)
    }

    func perform(_ effects: [TakeoverEffect]) {
        for effect in effects {
            switch effect {
            case .release: order.append("release")
            case .trial(_, let request): trials.append(String(decoding: request, as: UTF8.self))
            case .sendToClient(let packet):
                let (frame, payload) = TakeoverFixture.parse(packet)
                toClient.append((now, frame, payload))
                order.append(frame.flags.contains(.rst) ? "rst" : "probe")
            case .install(let entry):
                entries[entry.flow] = entry
                order.append("install")
                mostInFlight = max(mostInFlight, entries.count - adopted.count)
            case .uninstall(let flow):
                entries[flow] = nil
                adopted.remove(flow)
                order.append("uninstall")
            case .inject(let packet): inject(packet)
            case .observe(let flow): observe(flow)
            case .forget(let handle): tracker.remove(handle)
            case .settled: isSettled = true
            case .finished: isFinished = true
            }
        }
    }

    static func parse(_ packet: [UInt8]) -> (TCPFrame, [UInt8]) {
        packet.withUnsafeBytes { raw in
            guard let frame = FrameParser.parse(packet: raw).frame else { fatalError("the machine's packet is broken") }
            return (frame, Array(raw[frame.payload]))
        }
    }

    // MARK: The data plane

    private func inject(_ packet: [UInt8]) {
        let (frame, payload) = TakeoverFixture.parse(packet)
        injected.append((now, frame, payload))
        order.append("inject")
        guard let entry = entries[frame.flow], !dropsInjected(frame) else { return }
        if sockets[frame.flow] != nil {
            adopted.insert(frame.flow)
            guard var socket = sockets[frame.flow] else { return }
            if !socket.take(frame, payload) { outsideWindow += 1 }
            if applicationReads { socket.read = socket.received.count }
            sockets[frame.flow] = socket
        } else if accepts, payload.isEmpty, frame.flags == [.ack], frame.sequence == entry.irs.advanced(by: 1),
            frame.acknowledgment == entry.iss.advanced(by: 1)
        {
            sockets[frame.flow] = AdoptedSocket(irs: entry.irs, windowBytes: socketWindow)
        }
    }

    func state(_ flow: FlowKey) -> AdoptionProgress {
        guard entries[flow] != nil else { return AdoptionProgress(state: .gone) }
        guard let socket = sockets[flow], adopted.contains(flow) else { return AdoptionProgress(state: .adopting) }
        return AdoptionProgress(
            state: goesLive ? .live : .catchingUp,
            isAdopted: true,
            localAck: socket.ack,
            localRightEdge: socket.rightEdge,
            sent: socket.sent,
            adoptedAt: now,
            firstReplyAt: now,
            liveAt: goesLive ? now : nil
        )
    }

    func observe(_ flow: FlowKey) { progress(flow, state(flow)) }

    var resets: [(at: Instant, frame: TCPFrame, payload: [UInt8])] { toClient.filter { $0.frame.flags.contains(.rst) } }
    var probes: [(at: Instant, frame: TCPFrame, payload: [UInt8])] {
        toClient.filter { !$0.frame.flags.contains(.rst) }
    }
}
