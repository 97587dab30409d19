import CContract
import LinuxBPF
import Model
import Testing

/// Plans by kind, case by case, in the kernel and in the model: what ipvsadm(8) and the IPVS sources say of a scheduler,
/// told as the slots that one SYN after the other gets.
@Suite struct DispatchPolicyTests {
    /// Slots of one service; each SYN comes from the next port.
    private struct Service {
        var fixture: DirectorFixture
        var port: UInt16 = 1000

        /// Slots 1, 2, ... by their weights, in this order; all of them are up.
        init(
            _ kind: baton_plan_kind, _ rule: baton_plan_rule = BATON_RULE_OVERHEAD, _ weights: [UInt16],
            plan: [UInt16] = [], _ change: (inout DirectorModel.Weighing) -> Void = { _ in }
        ) throws {
            fixture = try DirectorFixture()
            var weighing = DirectorModel.Weighing()
            weighing.rule = rule
            weighing.cacheSeconds = 86_400
            weighing.candidates = weights.enumerated().map { (UInt16($0) + 1, $1) }
            weighing.open = weighing.candidates.map(\.slot)
            change(&weighing)
            try fixture.setService(0, forwarding: BATON_FORWARD_MULTICAST, kind: kind, plan: plan, weighing: weighing)
            for slot in UInt16(1)...9 { try fixture.setSlot(slot) }
        }

        /// The slot of one more flow, 0 where it is dropped.
        mutating func open(client: UInt32 = 0x0a00_0064) throws -> UInt16 {
            port += 1
            let packet = Packet(client: IPAddress(ipv4: client), clientPort: port, flags: .syn)
            let sent = try fixture.send(packet)
            return sent.verdict == .drop ? 0 : sent.destination.flatMap { SlotID(group: $0)?.rawValue } ?? .max
        }

        mutating func open(_ count: Int) throws -> [UInt16] { try (0..<count).map { _ in try open() } }

        /// The client ends the flow of its n-th port.
        mutating func close(_ number: UInt16, flags: TCPFlags = [.fin, .ack]) throws {
            try fixture.send(Packet(clientPort: 1000 + number, flags: flags))
        }

        func load(_ slot: UInt16) throws -> [UInt32] {
            let load = try #require(try fixture.plane.loads.get(0))[Int(slot)]
            return [load.active, load.inactive]
        }
    }

    struct Sequence: CustomTestStringConvertible, Sendable {
        var name: String
        var kind: baton_plan_kind
        var rule: baton_plan_rule
        var weights: [UInt16]
        var slots: [UInt16]
        var testDescription: String { "\(name) \(weights)" }
    }

    /// Flows that stay open, one after the other. Each line follows from the scheduler's formula by hand.
    static let sequences = [
        // ip_vs_lc.c: least 256 active + inactive, the first of equals.
        Sequence(
            name: "lc", kind: BATON_PLAN_LEAST, rule: BATON_RULE_OVERHEAD, weights: [1, 1, 1],
            slots: [1, 2, 3, 1, 2, 3, 1]),
        // ip_vs_wlc.c: least overhead / weight.
        Sequence(
            name: "wlc", kind: BATON_PLAN_LEAST, rule: BATON_RULE_OVERHEAD, weights: [3, 1],
            slots: [1, 2, 1, 1, 1, 2, 1, 1, 1, 2]),
        Sequence(
            name: "wlc", kind: BATON_PLAN_LEAST, rule: BATON_RULE_OVERHEAD, weights: [1, 65535],
            slots: [1] + Array(repeating: 2, count: 30)),
        // ip_vs_sed.c: least (active + 1) / weight.
        Sequence(
            name: "sed", kind: BATON_PLAN_LEAST, rule: BATON_RULE_DELAY, weights: [3, 1],
            slots: [1, 1, 1, 2, 1, 1, 1, 2]),
        // ip_vs_nq.c: an idle one first.
        Sequence(
            name: "nq", kind: BATON_PLAN_LEAST, rule: BATON_RULE_IDLE_FIRST, weights: [3, 1],
            slots: [1, 2, 1, 1, 1, 1, 1, 2, 1, 1]),
        // ip_vs_fo.c: the highest weight, whatever its load.
        Sequence(
            name: "fo", kind: BATON_PLAN_FIRST, rule: BATON_RULE_ANY, weights: [9, 5, 1],
            slots: Array(repeating: 1, count: 20)),
        // ip_vs_ovf.c: passed over while active > weight; all full: no destination.
        Sequence(
            name: "ovf", kind: BATON_PLAN_FIRST, rule: BATON_RULE_OVERFLOW, weights: [2, 1],
            slots: [1, 1, 1, 2, 2, 0, 0]),
        // ip_vs_lblc.c: stays until active > weight while another has less than half; then that one has the destination.
        Sequence(
            name: "lblc", kind: BATON_PLAN_CACHE, rule: BATON_RULE_OVERHEAD, weights: [2, 2],
            slots: [1, 1, 1, 2, 2, 2, 2, 2, 2]),
        // ip_vs_lblcr.c: the same adds it to the destination's set, whose least loaded gets the flow.
        Sequence(
            name: "lblcr", kind: BATON_PLAN_CACHE_SET, rule: BATON_RULE_OVERHEAD, weights: [2, 2],
            slots: [1, 1, 1, 2, 2, 2, 1, 2, 1, 2]),
    ]

