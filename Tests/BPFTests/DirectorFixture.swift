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
        plane = try DirectorPlane.load(
            .init(flows: DirectorFixture.tableSize, halfOpen: DirectorFixture.tableSize, interfaceAddress: address))
        model.interfaceAddress = address
    }

    static func owner(_ slot: UInt16) -> MACAddress { MACAddress(rawValue: 0x02_00_00_00_01_00 | UInt64(slot)) }

    mutating func setService(
        _ id: UInt16, address: IPAddress = vip, port: UInt16 = 80, forwarding: baton_forwarding,
        kind: baton_plan_kind = BATON_PLAN_COUNTER, plan: [UInt16], secret: UInt32 = 0x1234_5678,
        weighing: DirectorModel.Weighing = .init()
    ) throws {
        var service = baton_service()
        service.id = id
        service.forwarding = UInt8(forwarding.rawValue)
        service.plan_kind = UInt8(kind.rawValue)
        service.plan_offset = planPlaces
        service.plan_length = UInt32(plan.count)
        service.hash_secret = secret
        service.plan_rule = UInt8(weighing.rule.rawValue)
        service.plan_flags = weighing.fallsBack ? UInt8(BATON_PLAN_FALLBACK.rawValue) : 0
        service.candidates = UInt32(id) * 2
        service.cache_s = weighing.cacheSeconds
        service.persistence_s = weighing.persistence
        service.persistence_bits = UInt8(96 + weighing.netmask.0)
        service.persistence_bits_ipv6 = UInt8(weighing.netmask.1)
        try plane.putTable(plan, from: planPlaces)
        planPlaces += (UInt32(plan.count) + 31) / 32 * 32
        try plane.candidates.put(
            UInt32(id) * 2, baton_candidates(entries: weighing.candidates, open: weighing.open))
        try plane.setService(baton_service_key(address: address, port: port), service)
        model.services[.init(address: address, port: port)] = .init(
            id: id, forwarding: forwarding, planKind: kind, plan: plan, secret: secret, weighing: weighing)
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

    /// What the daemon adds to the counts of a slot.
    mutating func correctLoad(_ service: UInt16, _ slot: UInt16, active: Int32, inactive: Int32 = 0) throws {
        var all = try plane.loadCorrections.get(UInt32(service)) ?? baton_loads()
        all[Int(slot)] = baton_load(active: UInt32(bitPattern: active), inactive: UInt32(bitPattern: inactive))
        try plane.loadCorrections.put(UInt32(service), all)
        model.corrections[.init(service: service, slot: slot)] = .init(active: active, inactive: inactive)
    }

    /// Gives a frame to both, checks that they agree on verdict and frame, and returns them.
    @discardableResult
    mutating func send(
        _ packet: Packet, _ location: SourceLocation = #_sourceLocation
    ) throws -> (verdict: DirectorModel.Verdict, destination: MACAddress?) {
        let finding = try ask(packet)
        let sent = try send(packet.bytes(), location)
        if let finding { compare(finding, sent, packet, location) }
        return sent
    }

    /// Asks `baton_route` about a frame of the kinds that it can be asked about; that it changed nothing shows in what
    /// kernel and model do with the frame itself, and in `compareState`.
    private func ask(_ packet: Packet) throws -> RouteFinding? {
        guard packet.client.isIPv4 == packet.service.isIPv4, packet.destination == DirectorFixture.own,
            packet.transport == 6, packet.fragment == 0x4000, packet.ipLengthError == 0, packet.tcpHeaderError == 0,
            packet.extensionHeaders.isEmpty
        else { return nil }
        let kind: RouteQuestion.Kind
        switch (packet.flags, packet.payload.isEmpty) {
        case (.syn, true): kind = .syn
        case ([.ack, .psh], false), (.ack, false): kind = .data
        case (.ack, true): kind = .acknowledgment
        default: return nil
        }
        var question = RouteQuestion(
            client: Endpoint(address: packet.client, port: packet.clientPort),
            service: Endpoint(address: packet.service, port: packet.servicePort), kind: kind)
        question.acknowledgment = packet.acknowledgment
        return try plane.route(question, interfaceAddress: DirectorFixture.own)
    }

    private func compare(
        _ finding: RouteFinding, _ sent: (verdict: DirectorModel.Verdict, destination: MACAddress?), _ packet: Packet,
        _ location: SourceLocation
    ) {
        let expected: [RouteFinding.Verdict] =
            switch sent.verdict {
            case .transmit: [.forwarded]
            case .drop: [.dropped]
            case .pass: [.stack, .copied]
            }
        #expect(expected.contains(finding.verdict), "\(finding) of \(packet)", sourceLocation: location)
        guard sent.verdict == .transmit else { return }
        #expect(finding.destination == sent.destination, "\(finding) of \(packet)", sourceLocation: location)
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
        for (key, flow) in try plane.flows.entries() + plane.halfOpen.entries() {
            let name = DirectorModel.FlowName(client: key.clientAddress, port: key.clientPort, service: key.service)
            seen[name] = DirectorModel.Flow(
                slot: flow.slot,
                isEstablished: UInt32(flow.flags) & BATON_FLOW_ESTABLISHED.rawValue != 0,
                isClosing: UInt32(flow.flags) & BATON_FLOW_CLOSING.rawValue != 0,
                isOpening: UInt32(flow.flags) & BATON_FLOW_OPENING.rawValue != 0,
                isReset: UInt32(flow.flags) & BATON_FLOW_RESET.rawValue != 0,
                groupAck: flow.group_ack
            )
        }
        #expect(seen == model.flows, sourceLocation: location)
        #expect(try plane.counters.sum() == model.counts, sourceLocation: location)
        for id in Set(model.services.values.map(\.id)) {
            let loads = try #require(try plane.loads.get(UInt32(id)), sourceLocation: location)
            for slot in 0..<Limits.slots {
                let (seen, name) = (loads[slot], DirectorModel.LoadName(service: id, slot: UInt16(slot)))
                let expected = model.loads[name] ?? .init()
                #expect(
                    DirectorModel.Load(active: .init(bitPattern: seen.active), inactive: .init(bitPattern: seen.inactive))
                        == expected,
                    "service \(id), slot \(slot)", sourceLocation: location)
            }
        }
        for (id, counts) in model.serviceCounts {
            #expect(try plane.serviceCounters.sum(UInt32(id)) == counts, sourceLocation: location)
        }
    }

    private func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
