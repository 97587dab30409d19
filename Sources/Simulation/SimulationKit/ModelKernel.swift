import Model
import Takeover
import Tracking
import Wire

/// `struct baton_connection` of contract.h.
struct KernelEntry {
    enum State { case adopting, catchingUp, live, refused }

    var state = State.adopting
    let entry: ConnectionEntry
    var isAssigned = false
    var isAdopted = false
    var sndUna: Int
    var rightEdge: Int
    var sndNxt = 0
    var clientStamp: UInt32
    var localAck: SequenceNumber?
    var localRightEdge: SequenceNumber?
    var adoptedAt: Instant?
    var firstReplyAt: Instant?
    var liveAt: Instant?
    var caughtUpBytes = 0
    var isChecked: Bool

    init(_ entry: ConnectionEntry) {
        self.entry = entry
        isChecked = entry.isChecked
        sndUna = Int(entry.sndUna)
        rightEdge = Int(entry.rightEdge)
        clientStamp = entry.timestamps?.value ?? 0
    }

    /// `is_caught_up` of agent.bpf.c.
    var isCaughtUp: Bool { sndUna == 0 && !isChecked }
    var first: SequenceNumber { entry.iss.advanced(by: 1) }
    private var clientScale: Int { Int(entry.clientWindowScale ?? 0) }

    /// `window_field` of agent_reflect.h: rounded up, and in catch-up two segments beyond SND.UNA at least.
    func windowField(_ acknowledged: Int, roundedDown: Bool) -> UInt16 {
        if roundedDown { return UInt16(min(max(0, rightEdge - acknowledged) >> clientScale, 65_535)) }
        let least = state == .catchingUp ? sndUna + 2 * Int(entry.mss) : 0
        let bytes = max(0, max(rightEdge, least) - acknowledged)
        return UInt16(min((bytes + (1 << clientScale) - 1) >> clientScale, 65_535))
    }

    /// `follow` of agent.bpf.c; false when the segment cannot be the client's.
    mutating func follow(_ segment: Segment) -> Bool {
        guard segment.flags.contains(.ack) else { return true }
        let ack = place(of: segment.acknowledgment, first: first, near: sndUna)
        if ack > rightEdge + (1 << clientScale) + 1, ack > sndNxt { return false }
        if let edge = localRightEdge, segment.sequence.distance(from: edge) > 1 << 30 { return false }
        guard ack >= sndUna else { return true }
        sndUna = ack
        rightEdge = max(rightEdge, ack + Int(segment.window) << clientScale)
        if let stamp = segment.timestamps?.value, Int32(bitPattern: stamp &- clientStamp) > 0 { clientStamp = stamp }
        return true
    }

    /// `note_progress` of agent.bpf.c.
    mutating func noteProgress(_ packet: TCPPacket, end: Int) {
        localAck = packet.acknowledgment
        localRightEdge = packet.acknowledgment.advanced(by: Int(packet.window) << Int(entry.serverWindowScale ?? 0))
        sndNxt = max(sndNxt, end)
    }

    var progress: AdoptionProgress {
        let state: AdoptionProgress.State =
            switch self.state {
            case .adopting: .adopting
            case .catchingUp: .catchingUp
            case .live: .live
            case .refused: .refused
            }
        return AdoptionProgress(
            state: state, isAdopted: isAdopted, localAck: localAck, localRightEdge: localRightEdge,
            sent: UInt64(sndNxt), acknowledged: UInt64(max(sndUna, 0)),
            adoptedAt: adoptedAt, firstReplyAt: firstReplyAt, liveAt: liveAt, caughtUpBytes: UInt64(caughtUpBytes))
    }
}

/// `struct baton_event` of contract.h, without the flow.
enum KernelEvent { case adopted, live, replyShorter, applicationCrashed, listenerClosed(crashed: Bool), closed(at: Instant) }

