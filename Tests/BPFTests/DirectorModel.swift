import CContract
import Model

/// The director's data plane as plain Swift: what `director.bpf.c` must do, said again without a thought for speed.
struct DirectorModel {
    struct ServiceAddress: Hashable {
        var address: IPAddress
        var port: UInt16
    }

    struct Service {
        var id: UInt16
        var forwarding: baton_forwarding
        var planKind: baton_plan_kind
        var plan: [UInt16]
        var secret: UInt32
        var weighing = Weighing()
    }

    /// The rest of a plan, and persistence.
    struct Weighing {
        var rule: baton_plan_rule = BATON_RULE_OVERHEAD
        var fallsBack = false
        /// Slot and weight; weight 0: taken over by the one before.
        var candidates: [(slot: UInt16, weight: UInt16)] = []
        var cacheSeconds: UInt32 = 0
        var persistence: UInt32 = 0
        /// Bits of an IPv4 address that count, and of an IPv6 address.
        var netmask = (32, 128)
        /// Where persistent clients may have new flows.
        var open: [UInt16] = []
    }

    /// Flows of a service at a slot.
    struct LoadName: Hashable {
        var service: UInt16
        var slot: UInt16
    }

    struct Load: Equatable {
        var active: Int32 = 0
        var inactive: Int32 = 0
    }

    /// A client's network, or a destination, of a service.
    struct AddressName: Hashable {
        var address: IPAddress
        var service: UInt16
    }

    struct Slot {
        var owner: MACAddress
        var group: MACAddress
        var isActive = true
        var isTakenOver = false
        var isUp: Bool { isActive || isTakenOver }
    }

    struct FlowName: Hashable {
        var client: IPAddress
        var port: UInt16
        var service: UInt16
    }

    struct Flow: Equatable {
        var slot: UInt16
        var isEstablished = false
        var isClosing = false
        var isOpening = false
        /// Closing by an RST: a SYN opens no other flow, and anything else shows that it lives.
        var isReset = false
        var groupAck: UInt32 = 0
    }

    enum Verdict: UInt32 {
        case drop = 1
        case pass = 2
        case transmit = 3
    }

    var interfaceAddress: MACAddress?
    var services: [ServiceAddress: Service] = [:]
    var slots: [UInt16: Slot] = [:]
    var flows: [FlowName: Flow] = [:]
    var cursors: [UInt16: UInt32] = [:]
    var loads: [LoadName: Load] = [:]
    /// What the daemon has written beside them.
    var corrections: [LoadName: Load] = [:]
    var clients: [AddressName: UInt16] = [:]
    /// Eight places each, nil: free.
    var destinations: [AddressName: [UInt16?]] = [:]
    var counts = [UInt64](repeating: 0, count: Int(BATON_DIRECTOR_COUNTERS.rawValue))
    /// Frames to the owner, to the group, new flows, bytes; by service id.
    var serviceCounts: [UInt16: [UInt64]] = [:]

    mutating func handle(_ frame: [UInt8]) -> (verdict: Verdict, frame: [UInt8]) {
        let parsed = ParsedFrame(frame)
        let destination = MACAddress(bytes: frame[..<6]) ?? MACAddress(rawValue: 0)
        var isOther = false
        if case .other = parsed { isOther = true }
        if isOther || !isForUs(destination) {
            // A mark is for the copying program alone, and nothing from the wire may reach it.
            let isMark = SlotID(mark: destination) != nil
            return (isMark ? drop(BATON_COUNT_NOT_OURS) : pass(BATON_COUNT_NOT_OURS), frame)
        }
        let segment: ParsedFrame.Segment
        let isMalformed: Bool
        switch parsed {
        case .other: return (pass(BATON_COUNT_NOT_OURS), frame)
        case .fragment: return (pass(BATON_COUNT_FRAGMENTS), frame)
        case .malformed(let found): (segment, isMalformed) = (found, true)
        case .tcp(let found): (segment, isMalformed) = (found, false)
        }
        let address = ServiceAddress(address: segment.destination, port: segment.destinationPort)
        guard let service = services[address] else {
            return (pass(BATON_COUNT_NOT_OURS), frame)
        }
        count(BATON_COUNT_FRAMES)
        if isMalformed { return (drop(BATON_COUNT_MALFORMED), frame) }
        return serve(frame, segment, service)
    }