    @Test(arguments: sequences) func flowsThatStay(_ sequence: Sequence) throws {
        var service = try Service(sequence.kind, sequence.rule, sequence.weights)
        #expect(try service.open(sequence.slots.count) == sequence.slots)
        try service.fixture.compareState()
    }

    @Test(arguments: sequences) func aSlotThatIsDownIsPassedOver(_ sequence: Sequence) throws {
        var service = try Service(sequence.kind, sequence.rule, sequence.weights)
        for (isActive, isTakenOver) in [(false, false), (true, true)] {
            try service.fixture.setSlot(1, isActive: isActive, isTakenOver: isTakenOver)
            let slots = try service.open(1)
            #expect(slots.allSatisfy { $0 != 1 && $0 != 0 }, "\(slots)")
        }
        for slot in UInt16(1)...9 { try service.fixture.setSlot(slot, isActive: false) }
        #expect(try service.open() == 0)
        try service.fixture.compareState()
    }

    @Test func flowsAreCountedAtSYNAndFINAndRSTAlone() throws {
        var service = try Service(BATON_PLAN_LEAST, BATON_RULE_OVERHEAD, [1])
        #expect(try service.open() == 1)
        #expect(try service.load(1) == [1, 0])
        for flags in [TCPFlags.syn, .ack, [.ack, .psh]] {
            try service.fixture.send(Packet(clientPort: 1001, flags: flags))
            #expect(try service.load(1) == [1, 0])
        }
        try service.close(1)
        #expect(try service.load(1) == [0, 1])
        // FIN again, then RST: closed is closed.
        try service.close(1)
        try service.close(1, flags: .rst)
        #expect(try service.load(1) == [0, 1])
        // The port is used again: the former flow is no more.
        try service.fixture.send(Packet(clientPort: 1001, flags: .syn))
        #expect(try service.load(1) == [1, 0])
        // Its slot has died: the flow is another slot's now.
        try service.fixture.setSlot(1, isActive: false)
        try service.fixture.setService(
            0, forwarding: BATON_FORWARD_MULTICAST, kind: BATON_PLAN_COUNTER, plan: [2])
        try service.fixture.send(Packet(clientPort: 1001, flags: .syn))
        #expect(try service.load(1) == [0, 0])
        #expect(try service.load(2) == [1, 0])
        try service.fixture.compareState()
    }

    /// IPVS: an inactive connection is a 256th of an active one in lc and wlc, and nothing in sed and nq.
    @Test func whatIsClosedWeighsLittle() throws {
        var least = try Service(BATON_PLAN_LEAST, BATON_RULE_OVERHEAD, [1, 1])
        #expect(try least.open(2) == [1, 2])
        try least.close(1)
        #expect(try least.open() == 1)  // 0 and 1 closed against 1
        try least.close(3)
        try least.close(2)
        #expect(try least.open() == 2)  // 2 closed against 1
        var delay = try Service(BATON_PLAN_LEAST, BATON_RULE_DELAY, [1, 1])
        for number in UInt16(1)...5 {
            #expect(try delay.open() == 1)
            try delay.close(number, flags: .rst)
        }
        #expect(try delay.load(1) == [0, 5])
        try least.fixture.compareState()
        try delay.fixture.compareState()
    }

    @Test func anOverflowEndsWithTheFlows() throws {
        var service = try Service(BATON_PLAN_FIRST, BATON_RULE_OVERFLOW, [1, 1])
        #expect(try service.open(5) == [1, 1, 2, 2, 0])
        try service.close(2)
        #expect(try service.open(2) == [1, 0])
    }