/// The kernel of one back-end, from its power-on to its power-off: TCP, and a model of the eBPF programs of
/// agent.bpf.c, function by function, and of the nftables table.
final class ModelKernel {
    private unowned let world: Simulation
    let host: Int
    /// Sockets by their numbers, rising; closed ones are gone.
    private(set) var sockets: [ModelSocket] = []
    private var entries: [FlowKey: KernelEntry] = [:]
    private var guarded: Set<FlowKey> = []
    /// Connections whose regenerated reply was found to continue what the client has.
    private var released: Set<FlowKey> = []
    private var reflected: [(flow: FlowKey, segment: Segment)] = []
    private var draining = false

    // Rules that the agent sets; they outlive it.
    var leaseUntil = Instant(nanoseconds: 0)
    var fenced = true
    var hasVIP = false
    var hasListener = false
    var own: [SlotID] = []
    var tapped: [SlotID] = []

    init(_ world: Simulation, host: Int) {
        self.world = world
        self.host = host
    }

    private var chaos: Chaos? { world.scenario.chaos }
    private var localNow: Instant { world.hosts[host].clock.local(world.now) }

    // MARK: Rules

    /// `may_speak` of agent.bpf.c, and the nftables fence.
    var maySpeak: Bool {
        if fenced { return false }
        return leaseUntil == .never || localNow < leaseUntil || chaos == .leaseIgnored
    }

    func install(_ entry: ConnectionEntry) {
        guarded.remove(entry.flow)
        if entry.isChecked { released.remove(entry.flow) }
        entries[entry.flow] = KernelEntry(entry)
    }
    func isGuarded(_ flow: FlowKey) -> Bool { guarded.contains(flow) }

    /// When the entry's socket was found; `.never` where it is awaited, nil without an entry.
    func adoptedAt(_ flow: FlowKey) -> Instant? { entries[flow].map { $0.adoptedAt ?? .never } }

    func release(_ flow: FlowKey) { released.insert(flow) }
    func uninstall(_ flow: FlowKey) {
        entries[flow] = nil
        released.remove(flow)
    }
    func uninstall(slot: SlotID) { entries = entries.filter { $0.value.entry.slot != slot } }
    func progress(_ flow: FlowKey) -> AdoptionProgress { entries[flow]?.progress ?? AdoptionProgress(state: .gone) }

    func socket(_ flow: FlowKey) -> ModelSocket? { sockets.last { $0.flow == flow && $0.state != .timeWait } }
    func socket(id: Int) -> ModelSocket? { sockets.first { $0.id == id } }

    // MARK: NIC

    /// A frame that the NIC took: tap, tc ingress, nftables, TCP.
    func received(_ frame: [UInt8]) {
        let destination = Ethernet.destination(frame)
        let slot = SlotID(group: destination)
        if slot != nil { world.tapped(frame, at: host) } else { world.tappedAnswer(frame, at: host) }
        guard hasVIP, let parsed = frame.parsedFrame() else { return }
        let segment = Segment(parsed, in: frame)
        let isHost = slot.map { own.contains($0) } ?? true
        if entries[parsed.flow] != nil {
            guard let passed = ingress(segment, parsed.flow) else { return }
            toTCP(passed, parsed.flow)
        } else if isHost {
            toTCP(segment, parsed.flow)
        }
        drain()
    }

    /// `receive` of agent.bpf.c; nil where the frame is dropped.
    private func ingress(_ segment: Segment, _ flow: FlowKey) -> Segment? {
        guard var entry = entries[flow] else { return segment }
        let isCredible = entry.follow(segment)
        entries[flow] = entry
        guard isCredible else { return nil }
        switch entry.state {
        case .adopting, .refused: return nil
        case .catchingUp:
            let isPure = segment.payload.isEmpty && segment.flags.isDisjoint(with: [.fin, .syn, .rst])
            if isPure { return nil }
        case .live: break
        }
        guard segment.flags.contains(.ack), chaos != .clampMissing,
            place(of: segment.acknowledgment, first: entry.first, near: entry.sndUna) > entry.sndNxt
        else { return segment }
        var clamped = segment
        clamped.acknowledgment = entry.first.advanced(by: entry.sndNxt)
        clamped.window = entry.windowField(entry.sndNxt, roundedDown: chaos == .windowRoundedDown)
        world.counts.clamped += 1
        return clamped
    }

