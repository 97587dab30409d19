import CContract
import Glibc
import LinuxBPF
import Model
import Testing

/// Says in one sentence what a test of the kernel lacks.
struct Requirement: Error, CustomStringConvertible {
    var description: String

    static func root() throws {
        guard geteuid() == 0 else {
            throw Requirement(description: "This test loads eBPF programs: run it as root (sudo make test).")
        }
    }
}

/// The data plane in the kernel and its model, side by side: every change and every frame goes to both.
struct DirectorFixture {
    static let own = MACAddress(rawValue: 0x02_00_00_00_00_01)
    static let vip = IPAddress(ipv4: 0x0a00_0001)
    static let vip6 = IPAddress(high: 0x2001_0db8_0000_0000, low: 1)
    static let tableSize: UInt32 = 16_384

    let plane: DirectorPlane
    var model = DirectorModel()
    private var planPlaces: UInt32 = 0

    init(checksAddress: Bool = true) throws {
        try Requirement.root()
        let address = checksAddress ? DirectorFixture.own : nil
        plane = try DirectorPlane.load(.init(flows: DirectorFixture.tableSize, interfaceAddress: address))
        model.interfaceAddress = address
    }

    static func owner(_ slot: UInt16) -> MACAddress { MACAddress(rawValue: 0x02_00_00_00_01_00 | UInt64(slot)) }

    mutating func setService(
        _ id: UInt16, address: IPAddress = vip, port: UInt16 = 80, forwarding: baton_forwarding,
        kind: baton_plan_kind = BATON_PLAN_COUNTER, plan: [UInt16], secret: UInt32 = 0x1234_5678
    ) throws {
        var service = baton_service()
        service.id = id
        service.forwarding = UInt8(forwarding.rawValue)
        service.plan_kind = UInt8(kind.rawValue)
        service.plan_offset = planPlaces
        service.plan_length = UInt32(plan.count)
        service.hash_secret = secret
        try plane.plan.putAll(plan, from: planPlaces)
        planPlaces += UInt32(plan.count)
        try plane.setService(baton_service_key(address: address, port: port), service)
        model.services[.init(address: address, port: port)] = .init(
            id: id, forwarding: forwarding, planKind: kind, plan: plan, secret: secret)
    }

    mutating func setSlot(_ number: UInt16, isActive: Bool = true, isTakenOver: Bool = false) throws {
        let slot = DirectorModel.Slot(
            owner: DirectorFixture.owner(number), group: SlotID(rawValue: number).group, isActive: isActive,
            isTakenOver: isTakenOver
        )
        model.slots[number] = slot
        let flags =
            (isActive ? BATON_SLOT_ACTIVE.rawValue : 0) | (isTakenOver ? BATON_SLOT_TAKEOVER.rawValue : 0)
        try plane.slots.put(UInt32(number), baton_slot(owner: slot.owner, group: slot.group, flags: UInt16(flags)))
    }

    /// Gives a frame to both, checks that they agree on verdict and frame, and returns them.
    @discardableResult
    mutating func send(
        _ packet: Packet, _ location: SourceLocation = #_sourceLocation
    ) throws -> (verdict: DirectorModel.Verdict, destination: MACAddress?) {
        try send(packet.bytes(), location)
    }

    @discardableResult
    mutating func send(
        _ frame: [UInt8], _ location: SourceLocation = #_sourceLocation
    ) throws -> (verdict: DirectorModel.Verdict, destination: MACAddress?) {
        let expected = model.handle(frame)
        let seen = try plane.program.testRun(frame)
        #expect(seen.verdict == expected.verdict.rawValue, "frame \(hex(frame))", sourceLocation: location)
        #expect(seen.frame == expected.frame, "frame \(hex(frame))", sourceLocation: location)
        return (expected.verdict, MACAddress(bytes: seen.frame.prefix(6)))
    }

    /// Checks that flow table and counters are the same on both sides.
    func compareState(_ location: SourceLocation = #_sourceLocation) throws {
        var seen: [DirectorModel.FlowName: DirectorModel.Flow] = [:]
        for (key, flow) in try plane.flows.entries() {
            let name = DirectorModel.FlowName(client: key.clientAddress, port: key.clientPort, service: key.service)
            seen[name] = DirectorModel.Flow(
                slot: flow.slot,
                isEstablished: UInt32(flow.flags) & BATON_FLOW_ESTABLISHED.rawValue != 0,
                isClosing: UInt32(flow.flags) & BATON_FLOW_CLOSING.rawValue != 0,
                groupAck: flow.group_ack
            )
        }
        #expect(seen == model.flows, sourceLocation: location)
        #expect(try plane.counters.sum() == model.counts, sourceLocation: location)
        for (id, counts) in model.serviceCounts {
            #expect(try plane.serviceCounters.sum(UInt32(id)) == counts, sourceLocation: location)
        }
    }

    private func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