    @Test func failoverGoesBack() throws {
        var service = try Service(BATON_PLAN_FIRST, BATON_RULE_ANY, [9, 5])
        #expect(try service.open() == 1)
        try service.fixture.setSlot(1, isActive: false)
        #expect(try service.open(2) == [2, 2])
        try service.fixture.setSlot(1)
        #expect(try service.open() == 1)
    }

    /// Flows keep their slot when a backup takes it over; from then on they are its load.
    @Test func flowsThatWereTakenOverAreTheOwnersLoad() throws {
        var service = try Service(BATON_PLAN_LEAST, BATON_RULE_OVERHEAD, [1, 1, 1])
        #expect(try service.open(6) == [1, 2, 3, 1, 2, 3])
        // 1 has died, and 2 has its flows.
        try service.fixture.setService(
            0, forwarding: BATON_FORWARD_MULTICAST, kind: BATON_PLAN_LEAST, plan: [],
            weighing: .init(candidates: [(2, 1), (1, 0), (3, 1)]))
        #expect(try service.open(3) == [3, 3, 2])
        // One of each that it serves ends: 3 active and 2 closed against 4.
        try service.close(1)
        try service.close(2)
        #expect(try service.open() == 2)
        try service.fixture.compareState()
    }

    @Test func corrections() throws {
        var service = try Service(BATON_PLAN_LEAST, BATON_RULE_OVERHEAD, [1, 1])
        try service.fixture.correctLoad(0, 1, active: 3)
        #expect(try service.open(4) == [2, 2, 2, 1])
        // Fewer than none: as none.
        try service.fixture.correctLoad(0, 1, active: -100, inactive: -5)
        #expect(try service.open(3) == [1, 1, 1])
        try service.fixture.compareState()
    }

    @Test func aDestinationForgetsAndASetShrinksAfterADay() throws {
        let key = { () -> baton_client_key in
            var key = baton_client_key()
            withUnsafeMutableBytes(of: &key.address) { $0.copyBytes(from: DirectorFixture.vip.bytes) }
            return key
        }()
        let day: UInt64 = 86_400 * 1_000_000_000
        var cache = try Service(BATON_PLAN_CACHE, BATON_RULE_OVERHEAD, [2, 2])
        #expect(try cache.open(4) == [1, 1, 1, 2])
        var known = try #require(try cache.fixture.plane.destinations.get(key))
        #expect(known.slots.0 == 2 && known.slots.1 == UInt16(BATON_NO_SLOT))
        known.last_used_ns &-= day + 1_000_000_000
        try cache.fixture.plane.destinations.put(key, known)
        cache.fixture.model.destinations = [:]
        // As if there were none: the least loaded, which is still 2; then it is remembered anew.
        #expect(try cache.open() == 2)
        #expect(try #require(try cache.fixture.plane.destinations.get(key)).last_used_ns &- known.last_used_ns > day)

        var set = try Service(BATON_PLAN_CACHE_SET, BATON_RULE_OVERHEAD, [2, 2])
        #expect(try set.open(4) == [1, 1, 1, 2])
        known = try #require(try set.fixture.plane.destinations.get(key))
        #expect(known.slots.0 == 1 && known.slots.1 == 2)
        known.changed_ns &-= day + 1_000_000_000
        try set.fixture.plane.destinations.put(key, known)
        // 1 has three flows, 2 one: 1 leaves the set.
        #expect(try set.open() == 2)
        known = try #require(try set.fixture.plane.destinations.get(key))
        #expect(known.slots.0 == UInt16(BATON_NO_SLOT) && known.slots.1 == 2)
    }

    @Test(arguments: [BATON_PLAN_HASH_SOURCE, BATON_PLAN_HASH_CLIENT, BATON_PLAN_HASH_DESTINATION, BATON_PLAN_HASH_FLOW])
    func whatIsHashed(kind: baton_plan_kind) throws {
        var service = try Service(kind, BATON_RULE_OVERHEAD, [], plan: Array(1...9))
        let ports = Set(try service.open(40))
        let clients = Set(try (0..<40).map { try service.open(client: 0x0a00_0100 + $0) })
        let usesPort = kind == BATON_PLAN_HASH_CLIENT || kind == BATON_PLAN_HASH_FLOW
        #expect(usesPort ? ports.count > 5 : ports.count == 1)
        #expect(kind == BATON_PLAN_HASH_DESTINATION ? clients == ports : clients.count > 5)
        try service.fixture.compareState()
    }