    private func toTCP(_ segment: Segment, _ flow: FlowKey) {
        if let socket = sockets.last(where: { $0.flow == flow && $0.state != .closed }) {
            let isNewSYN = segment.flags.contains(.syn) && socket.state == .timeWait
            if !isNewSYN {
                if socket.isOrphan, !segment.payload.isEmpty {
                    // Data for a socket that nobody holds any more: tcp_rcv_state_process() resets.
                    refuse(segment, flow)
                    remove(socket)
                    return
                }
                run(socket) { $0.receive(segment, world.now) }
                return
            }
        }
        guard hasListener, segment.flags.isDisjoint(with: [.rst, .ack]), segment.flags.contains(.syn) else {
            if !segment.flags.contains(.rst) { refuse(segment, flow) }
            return
        }
        guarded.remove(flow)
        let scaled = segment.options.windowScale != nil
        let socket = ModelSocket(
            id: world.nextSocket(), flow: flow, iss: SequenceNumber(world.drawISS()), irs: segment.sequence,
            options: segment.options,
            scales: (segment.options.windowScale ?? 0, scaled ? ModelSocket.announced.windowScale ?? 0 : 0),
            stamp: segment.options.timestamps ? world.drawISS() : nil,
            clientStamp: segment.timestamps?.value ?? 0, window: 0, open: false, now: world.now)
        sockets.append(socket)
        run(socket) { _ in }
    }

    /// RFC 9293 3.10.7.1: no socket.
    private func refuse(_ segment: Segment, _ flow: FlowKey) {
        let hasACK = segment.flags.contains(.ack)
        egress(
            TCPPacket(
                from: flow.service, to: flow.client,
                sequence: hasACK ? segment.acknowledgment : SequenceNumber(0),
                acknowledgment: segment.sequence.advanced(
                    by: segment.payload.count + (segment.flags.contains(.syn) ? 1 : 0)),
                flags: hasACK ? [.rst] : [.rst, .ack], window: 0))
    }

    /// Lets a socket do something, and takes from it what it wants.
    func run(_ socket: ModelSocket, _ body: (ModelSocket) -> Void) {
        let before = socket.state
        body(socket)
        while !socket.output.isEmpty {
            let packets = socket.output
            socket.output = []
            for packet in packets { egress(packet) }
        }
        if socket.wantsApplication, socket.state == .open {
            socket.wantsApplication = false
            world.wakeApplication(host, socket)
        }
        if before != socket.state, socket.state == .timeWait || socket.state == .closed, before != .timeWait {
            if entries[socket.flow] != nil { world.tell(.closed(at: localNow), socket.flow, host) }
        }
        if socket.state == .closed { sockets.removeAll { $0 === socket } } else { world.watch(host, socket) }
        drain()
    }

    private func remove(_ socket: ModelSocket) { run(socket) { $0.destroy() } }

    private func drain() {
        guard !draining else { return }
        draining = true
        defer { draining = false }
        var at = 0
        while at < reflected.count {
            let (flow, segment) = reflected[at]
            at += 1
            if let socket = socket(flow) { run(socket) { $0.receive(segment, world.now) } }
        }
        reflected.removeAll(keepingCapacity: true)
    }

    // MARK: TUN

