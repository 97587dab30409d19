import CContract
import Model
import Testing

/// Random frames and random changes of the tables, by seed: kernel and model must agree at every step.
@Suite struct DirectorRandomTests {
    private static let clients = [
        IPAddress(ipv4: 0x0a00_0064), IPAddress(ipv4: 0xc0a8_0105), IPAddress(high: 0x2001_0db8_0000_0001, low: 9),
    ]
    private static let acknowledgments: [UInt32] = [0, 1, 5000, 1 << 29, 1 << 30, 1 << 31, 0xe000_0000, .max]

    @Test(arguments: UInt64(1)...24)
    func kernelAndModelAgree(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var fixture = try DirectorFixture(checksAddress: random.chance(1, in: 2))
        for slot in UInt16(0)..<6 { try fixture.setSlot(slot) }
        for slot in UInt16(0)..<6 where random.chance(1, in: 2) {
            try fixture.correctLoad(0, slot, active: .random(in: -3...3, using: &random), inactive: -2)
        }
        try changeServices(&fixture, &random)
        for step in 0..<4000 {
            if random.chance(1, in: 40) {
                try fixture.setSlot(
                    .random(in: 0..<6, using: &random),
                    isActive: random.chance(3, in: 4),
                    isTakenOver: random.chance(1, in: 4)
                )
            }
            if random.chance(1, in: 300) { try changeServices(&fixture, &random) }
            let frame = frame(&random)
            // The model knows nothing of what follows a first fragment: see ServiceFrameTests.
            if case .fragment(isFirst: true) = ParsedFrame(frame) { continue }
            try fixture.send(frame)
            if step % 200 == 199 { try fixture.compareState() }
        }
        // A run that only ever passed frames on would prove nothing.
        let seen = fixture.model.counts
        let mustHappen = [
            BATON_COUNT_TO_OWNER, BATON_COUNT_TO_GROUP, BATON_COUNT_NEW_FLOWS, BATON_COUNT_NO_BACKEND,
            BATON_COUNT_NO_FLOW, BATON_COUNT_MALFORMED, BATON_COUNT_FRAGMENTS, BATON_COUNT_NOT_OURS,
            BATON_COUNT_SLOT_DOWN,
        ]
        for counter in mustHappen { #expect(seen[Int(counter.rawValue)] > 2, "counter \(counter.rawValue): \(seen)") }
    }

    private func changeServices(_ fixture: inout DirectorFixture, _ random: inout SeededGenerator) throws {
        let forwardings = [
            BATON_FORWARD_SELECTIVE, BATON_FORWARD_SELECTIVE, BATON_FORWARD_SELECTIVE, BATON_FORWARD_MULTICAST,
            BATON_FORWARD_DUPLICATE, BATON_FORWARD_OWNER,
        ]
        for (id, address) in [DirectorFixture.vip, DirectorFixture.vip, DirectorFixture.vip6].enumerated() {
            let kind = Self.kinds.randomElement(using: &random) ?? BATON_PLAN_COUNTER
            let weighing = weighing(of: kind, &random)
            let length = Int.random(in: 0...9, using: &random)
            let heads = weighing.candidates.indices.filter { weighing.candidates[$0].weight > 0 }.map { UInt16($0) }
            let plan: [UInt16] =
                kind == BATON_PLAN_TWO_CHOICES
                ? heads + heads : (0..<length).map { _ in UInt16.random(in: 0..<7, using: &random) }
            try fixture.setService(
                UInt16(id),
                address: address,
                port: id == 1 ? 443 : 80,
                forwarding: forwardings.randomElement(using: &random) ?? BATON_FORWARD_SELECTIVE,
                kind: kind,
                plan: plan,
                secret: .random(in: 0 ... .max, using: &random),
                weighing: weighing
            )
        }
    }

    private static let kinds = [
        BATON_PLAN_COUNTER, BATON_PLAN_HASH_SOURCE, BATON_PLAN_HASH_DESTINATION, BATON_PLAN_HASH_FLOW,
        BATON_PLAN_HASH_CLIENT, BATON_PLAN_LEAST, BATON_PLAN_LEAST, BATON_PLAN_FIRST, BATON_PLAN_TWO_CHOICES,
        BATON_PLAN_CACHE, BATON_PLAN_CACHE_SET,
    ]

    /// Some of the slots as candidates, some as taken over by the one before.
    private func weighing(of kind: baton_plan_kind, _ random: inout SeededGenerator) -> DirectorModel.Weighing {
        var weighing = DirectorModel.Weighing()
        let rules =
            kind == BATON_PLAN_FIRST
            ? [BATON_RULE_ANY, BATON_RULE_OVERFLOW] : [BATON_RULE_OVERHEAD, BATON_RULE_DELAY, BATON_RULE_IDLE_FIRST]
        weighing.rule = rules.randomElement(using: &random) ?? BATON_RULE_OVERHEAD
        if kind == BATON_PLAN_CACHE || kind == BATON_PLAN_CACHE_SET { weighing.rule = BATON_RULE_OVERHEAD }
        weighing.fallsBack = random.chance(1, in: 2)
        weighing.cacheSeconds = 3600
        for slot in (0..<UInt16(7)).shuffled(using: &random).prefix(.random(in: 0...7, using: &random)) {
            let isTakenOver = !weighing.candidates.isEmpty && random.chance(1, in: 4)
            weighing.candidates.append((slot, isTakenOver ? 0 : .random(in: 1...4, using: &random)))
        }
        if random.chance(1, in: 3) {
            weighing.persistence = 3600
            weighing.netmask = (.random(in: 1...32, using: &random), .random(in: 1...128, using: &random))
            weighing.open = (0..<UInt16(7)).filter { _ in random.chance(2, in: 3) }
        }
        return weighing
    }

    private func frame(_ random: inout SeededGenerator) -> [UInt8] {
        var bytes = packet(&random).bytes()
        if random.chance(1, in: 10) {
            let place = Int.random(in: 0..<min(bytes.count, 80), using: &random)
            bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        }
        if random.chance(1, in: 20) { bytes.removeLast(Int.random(in: 0...(bytes.count - 14), using: &random)) }
        return bytes
    }

    private func packet(_ random: inout SeededGenerator) -> Packet {
        var packet = Packet()
        packet.client = Self.clients.randomElement(using: &random) ?? packet.client
        packet.service = packet.client.isIPv4 ? DirectorFixture.vip : DirectorFixture.vip6
        packet.servicePort = [80, 80, 443, 81].randomElement(using: &random) ?? 80
        packet.clientPort = 1024 + .random(in: 0..<30, using: &random)
        let usual: [TCPFlags] = [.syn, .ack, .ack, .ack, [.ack, .psh], [.ack, .fin], .rst]
        packet.flags =
            random.chance(1, in: 20)
            ? TCPFlags(rawValue: .random(in: 0 ... .max, using: &random))
            : usual.randomElement(using: &random) ?? .ack
        packet.acknowledgment = Self.acknowledgments.randomElement(using: &random) ?? 0
        packet.acknowledgment &+= .random(in: 0..<3, using: &random)
        if random.chance(1, in: 3) { packet.payload = Array(repeating: 1, count: .random(in: 0..<40, using: &random)) }
        if random.chance(1, in: 8) { packet.tcpOptions = Array(repeating: 1, count: 12) }
        if random.chance(1, in: 8) { packet.vlanTags = Array(repeating: 5, count: .random(in: 1...3, using: &random)) }
        if random.chance(1, in: 12) {
            packet.ipOptions = Array(repeating: 1, count: 4 * .random(in: 1...10, using: &random))
        }
        if random.chance(1, in: 12) {
            packet.extensionHeaders = (0..<Int.random(in: 1...5, using: &random)).map { _ in
                ([0, 60, 60, 0, 60, 43, 44].randomElement(using: &random) ?? 0, .random(in: 0...2, using: &random))
            }
        }
        if random.chance(1, in: 30) { packet.fragment = .random(in: 0 ... .max, using: &random) }
        if random.chance(1, in: 30) { packet.ipLengthError = .random(in: -60...60, using: &random) }
        if random.chance(1, in: 30) { packet.tcpHeaderError = .random(in: -5...10, using: &random) }
        if random.chance(1, in: 40) { packet.transport = 17 }
        if random.chance(1, in: 30) { packet.destination = SlotID(rawValue: 3).group }
        if random.chance(1, in: 30) { packet.destination = MACAddress(rawValue: 0x02_00_00_00_00_02) }
        if random.chance(1, in: 30) { packet.destination = SlotID(rawValue: 3).mark }
        packet.isPadded = random.chance(3, in: 4)
        return packet
    }
}