    /// IPVS sh-fallback and mh-fallback.
    @Test(arguments: [false, true]) func fallback(_ fallsBack: Bool) throws {
        var service = try Service(BATON_PLAN_HASH_SOURCE, BATON_RULE_OVERHEAD, [], plan: Array(1...9)) { $0.fallsBack = fallsBack }
        let slot = try service.open()
        try service.fixture.setSlot(slot, isActive: false)
        let other = try service.open()
        #expect(fallsBack ? other != slot && other != 0 : other == 0)
        #expect(try service.open() == other)
        try service.fixture.setSlot(slot)
        #expect(try service.open() == slot)
        try service.fixture.compareState()
    }

    @Test func roundRobinPassesOverWhatIsDown() throws {
        var service = try Service(BATON_PLAN_COUNTER, BATON_RULE_OVERHEAD, [], plan: [1, 2, 3])
        try service.fixture.setSlot(2, isActive: false)
        #expect(try service.open(4) == [1, 3, 1, 3])
        try service.fixture.compareState()
    }

    /// Two choices: far more even than one, and in proportion to the weights.
    @Test func twoChoicesAreEven() throws {
        let weights: [UInt16] = [1, 1, 1, 1, 4]
        var service = try Service(
            BATON_PLAN_TWO_CHOICES, BATON_RULE_DELAY, weights, plan: [0, 1, 2, 3, 4, 4, 4, 4])
        let slots = try service.open(400)
        for (index, weight) in weights.enumerated() {
            let share = slots.count { $0 == UInt16(index) + 1 }
            #expect(abs(share - 50 * Int(weight)) <= 8 * Int(weight), "slot \(index + 1): \(share) flows")
        }
        try service.fixture.compareState()
    }

    // MARK: Persistence

    private func persistent(_ netmask: Int, seconds: UInt32 = 300) throws -> Service {
        try Service(BATON_PLAN_COUNTER, BATON_RULE_OVERHEAD, [], plan: [1, 2, 3]) {
            $0.persistence = seconds
            $0.netmask = (netmask, 128)
            $0.open = [1, 2, 3]
        }
    }

    @Test func aClientStaysWhileItsTimeHasNotRunOut() throws {
        var service = try persistent(32)
        #expect(try service.open(3) == [1, 1, 1])
        #expect(try service.open(client: 0x0a00_0065) == 2)
        #expect(try service.open() == 1)
        try service.fixture.compareState()
        // 301 s later.
        try age(&service, seconds: 301)
        service.fixture.model.clients = [:]
        #expect(try service.open() == 3)
        // Within the time, a flow that ends makes it begin anew.
        try age(&service, seconds: 299)
        try service.fixture.send(Packet(clientPort: service.port, flags: [.fin, .ack]))
        try age(&service, seconds: 299)
        #expect(try service.open() == 3)
        try service.fixture.compareState()
    }

    @Test func aNetmaskMakesANetworkOneClient() throws {
        var service = try persistent(24)
        #expect(try service.open(client: 0x0a00_0001) == 1)
        #expect(try service.open(client: 0x0a00_00ff) == 1)
        #expect(try service.open(client: 0x0a00_0101) == 2)
    }

    @Test func aClientMovesWhenItsSlotTakesNoNewFlows() throws {
        var service = try persistent(32)
        #expect(try service.open(2) == [1, 1])
        try service.fixture.setSlot(1, isActive: false)
        #expect(try service.open(2) == [2, 2])
        // 1 is up again, as a slot that was taken over, say: 2 keeps the client.
        try service.fixture.setSlot(1)
        #expect(try service.open() == 2)
        // 2 has been drained: it is in no plan.
        try service.fixture.setService(
            0, forwarding: BATON_FORWARD_MULTICAST, kind: BATON_PLAN_COUNTER, plan: [1, 3],
            weighing: .init(persistence: 300, open: [1, 3]))
        let slot = try service.open()
        #expect(slot == 1 || slot == 3)
        #expect(try service.open() == slot)
        try service.fixture.compareState()
    }

    private func age(_ service: inout Service, seconds: UInt64) throws {
        for (key, value) in try service.fixture.plane.clients.entries() {
            var old = value
            old.last_seen_ns &-= seconds * 1_000_000_000
            try service.fixture.plane.clients.put(key, old)
        }
    }
}
