import CContract
import Glibc
import LinuxBPF
import Model
import Testing

/// director_flood.h and director_threshold.h in the kernel.
@Suite("Floods and thresholds", .serialized)
struct FloodTests {
    private static let own = MACAddress(rawValue: 0x02_00_00_00_00_07)
    private static let drop = DirectorModel.Verdict.drop.rawValue
    private static let transmit = DirectorModel.Verdict.transmit.rawValue
    private static let pass = DirectorModel.Verdict.pass.rawValue

    /// Two services at port 80 and 81, round robin over some slots.
    private struct Balancer {
        let plane: DirectorPlane

        init(slots: [UInt16] = [3], flows: UInt32 = 4096, halfOpen: UInt32 = 4096) throws {
            try Requirement.root()
            plane = try DirectorPlane.load(.init(flows: flows, halfOpen: halfOpen, interfaceAddress: nil))
            try plane.putTable(slots)
            for id in UInt16(0)...1 {
                var service = baton_service()
                service.id = id
                service.forwarding = UInt8(BATON_FORWARD_OWNER.rawValue)
                service.plan_length = UInt32(slots.count)
                try plane.setService(baton_service_key(address: DirectorFixture.vip, port: 80 + id), service)
            }
            for slot in slots { try activate(slot) }
        }

        func activate(_ slot: UInt16) throws {
            let flags = UInt16(BATON_SLOT_ACTIVE.rawValue)
            let owner = DirectorFixture.owner(slot)
            try plane.slots.put(UInt32(slot), baton_slot(owner: owner, group: SlotID(rawValue: slot).group, flags: flags))
        }

        func send(_ port: UInt16, _ flags: TCPFlags, service: UInt16 = 80) throws -> UInt32 {
            try plane.program.testRun(Packet(clientPort: port, servicePort: service, flags: flags).bytes()).verdict
        }

        /// The slot that a SYN's frame goes to; nil when it is dropped.
        func open(_ port: UInt16) throws -> UInt16? {
            let seen = try plane.program.testRun(Packet(clientPort: port, flags: .syn).bytes())
            guard seen.verdict == FloodTests.transmit else { return nil }
            return UInt16(seen.frame[5])
        }

        func count(_ counter: baton_director_counter) throws -> UInt64 {
            try plane.counters.sum()[Int(counter.rawValue)]
        }

        func correct(_ slot: Int, active: Int32, inactive: Int32 = 0) throws {
            var all = try #require(try plane.loadCorrections.get(0))
            all[slot] = baton_load(active: UInt32(bitPattern: active), inactive: UInt32(bitPattern: inactive))
            try plane.loadCorrections.put(0, all)
        }

        func setThreshold(_ slot: Int, upper: UInt32, lower: UInt32) throws {
            var all = try #require(try plane.thresholds.get(0))
            all[slot] = baton_threshold(upper: upper, lower: lower)
            try plane.thresholds.put(0, all)
        }
    }

    // MARK: Half-open flows

    @Test("a flow is half open until its client's ACK, and whole from then on")
    func handshake() throws {
        let balancer = try Balancer()
        let key = baton_flow_key(client: Packet().client, clientPort: 5, service: 0, servicePort: 80)
        #expect(try balancer.send(5, .syn) == Self.transmit)
        // A retransmission opens nothing.
        #expect(try balancer.send(5, .syn) == Self.transmit)
        #expect(try balancer.count(BATON_COUNT_NEW_FLOWS) == 1)
        #expect(try balancer.plane.halfOpen.get(key)?.slot == 3)
        #expect(try balancer.plane.flows.get(key) == nil)
        // Neither RST nor SYN/ACK completes it.
        #expect(try balancer.send(5, [.syn, .ack]) == Self.transmit)
        #expect(try balancer.plane.flows.get(key) == nil)
        #expect(try balancer.send(5, .ack) == Self.transmit)
        #expect(try balancer.plane.halfOpen.get(key) == nil)
        let flow = try #require(try balancer.plane.flows.get(key))
        #expect(UInt32(flow.flags) & BATON_FLOW_ESTABLISHED.rawValue != 0)
        #expect(try balancer.plane.floodCounters.sum(0) == [0, 0, 1])
        // It ends, and its port is used again: half open once more, and only there.
        #expect(try balancer.send(5, [.fin, .ack]) == Self.transmit)
        #expect(try balancer.send(5, .syn) == Self.transmit)
        #expect(try balancer.plane.flows.get(key) == nil)
        #expect(try balancer.plane.halfOpen.get(key)?.flags == 0)
        let load = try #require(try balancer.plane.loads.get(0))[3]
        #expect(load.active == 1 && load.inactive == 0)
    }

