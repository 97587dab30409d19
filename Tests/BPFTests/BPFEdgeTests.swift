import BPFObjects
import CContract
import Glibc
import LinuxBPF
import Model
import Testing

/// The thin Swift over libbpf: maps, constants, hooks, events, errors.
@Suite struct BPFEdgeTests {
    private func plane() throws -> DirectorPlane {
        try Requirement.root()
        return try DirectorPlane.load(.init(flows: 20_000, interfaceAddress: nil))
    }

    private func key(_ number: UInt32) -> baton_flow_key {
        baton_flow_key(client: IPAddress(ipv4: 0x0a00_0000 + number), clientPort: 7, service: 1, servicePort: 80)
    }

    @Test func aMapIsReadAndWritten() throws {
        let flows = try plane().flows
        let flow = baton_flow(slot: 9, flags: 2, group_time: 0, group_ack: 5, last_seen_ns: 6)
        #expect(try flows.get(key(1)) == nil)
        #expect(try !flows.put(key(1), flow, mode: .onlyExisting))
        #expect(try flows.put(key(1), flow, mode: .onlyNew))
        #expect(try !flows.put(key(1), flow, mode: .onlyNew))
        #expect(try flows.get(key(1))?.slot == 9)
        #expect(try flows.delete(key(1)))
        #expect(try !flows.delete(key(1)))
    }

    @Test(arguments: [0, 1, 4095, 4096, 9000])
    func everyEntryIsListedOnce(count: Int) throws {
        let flows = try plane().flows
        for number in 0..<UInt32(count) { try flows.put(key(number), baton_flow()) }
        let listed = try flows.entries().map { $0.key.clientAddress }
        #expect(listed.count == count)
        #expect(Set(listed).count == count)
    }

    @Test func anArrayIsWrittenAtOnce() throws {
        let plane = try plane()
        let places = (0..<UInt32(BATON_PLAN_PLACES)).map { UInt16(truncatingIfNeeded: $0 &* 7) }
        try plane.putTable(places)
        try plane.putTable([1, 2, 3], from: 1024)
        #expect(try plane.plan.get(31)?.places.last == UInt16(truncatingIfNeeded: 1023 * 7))
        #expect(try plane.plan.get(32)?.places.prefix(4) == [1, 2, 3, UInt16(BATON_NO_SLOT)])
        #expect(try plane.plan.get(33)?.places.first == UInt16(truncatingIfNeeded: 1056 * 7))
        #expect(try plane.plan.entries().count * Int(BATON_PLAN_ROW) == places.count)
        let last = UInt32(BATON_PLAN_PLACES - BATON_PLAN_ROW)
        #expect(throws: BPFError.self) { try plane.putTable(Array(places.prefix(33)), from: last) }
    }

    @Test func candidatesAndLoadsAreLaidOutAsTheProgramReadsThem() throws {
        let plane = try plane()
        try plane.candidates.put(511, baton_candidates(entries: [(7, 9), (1023, 0)], open: [0, 33, 1023]))
        let found = try #require(try plane.candidates.get(511))
        #expect(found.count == 2)
        #expect(found.list.0.slot == 7 && found.list.0.weight == 9 && found.list.1.slot == 1023)
        #expect(found.open.0 == 1 && found.open.1 == 2 && found.open.31 == 1 << 31)
        var loads = baton_loads()
        loads[1023] = baton_load(active: 5, inactive: 6)
        #expect(loads[1023].active == 5 && loads[1023].inactive == 6 && loads[1022].active == 0)
    }