    /// `agent_tun`: the adopting ACK makes a socket, journal bytes pass only to one of our making.
    func tun(_ packet: [UInt8]) {
        guard let frame = packet.parsedPacket(), var entry = entries[frame.flow] else { return }
        let segment = Segment(frame, in: packet)
        if let socket = socket(frame.flow), socket.state == .open {
            guard entry.isAssigned else { return }
            if !entry.isAdopted { confirm(&entry, frame.flow) }
            run(socket) { $0.receive(altered(segment), world.now) }
            drain()
            return
        }
        guard hasListener, entry.state == .adopting, !entry.isAdopted, segment.payload.isEmpty, segment.flags == [.ack],
            segment.sequence == entry.entry.irs.advanced(by: 1), segment.acknowledgment == entry.first
        else { return }
        entry.isAssigned = true
        entries[frame.flow] = entry
        // A full accept queue: the kernel drops the adoption and says nothing.
        guard !world.random.chance(world.scenario.adoptionLoss, in: 100) else { return }
        adopt(entry.entry, segment)
        drain()
    }

    private func adopt(_ entry: ConnectionEntry, _ segment: Segment) {
        guarded.remove(entry.flow)
        let off = chaos == .adoptedOneOff ? -1 : 0
        let socket = ModelSocket(
            id: world.nextSocket(), flow: entry.flow, iss: segment.acknowledgment.advanced(by: -1 + off),
            irs: segment.sequence.advanced(by: -1),
            options: HandshakeOptions(
                mss: entry.mss, windowScale: entry.clientWindowScale, sackPermitted: entry.sackPermitted,
                timestamps: entry.timestamps != nil),
            scales: (entry.clientWindowScale ?? 0, entry.serverWindowScale ?? 0),
            stamp: entry.timestamps?.echo, clientStamp: entry.timestamps?.value ?? 0,
            window: Int(segment.window) << Int(entry.clientWindowScale ?? 0), open: true,
            flight: world.scenario.adoptedWindow, now: world.now)
        socket.isAdopted = true
        sockets.append(socket)
        run(socket) { _ in }
    }

    private func altered(_ segment: Segment) -> Segment {
        guard chaos == .journalAltered, segment.payload.count > Exchange.headerBytes else { return segment }
        var segment = segment
        segment.payload[segment.payload.endIndex - 1] ^= 1
        return segment
    }

    /// `confirm` of agent.bpf.c.
    private func confirm(_ entry: inout KernelEntry, _ flow: FlowKey) {
        entry.isAdopted = true
        entry.adoptedAt = localNow
        if entry.state == .adopting {
            entry.state = entry.isCaughtUp ? .live : .catchingUp
            if entry.isCaughtUp { entry.liveAt = localNow }
        }
        entries[flow] = entry
        world.tell(.adopted, flow, host)
    }

    // MARK: Egress

    /// `agent_egress`: lease and fence, guard, catch-up; what passes goes to the client.
    ///
    /// - Parameter isAgents: it bears the agent's firewall mark.
    func egress(_ packet: TCPPacket, isAgents: Bool = false) {
        let flow = FlowKey(client: packet.destination, service: packet.source)
        guard hasVIP, maySpeak else { return }
        if packet.flags.isSuperset(of: [.syn, .ack]) {
            // A listener answers a SYN: the port pair is a new connection's.
            guarded.remove(flow)
            entries[flow] = nil
        }
        if guarded.contains(flow), !isAgents { return }
        if var entry = entries[flow] {
            let passes = send(packet, flow, &entry)
            if entries[flow] != nil { entries[flow] = entry }
            if !passes { return }
        }
        world.leave(packet.encode(), flow, host)
    }

    /// From the agent's raw socket.
    func sendRaw(_ bytes: [UInt8]) {
        guard let frame = bytes.parsedPacket() else { return }
        let segment = Segment(frame, in: bytes)
        egress(
            TCPPacket(
                from: frame.flow.client, to: frame.flow.service, sequence: segment.sequence,
                acknowledgment: segment.acknowledgment, flags: segment.flags, window: segment.window,
                timestamps: segment.timestamps, payload: Array(segment.payload)),
            isAgents: true)
        drain()
    }