    @Test("SYNs, however many, drive out half-open flows alone")
    func flood() throws {
        let balancer = try Balancer()
        for port in UInt16(1)...200 {
            _ = try balancer.send(port, .syn)
            _ = try balancer.send(port, .ack)
        }
        for port in UInt16(1000)...21_000 { #expect(try balancer.send(port, .syn) == Self.transmit) }
        for port in UInt16(1)...200 {
            #expect(try balancer.send(port, .ack) == Self.transmit, "the flow of port \(port) is gone")
        }
        #expect(try balancer.plane.flows.entries().count == 200)
        #expect((2048...4096).contains(try balancer.plane.halfOpen.entries().count))
        // One of those that were driven out is unknown.
        #expect(try balancer.send(1000, .ack) == Self.pass)
    }

    // MARK: Limits

    @Test("a service's bucket: so many at once, then at the rate; known flows are never refused")
    func serviceLimit() throws {
        let balancer = try Balancer()
        // One in 100 s: no token comes back while the test runs.
        var limit = baton_flow_limit(rate: 1, burst: 1)
        limit.interval_ns = 100_000_000_000
        limit.burst_ns = 9 * limit.interval_ns
        try balancer.plane.flowLimits.put(0, limit)
        for port in UInt16(1)...10 { #expect(try balancer.send(port, .syn) == Self.transmit, "\(port)") }
        for port in UInt16(11)...30 { #expect(try balancer.send(port, .syn) == Self.drop, "\(port)") }
        #expect(try balancer.plane.floodCounters.sum(0) == [20, 0, 0])
        #expect(try balancer.count(BATON_COUNT_NEW_FLOWS) == 10)
        for port in UInt16(1)...10 {
            #expect(try balancer.send(port, .syn) == Self.transmit, "its SYN again")
            #expect(try balancer.send(port, .ack) == Self.transmit)
        }
        // Another service has its own.
        for port in UInt16(1)...30 { #expect(try balancer.send(port, .syn, service: 81) == Self.transmit) }
        try balancer.plane.flowLimits.put(0, baton_flow_limit(rate: nil, burst: 1))
        #expect(try balancer.send(40, .syn) == Self.transmit)
    }

    @Test("tokens come back at the rate")
    func refill() throws {
        let balancer = try Balancer()
        try balancer.plane.flowLimits.put(0, baton_flow_limit(rate: 200, burst: 1))
        var clock = ContinuousClock.now
        let end = clock + .milliseconds(500)
        var opened = 0
        var port: UInt16 = 1
        let start = clock
        while clock < end {
            if try balancer.send(port, .syn) == Self.transmit { opened += 1 }
            port += 1
            // Far fewer than there are ports.
            usleep(20)
            clock = .now
        }
        let seconds = Double((clock - start).components.attoseconds) / 1e18 + Double((clock - start).components.seconds)
        #expect(Double(opened) <= seconds * 200 + 2, "\(opened) in \(seconds) s")
        #expect(Double(opened) >= seconds * 200 * 0.5, "\(opened) in \(seconds) s")
    }

    @Test("the limit of all: counted apart, and a service that is refused takes nothing of it")
    func limitOfAll() throws {
        let balancer = try Balancer()
        var limit = baton_flow_limit(rate: 1, burst: 1)
        limit.interval_ns = 100_000_000_000
        limit.burst_ns = 4 * limit.interval_ns
        try balancer.plane.flowLimits.put(UInt32(BATON_LIMIT_OF_ALL), limit)
        var own = limit
        own.burst_ns = limit.interval_ns
        try balancer.plane.flowLimits.put(0, own)
        for port in UInt16(1)...20 { _ = try balancer.send(port, .syn) }
        #expect(try balancer.plane.floodCounters.sum(0) == [18, 0, 0])
        for port in UInt16(1)...20 { _ = try balancer.send(port, .syn, service: 81) }
        #expect(try balancer.plane.floodCounters.sum(1) == [0, 17, 0])
        #expect(try balancer.count(BATON_COUNT_NEW_FLOWS) == 5)
    }

    // MARK: Thresholds

    @Test("the upper threshold closes a slot, and it opens below the lower one only")
    func thresholds() throws {
        let balancer = try Balancer(slots: [3, 4])
        try balancer.setThreshold(3, upper: 4, lower: 2)
        // Round robin: every other one, until 3 has its four.
        let first = try (UInt16(1)...12).map { try balancer.open($0) }
        #expect(first == [3, 4, 3, 4, 3, 4, 3, 4, 4, 4, 4, 4])
        #expect(try balancer.plane.fullSlots.get(0)?[3] == true)
        // Closed flows count too.
        _ = try balancer.send(1, [.fin, .ack])
        #expect(try balancer.open(20) == 4)
        // The count says that two are left: not below the lower threshold. The next flow that is replaced looks.
        try balancer.correct(3, active: -1, inactive: 0)
        #expect(try balancer.open(21) == 4)
        let limits = try #require(try balancer.plane.thresholds.get(0))
        let marks = try #require(try balancer.plane.fullSlots.get(0))
        #expect(marks.judged(limits) { _ in 2 }[3])
        #expect(!marks.judged(limits) { _ in 1 }[3])
        // Its port is used again when one is left: that flow no longer counts, and the slot opens.
        try balancer.correct(3, active: -2, inactive: -1)
        #expect(try balancer.open(1) == 4)
        #expect(try balancer.plane.fullSlots.get(0)?[3] == false)
        #expect(try [30, 31].map { try balancer.open($0) }.contains(3))
    }

    @Test("who gets flows when all are full: nobody, or the one that stands by")
    func sorry() throws {
        let balancer = try Balancer(slots: [3])
        try balancer.activate(9)
        try balancer.setThreshold(3, upper: 2, lower: 1)
        #expect(try (UInt16(1)...4).map { try balancer.open($0) } == [3, 3, nil, nil])
        #expect(try balancer.count(BATON_COUNT_NO_BACKEND) == 2)
        try balancer.plane.flowLimits.put(0, baton_flow_limit(rate: nil, burst: 1, sorry: 9))
        #expect(try balancer.open(5) == 9)
        // The first one is back as soon as it may.
        try balancer.setThreshold(3, upper: 0, lower: 0)
        try balancer.plane.fullSlots.put(0, baton_full_slots())
        #expect(try balancer.open(6) == 3)
        // One that stands by and is down is nobody.
        try balancer.plane.slots.put(3, baton_slot())
        #expect(try balancer.open(7) == 9)
        try balancer.plane.slots.put(9, baton_slot())
        #expect(try balancer.open(8) == nil)
    }

    /// With weights of 100 to 1 the light one's places lie a hundred apart.
    @Test("a full slot that has most of the table keeps nobody from another", arguments: [
        BATON_PLAN_COUNTER, BATON_PLAN_HASH_CLIENT,
    ])
    func aTableOfFullSlots(kind: baton_plan_kind) throws {
        let balancer = try Balancer(slots: [3, 4])
        var service = baton_service()
        service.forwarding = UInt8(BATON_FORWARD_OWNER.rawValue)
        service.plan_kind = UInt8(kind.rawValue)
        service.plan_flags = UInt8(BATON_PLAN_FALLBACK.rawValue)
        service.plan_length = 101
        try balancer.plane.putTable([UInt16](repeating: 3, count: 100) + [4])
        try balancer.plane.candidates.put(0, baton_candidates(entries: [(3, 100), (4, 1)], open: [3, 4]))
        try balancer.plane.setService(baton_service_key(address: DirectorFixture.vip, port: 80), service)
        var marks = baton_full_slots()
        marks[3] = true
        try balancer.plane.fullSlots.put(0, marks)
        #expect(try (UInt16(1)...40).map { try balancer.open($0) } == [UInt16?](repeating: 4, count: 40))
    }

    @Test("every kind of plan passes a full slot over", arguments: [
        BATON_PLAN_COUNTER, BATON_PLAN_HASH_FLOW, BATON_PLAN_LEAST, BATON_PLAN_FIRST, BATON_PLAN_TWO_CHOICES,
        BATON_PLAN_CACHE,
    ])
    func everyPlan(kind: baton_plan_kind) throws {
        let balancer = try Balancer(slots: [3, 4])
        var service = baton_service()
        service.forwarding = UInt8(BATON_FORWARD_OWNER.rawValue)
        service.plan_kind = UInt8(kind.rawValue)
        service.plan_flags = UInt8(BATON_PLAN_FALLBACK.rawValue)
        service.plan_length = 2
        service.cache_s = 100
        try balancer.plane.putTable(kind == BATON_PLAN_TWO_CHOICES ? [0, 1] : [3, 4])
        try balancer.plane.candidates.put(0, baton_candidates(entries: [(3, 100), (4, 100)], open: [3, 4]))
        try balancer.plane.setService(baton_service_key(address: DirectorFixture.vip, port: 80), service)
        try balancer.setThreshold(3, upper: 1, lower: 1)
        try balancer.setThreshold(4, upper: 1000, lower: 750)
        var marks = baton_full_slots()
        marks[3] = true
        try balancer.plane.fullSlots.put(0, marks)
        let slots = try (UInt16(1)...40).compactMap { try balancer.open($0) }
        #expect(slots.count >= 39 && slots.allSatisfy { $0 == 4 }, "\(slots)")
    }

    @Test("a rate and a burst as the data plane has them")
    func values() {
        let limit = baton_flow_limit(rate: 1000, burst: 50, sorry: 0)
        #expect(limit.interval_ns == 1_000_000 && limit.burst_ns == 49_000_000 && limit.sorry == 1)
        let none = baton_flow_limit(rate: nil, burst: 50)
        #expect(none.interval_ns == 0 && none.sorry == 0)
    }
}