    @Test func countersAreSummedOverCPUs() async throws {
        let plane = try plane()
        #expect(plane.counters.width == Int(BATON_DIRECTOR_COUNTERS.rawValue))
        let frame = Packet().bytes()
        // Many at once, so that several CPUs count.
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask { for _ in 0..<500 { _ = try? plane.program.testRun(frame) } }
            }
        }
        #expect(try plane.counters.sum()[Int(BATON_COUNT_NOT_OURS.rawValue)] == 4000)
        try plane.counters.reset()
        #expect(try plane.counters.sum().allSatisfy { $0 == 0 })
    }

    @Test func wrongNamesAndSizesAreErrors() throws {
        try Requirement.root()
        #expect(throws: BPFError.self) {
            var object = try BPFObjectHandle(.director)
            try object.setConstant("interface_address", UInt32(0))
        }
        #expect(throws: BPFError.self) {
            var object = try BPFObjectHandle(.director)
            try object.setConstant("no_such_thing", UInt32(0))
        }
        #expect(throws: BPFError.self) {
            var object = try BPFObjectHandle(.director)
            try object.setMaxEntries(of: "nothing", 1)
        }
        #expect(throws: BPFError.self) { _ = try BPFObjectHandle(.director).program("baton_director") }
        #expect(throws: BPFError.self) { try interfaceIndex("btb-nothing") }
    }

    @Test func aFailedLoadSaysWhy() throws {
        try Requirement.root()
        let error = #expect(throws: BPFError.self) {
            var object = try BPFObjectHandle(.director)
            try object.setMaxEntries(of: "flows", .max)
            try object.load()
        }
        #expect(error?.description.contains("flows") == true, "\(String(describing: error))")
        #expect(error?.code == E2BIG || error?.code == ENOMEM || error?.code == EINVAL)
    }

    @Test func theKernelIsAskedForItsFunctions() throws {
        #expect(try KernelBTF.hasFunction("bpf_sk_assign_tcp_reqsk"))
        #expect(try !KernelBTF.hasFunction("bpf_no_such_function"))
    }

    @Test func aHookOfTrafficControlOutlivesItsProgram() throws {
        let namespace = try Namespace()
        try namespace.run("ip link add eth0 type veth peer name peer0")
        try namespace.enter {
            let index = try interfaceIndex("eth0")
            let ingress = TrafficControlHook(interface: index, direction: .ingress)
            let egress = TrafficControlHook(interface: index, direction: .egress)
            #expect(try ingress.attachedProgram() == nil)
            try ingress.detach()
            #expect(try ingress.create())
            #expect(try !egress.create())
            do {
                var object = try BPFObjectHandle(.agent)
                try object.load()
                try ingress.attach(try object.program("agent_ingress"))
                try egress.attach(try object.program("agent_egress"))
            }
            let first = try #require(try ingress.attachedProgram())
            do {
                var object = try BPFObjectHandle(.agent)
                try object.load()
                try ingress.attach(try object.program("agent_ingress"))
            }
            #expect(try #require(try ingress.attachedProgram()) != first)
            try ingress.detach()
            #expect(try ingress.attachedProgram() == nil)
            #expect(try egress.attachedProgram() != nil)
            try egress.destroy()
            try egress.destroy()
            #expect(try egress.attachedProgram() == nil)
        }
    }

    @Test func tracingProgramsSendEvents() throws {
        let namespace = try Namespace()
        var object = try BPFObjectHandle(.agent)
        try object.setConstant("own_netns_inode", namespace.inode)
        try object.load()
        var kinds: [UInt32] = []
        let ring = try object.ringBuffer("events") { bytes in kinds.append(bytes.load(as: UInt32.self)) }
        var link: BPFLink? = try BPFLink.attachTracing(try object.program("agent_guard"))
        try namespace.enter { try closeAListener() }
        #expect(try ring.poll(milliseconds: 1000) == 1)
        #expect(kinds == [BATON_EVENT_LISTENER_CLOSED.rawValue])
        #expect(ring.epollDescriptor >= 0)
        #expect(link != nil)
        link = nil
        // The kernel lets go of a link's program a little later than its descriptor.
        usleep(50_000)
        try namespace.enter { try closeAListener() }
        #expect(try ring.consume() == 0)
    }

    private func closeAListener() throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        #expect(listen(listener, 1) == 0)
    }
}