    private mutating func serve(
        _ frame: [UInt8], _ segment: ParsedFrame.Segment, _ service: Service
    ) -> (verdict: Verdict, frame: [UInt8]) {
        let name = FlowName(client: segment.source, port: segment.sourcePort, service: service.id)
        let opens = segment.flags.intersection([.syn, .ack, .rst, .fin]) == .syn
        if opens, !isLiving(name) {
            let number = slotOfClient(segment, service) ?? dispatch(segment, service)
            guard let slot = slots[number], slot.isActive, !slot.isTakenOver else {
                return (drop(BATON_COUNT_NO_BACKEND), frame)
            }
            if let former = flows[name] {
                if former.isClosing {
                    load(service.id, former.slot) { $0.inactive -= 1 }
                } else {
                    load(service.id, former.slot) { $0.active -= 1 }
                }
            }
            flows[name] = Flow(slot: number)
            load(service.id, number) { $0.active += 1 }
            if service.weighing.persistence > 0 { clients[network(segment.source, service)] = number }
            count(BATON_COUNT_NEW_FLOWS)
            serviceCounts[service.id, default: [0, 0, 0, 0]][2] += 1
            let isGroup = service.forwarding != BATON_FORWARD_OWNER
            return forward(frame, service, to: isGroup ? slot.group : slot.owner, isGroup: isGroup)
        }
        guard var flow = flows[name] else { return (pass(BATON_COUNT_NO_FLOW), frame) }
        guard let slot = slots[flow.slot], slot.isUp else { return (pass(BATON_COUNT_SLOT_DOWN), frame) }
        let toGroup = slot.isTakenOver || goesToGroup(segment, flow, service)
        if segment.flags.contains(.syn) {
            flow.isOpening = true
        } else if segment.flags.contains(.ack), !segment.flags.contains(.rst) {
            flow.isEstablished = true
            flow.isOpening = false
        }
        if !segment.flags.isDisjoint(with: [.fin, .rst]) {
            if !flow.isClosing {
                load(service.id, flow.slot) {
                    $0.active -= 1
                    $0.inactive += 1
                }
            }
            if !flow.isClosing, segment.flags.contains(.rst) { flow.isReset = true }
            if segment.flags.contains(.fin) { flow.isReset = false }
            flow.isClosing = true
        } else if flow.isClosing, segment.payload > 0 || flow.isReset {
            load(service.id, flow.slot) {
                $0.active += 1
                $0.inactive -= 1
            }
            (flow.isClosing, flow.isReset) = (false, false)
        }
        if toGroup, segment.flags.contains(.ack) { flow.groupAck = segment.acknowledgment }
        flows[name] = flow
        return forward(frame, service, to: toGroup ? slot.group : slot.owner, isGroup: toGroup)
    }

    private func isLiving(_ name: FlowName) -> Bool {
        guard let flow = flows[name], let slot = slots[flow.slot] else { return false }
        return slot.isUp && (!flow.isClosing || flow.isReset)
    }

    private func goesToGroup(_ segment: ParsedFrame.Segment, _ flow: Flow, _ service: Service) -> Bool {
        switch service.forwarding {
        case BATON_FORWARD_OWNER: false
        case BATON_FORWARD_SELECTIVE: groupNeeds(segment, flow)
        default: true
        }
    }

    private func groupNeeds(_ segment: ParsedFrame.Segment, _ flow: Flow) -> Bool {
        if segment.payload > 0 || !segment.flags.isDisjoint(with: [.syn, .fin, .rst]) { return true }
        if !flow.isEstablished || flow.isOpening { return true }
        let moved = Int32(bitPattern: segment.acknowledgment &- flow.groupAck)
        return moved.magnitude >= 1 << 29
    }

    private func isForUs(_ destination: MACAddress) -> Bool {
        !destination.isGroup && (interfaceAddress == nil || interfaceAddress == destination)
    }

    private mutating func forward(
        _ frame: [UInt8], _ service: Service, to address: MACAddress, isGroup: Bool
    ) -> (verdict: Verdict, frame: [UInt8]) {
        count(isGroup ? BATON_COUNT_TO_GROUP : BATON_COUNT_TO_OWNER)
        serviceCounts[service.id, default: [0, 0, 0, 0]][isGroup ? 1 : 0] += 1
        serviceCounts[service.id, default: [0, 0, 0, 0]][3] += UInt64(frame.count)
        if isGroup, service.forwarding == BATON_FORWARD_DUPLICATE {
            let mark = [address.bytes[0] & 0xfe] + address.bytes[1...]
            let named: [UInt8] = [0x02, 0xba, 0x70, 0x6f, UInt8(service.id >> 8), UInt8(service.id & 0xff)]
            return (.pass, mark + named + frame[12...])
        }
        return (.transmit, address.bytes + frame[..<6] + frame[12...])
    }

    private mutating func count(_ counter: baton_director_counter) { counts[Int(counter.rawValue)] += 1 }

    private mutating func pass(_ reason: baton_director_counter) -> Verdict {
        count(reason)
        return .pass
    }

    private mutating func drop(_ reason: baton_director_counter) -> Verdict {
        count(reason)
        return .drop
    }
}

/// HalfSipHash-1-3 with 32 bits of result (Aumasson and Bernstein's reference, c = 1, d = 3).
func halfSipHash13(_ message: [UInt8], key: (UInt32, UInt32)) -> UInt32 {
    var v: (UInt32, UInt32, UInt32, UInt32) = (key.0, key.1, 0x6c79_6765 ^ key.0, 0x7465_6462 ^ key.1)
    func rotate(_ value: UInt32, _ bits: UInt32) -> UInt32 { value << bits | value >> (32 - bits) }
    func round() {
        v.0 = v.0 &+ v.1
        v.1 = rotate(v.1, 5)
        v.1 ^= v.0
        v.0 = rotate(v.0, 16)
        v.2 = v.2 &+ v.3
        v.3 = rotate(v.3, 8)
        v.3 ^= v.2
        v.0 = v.0 &+ v.3
        v.3 = rotate(v.3, 7)
        v.3 ^= v.0
        v.2 = v.2 &+ v.1
        v.1 = rotate(v.1, 13)
        v.1 ^= v.2
        v.2 = rotate(v.2, 16)
    }
    func absorb(_ word: UInt32) {
        v.3 ^= word
        round()
        v.0 ^= word
    }
    let whole = message.count / 4 * 4
    for start in stride(from: 0, to: whole, by: 4) {
        absorb((0..<4).reduce(UInt32(0)) { $0 | UInt32(message[start + $1]) << UInt32(8 * $1) })
    }
    let rest = message[whole...].enumerated().reduce(UInt32(0)) { $0 | UInt32($1.element) << UInt32(8 * $1.offset) }
    absorb(UInt32(truncatingIfNeeded: message.count) << 24 | rest)
    v.2 ^= 0xff
    for _ in 0..<3 { round() }
    return v.1 ^ v.3
}
