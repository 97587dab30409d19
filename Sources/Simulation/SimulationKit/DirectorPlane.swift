import Cluster
import Model
import ModuleInterfaces
import Wire

/// The director's XDP data plane (director.bpf.c) and its pinned maps: they outlive the daemon.
struct DirectorPlane {
    struct Flow {
        var slot: SlotID
        var isEstablished = false
        var isClosing = false
        var groupACK: SequenceNumber
        /// When a frame last went to the group, in `BATON_GROUP_TIME_SHIFT` units.
        var groupTime: TrueTime
    }

    struct Slot {
        var owner: MACAddress
        var group: MACAddress
        var isActive: Bool
        var isTakingOver: Bool

        var isUp: Bool { isActive || isTakingOver }
    }

    enum Verdict {
        case forward(MACAddress)
        case drop
        /// To the host's own stack, which has no such connection and answers with RST.
        case pass
    }

    private static let groupTimeShift: TrueTime = 34

    private(set) var flows: [FlowKey: Flow] = [:]
    /// Slots that a flow was dispatched to before a SYN found them down: their owners may still repeat a SYN-ACK.
    private(set) var formerSlots: [FlowKey: [SlotID]] = [:]
    private(set) var slots: [SlotID: Slot] = [:]
    private(set) var records: [SlotID: SlotRecord] = [:]
    private var plan = DispatchPlan.nobody
    private var cursor = 0

    // MARK: Daemon

    /// `DirectorHost.publish`.
    mutating func publish(_ publication: SlotPublication) {
        records[publication.slot] = publication.record
        let owner = publication.owner ?? slots[publication.slot]?.owner ?? MACAddress(rawValue: 0)
        slots[publication.slot] = Slot(
            owner: owner, group: publication.group, isActive: publication.active, isTakingOver: publication.takeOver)
    }

    mutating func publish(_ plan: DispatchPlan) { self.plan = plan }

    func slot(of flow: FlowKey) -> SlotID? { flows[flow]?.slot }

    // MARK: Frames

    /// `serve` of director.bpf.c, with the forwarding `selective`.
    mutating func serve(_ frame: TCPFrame, now: TrueTime, chaos: Chaos?) -> Verdict {
        let flow = flows[frame.flow]
        let slot = flow.flatMap { slots[$0.slot] }
        let isOpening = frame.flags.intersection([.syn, .ack, .rst, .fin]) == .syn
        if isOpening, slot?.isUp != true || flow?.isClosing == true { return open(frame, now) }
        guard var flow else { return .pass }
        guard let slot, slot.isUp else { return .pass }
        let takesOver = slot.isTakingOver && chaos != .takeOverFlagIgnored
        let toGroup = takesOver || groupNeeds(frame, flow, now)
        if frame.flags.contains(.syn) {
            flow.isEstablished = false
        } else if frame.flags.contains(.ack), !frame.flags.contains(.rst) {
            flow.isEstablished = true
        }
        if !frame.flags.isDisjoint(with: [.fin, .rst]) { flow.isClosing = true }
        if toGroup, frame.flags.contains(.ack) { flow.groupACK = frame.acknowledgment }
        if toGroup { flow.groupTime = now >> Self.groupTimeShift }
        flows[frame.flow] = flow
        return .forward(toGroup ? slot.group : slot.owner)
    }

    private func groupNeeds(_ frame: TCPFrame, _ flow: Flow, _ now: TrueTime) -> Bool {
        if frame.payloadLength > 0 || !frame.flags.isDisjoint(with: [.syn, .fin, .rst]) { return true }
        if !flow.isEstablished || (now >> Self.groupTimeShift) - flow.groupTime >= 2 { return true }
        return frame.acknowledgment.distance(from: flow.groupACK).magnitude >= 1 << 29
    }

    private mutating func open(_ frame: TCPFrame, _ now: TrueTime) -> Verdict {
        guard !plan.table.isEmpty else { return .drop }
        let id = plan.table[cursor % plan.table.count]
        cursor += 1
        guard let slot = slots[id], slot.isActive, !slot.isTakingOver else { return .drop }
        if let former = flows[frame.flow]?.slot, former != id { formerSlots[frame.flow, default: []].append(former) }
        flows[frame.flow] = Flow(slot: id, groupACK: SequenceNumber(0), groupTime: now >> Self.groupTimeShift)
        return .forward(slot.group)
    }
}