    /// `send` of agent.bpf.c; whether the frame goes out.
    private func send(_ packet: TCPPacket, _ flow: FlowKey, _ entry: inout KernelEntry) -> Bool {
        let isRST = packet.flags.contains(.rst)
        let start = place(of: packet.sequence, first: entry.first, near: entry.sndNxt)
        let end = start + packet.payload.count + (packet.flags.contains(.fin) ? 1 : 0)
        switch entry.state {
        case .refused: return false
        case .adopting:
            if isRST || !entry.isAssigned { return false }
            if entry.isCaughtUp { goLive(&entry, flow) } else { entry.state = .catchingUp }
        case .catchingUp, .live: break
        }
        if !isRST { entry.noteProgress(packet, end: end) }
        return entry.state == .catchingUp ? catchUp(packet, flow, &entry, end) : true
    }

    private func goLive(_ entry: inout KernelEntry, _ flow: FlowKey) {
        entry.state = .live
        entry.liveAt = localNow
        world.tell(.live, flow, host)
    }

    /// `catch_up` of agent.bpf.c.
    private func catchUp(_ packet: TCPPacket, _ flow: FlowKey, _ entry: inout KernelEntry, _ end: Int) -> Bool {
        let isFIN = packet.flags.contains(.fin)
        if packet.flags.contains(.rst) { return refuse(&entry, flow) }
        if packet.payload.isEmpty, !isFIN { return false }
        if entry.firstReplyAt == nil { entry.firstReplyAt = localNow }
        if entry.isChecked, chaos != .verdictIgnored {
            guard released.contains(flow) else {
                world.held(packet.encode(), at: host)
                return false
            }
            entry.isChecked = false
        }
        if isFIN, end < entry.sndUna { return refuse(&entry, flow) }
        if end > entry.sndUna {
            goLive(&entry, flow)
            guard chaos == .swallowTooFar else { return true }
            reflect(packet, flow, entry, end)
            return false
        }
        entry.caughtUpBytes += packet.payload.count
        if end == entry.sndUna { goLive(&entry, flow) }
        world.counts.reflected += 1
        reflect(packet, flow, entry, end)
        return false
    }

    private func refuse(_ entry: inout KernelEntry, _ flow: FlowKey) -> Bool {
        entry.state = .refused
        world.tell(.replyShorter, flow, host)
        return false
    }

    /// `reflect` of agent_reflect.h: the segment comes back as the client's ACK of it.
    private func reflect(_ packet: TCPPacket, _ flow: FlowKey, _ entry: KernelEntry, _ end: Int) {
        let ack = TCPPacket(
            from: flow.client, to: flow.service, sequence: packet.acknowledgment,
            acknowledgment: entry.first.advanced(by: end), flags: [.ack],
            window: entry.windowField(end, roundedDown: chaos == .windowRoundedDown),
            timestamps: packet.timestamps.map { TCPTimestamps(value: entry.clientStamp, echo: $0.value) })
        reflected.append((flow, Segment(ack)))
    }

    // MARK: Processes

    /// The kernel closes what a dying application had open; `agent_guard` sees each close before its FIN.
    func applicationDied() {
        hasListener = false
        for socket in sockets where !socket.isOrphan {
            // What was closed before goes on without its application.
            guard !socket.isClosing else { continue }
            if chaos != .guardMissing { guarded.insert(socket.flow) }
            world.tell(.applicationCrashed, socket.flow, host)
            socket.isOrphan = true
            run(socket) { $0.state == .handshake ? $0.destroy() : $0.close(world.now) }
        }
        world.tell(.listenerClosed(crashed: true), FlowKey(client: Host.service, service: Host.service), host)
    }

    /// SOCK_DESTROY of a flow's sockets, and the end of its entry.
    func destroy(_ flow: FlowKey) {
        for socket in sockets where socket.flow == flow { remove(socket) }
        entries[flow] = nil
    }

    /// SOCK_DESTROY of every socket of the VIPs, and the end of their entries.
    func destroySockets() {
        for socket in sockets { socket.destroy() }
        sockets = []
        entries = [:]
        released = []
        guarded = []
    }
}
