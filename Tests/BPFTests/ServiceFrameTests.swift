import CContract
import LinuxBPF
import Model
import Testing

/// UDP, several ports, ICMP errors, fragments, VLAN tags, jumbo frames, two interfaces: tables run in the kernel.
@Suite struct ServiceFrameTests {
    private static let client6 = IPAddress(high: 0x2001_0db8_0000_0001, low: 9)
    private static let owners = [3, 4].map { DirectorFixture.owner($0) }

    /// A plane with the slots 3 and 4, by turns.
    private struct Plane {
        let plane: DirectorPlane

        init(leaving: (index: UInt32, address: MACAddress)? = nil) throws {
            try Requirement.root()
            plane = try DirectorPlane.load(
                .init(flows: 4096, interfaceAddress: DirectorFixture.own, leaving: leaving))
            try plane.putTable([3, 4])
            for slot in [3, 4] as [UInt16] { try setSlot(slot, BATON_SLOT_ACTIVE.rawValue) }
        }

        func setSlot(_ slot: UInt16, _ flags: UInt32) throws {
            try plane.slots.put(
                UInt32(slot),
                baton_slot(
                    owner: DirectorFixture.owner(slot), group: SlotID(rawValue: slot).group, flags: UInt16(flags)))
        }

        func setService(
            _ id: UInt16, address: IPAddress = DirectorFixture.vip, ports: [UInt16], transport: UInt8 = 17,
            idle: UInt32 = 300, persistence: UInt32 = 0
        ) throws {
            var service = baton_service()
            service.id = id
            service.forwarding = UInt8(BATON_FORWARD_OWNER.rawValue)
            service.plan_length = 2
            service.candidates = UInt32(id) * 2
            service.idle_s = idle
            service.persistence_s = persistence
            service.persistence_bits = 128
            service.persistence_bits_ipv6 = 128
            try plane.candidates.put(UInt32(id) * 2, baton_candidates(entries: [], open: [3, 4]))
            try plane.setService(
                service, singlePorts: ports.map { baton_service_key(address: address, port: $0, protocol: transport) })
        }

        /// The owner to whom the frame went; nil where it was not forwarded. All but the link addresses must stay.
        func owner(_ frame: [UInt8], _ location: SourceLocation = #_sourceLocation) throws -> MACAddress? {
            let run = try plane.program.testRun(frame)
            #expect(run.frame.dropFirst(12) == frame.dropFirst(12), sourceLocation: location)
            guard run.verdict == DirectorModel.Verdict.transmit.rawValue else { return nil }
            #expect(Array(run.frame[6..<12]) == DirectorFixture.own.bytes, sourceLocation: location)
            return MACAddress(bytes: run.frame.prefix(6))
        }

        func count(_ counter: baton_director_counter) throws -> UInt64 {
            try plane.counters.sum()[Int(counter.rawValue)]
        }

        func newFlows(_ id: UInt16) throws -> UInt64 { try plane.serviceCounters.sum(UInt32(id))[2] }
    }

    // MARK: UDP

    @Test(arguments: [true, false]) func datagramsOfAFlowStayTogether(isIPv4: Bool) throws {
        let plane = try Plane()
        var datagram = Datagram()
        if !isIPv4 { (datagram.client, datagram.service) = (Self.client6, DirectorFixture.vip6) }
        try plane.setService(1, address: datagram.service, ports: [53])
        for (port, owner) in [(100, 0), (101, 1), (102, 0), (100, 0), (101, 1), (100, 0)] as [(UInt16, Int)] {
            datagram.payload = Datagram.udp(from: port)
            #expect(try plane.owner(datagram.bytes()) == Self.owners[owner], "port \(port)")
        }
        #expect(try plane.newFlows(1) == 3)
        #expect(try plane.count(BATON_COUNT_TO_OWNER) == 6)
        let loads = try #require(try plane.plane.loads.get(1))
        #expect(loads[3].active == 2 && loads[4].active == 1)
    }

    @Test func aSilentFlowIsOver() throws {
        let plane = try Plane()
        try plane.setService(1, ports: [53], idle: 10)
        let frame = Datagram(payload: Datagram.udp()).bytes()
        #expect(try plane.owner(frame) == Self.owners[0])
        let (key, flow) = try #require(try plane.plane.datagramFlows.entries().first)
        var old = flow
        old.last_seen_ns -= 9_000_000_000
        try plane.plane.datagramFlows.put(key, old)
        #expect(try plane.owner(frame) == Self.owners[0])
        // That datagram has made it young again.
        #expect(try #require(try plane.plane.datagramFlows.get(key)).last_seen_ns > old.last_seen_ns)
        old.last_seen_ns = flow.last_seen_ns - 11_000_000_000
        try plane.plane.datagramFlows.put(key, old)
        #expect(try plane.owner(frame) == Self.owners[1])
        let loads = try #require(try plane.plane.loads.get(1))
        #expect(loads[3].active == 0 && loads[4].active == 1)
    }

    @Test func aFlowLeavesAFailedSlot() throws {
        let plane = try Plane()
        try plane.setService(1, ports: [53])
        let frame = Datagram(payload: Datagram.udp()).bytes()
        #expect(try plane.owner(frame) == Self.owners[0])
        try plane.setSlot(3, BATON_SLOT_ACTIVE.rawValue | BATON_SLOT_TAKEOVER.rawValue)
        #expect(try plane.owner(frame) == Self.owners[1])
        try plane.setSlot(3, BATON_SLOT_ACTIVE.rawValue)
        #expect(try plane.owner(frame) == Self.owners[1])
        for slot in [3, 4] as [UInt16] { try plane.setSlot(slot, 0) }
        #expect(try plane.plane.program.testRun(frame).verdict == DirectorModel.Verdict.drop.rawValue)
        #expect(try plane.count(BATON_COUNT_NO_BACKEND) == 1)
    }

    /// What bounds new flows of TCP bounds those of UDP.
    @Test func newFlowsComeAtTheRate() throws {
        let plane = try Plane()
        try plane.setService(1, ports: [53])
        var limit = baton_flow_limit(rate: 1, burst: 1)
        limit.interval_ns = 100_000_000_000
        try plane.plane.flowLimits.put(1, limit)
        let first = Datagram(payload: Datagram.udp(from: 100)).bytes()
        #expect(try plane.owner(first) == Self.owners[0])
        let second = try plane.plane.program.testRun(Datagram(payload: Datagram.udp(from: 101)).bytes())
        #expect(second.verdict == DirectorModel.Verdict.drop.rawValue)
        #expect(try plane.plane.floodCounters.sum(1)[0] == 1)
        #expect(try plane.owner(first) == Self.owners[0])
        #expect(try plane.newFlows(1) == 1)
    }

    /// Flows of UDP have a table of their own, for they have no handshake; and a full slot keeps those that it has.
    @Test func thresholdsHoldForDatagrams() throws {
        let plane = try Plane()
        try plane.setService(1, ports: [53])
        let first = Datagram(payload: Datagram.udp(from: 100)).bytes()
        #expect(try plane.owner(first) == Self.owners[0])
        #expect(try plane.plane.datagramFlows.entries().count == 1)
        #expect(try plane.plane.flows.entries().isEmpty && plane.plane.halfOpen.entries().isEmpty)
        var full = baton_full_slots()
        full[3] = true
        try plane.plane.fullSlots.put(1, full)
        for port in UInt16(101)...104 {
            #expect(try plane.owner(Datagram(payload: Datagram.udp(from: port)).bytes()) == Self.owners[1])
        }
        #expect(try plane.owner(first) == Self.owners[0])
    }

    @Test(arguments: [true, false]) func aQuestionOpensNothing(isIPv4: Bool) throws {
        let plane = try Plane()
        let client = Endpoint(address: isIPv4 ? IPAddress(ipv4: 0x0a00_0064) : Self.client6, port: 100)
        let vip = isIPv4 ? DirectorFixture.vip : DirectorFixture.vip6
        try plane.setService(1, address: vip, ports: [53])
        let question = RouteQuestion(client: client, service: Endpoint(address: vip, port: 53), kind: .datagram)
        for _ in 0..<2 {
            let finding = try plane.plane.route(question, interfaceAddress: DirectorFixture.own)
            #expect(finding.verdict == .forwarded && finding.destination == Self.owners[0] && !finding.isExisting)
            #expect(finding.service == 1 && finding.slot == 3)
        }
        #expect(try plane.plane.datagramFlows.entries().isEmpty && plane.newFlows(1) == 0)
        let frame = Datagram(client: client.address, service: vip, payload: Datagram.udp(from: 100)).bytes()
        #expect(try plane.owner(frame) == Self.owners[0])
        let (key, flow) = try #require(try plane.plane.datagramFlows.entries().first)
        let known = try plane.plane.route(question, interfaceAddress: DirectorFixture.own)
        #expect(known.isExisting && known.destination == Self.owners[0])
        #expect(try plane.plane.datagramFlows.get(key)?.last_seen_ns == flow.last_seen_ns)
    }

    @Test func datagramsThatAreNotRight() throws {
        let plane = try Plane()
        try plane.setService(1, ports: [53])
        let cases: [(String, [UInt8], baton_director_counter, DirectorModel.Verdict)] = [
            ("too long", Datagram.udp(lengthError: 1), BATON_COUNT_MALFORMED, .drop),
            ("shorter than its header", Datagram.udp(lengthError: -5), BATON_COUNT_MALFORMED, .drop),
            ("half a header", Array(Datagram.udp().prefix(6)), BATON_COUNT_NOT_OURS, .pass),
            ("another port", Datagram.udp(to: 54), BATON_COUNT_NOT_OURS, .pass),
        ]
        for (name, payload, counter, verdict) in cases {
            let before = try plane.count(counter)
            let run = try plane.plane.program.testRun(Datagram(payload: payload).bytes())
            #expect(run.verdict == verdict.rawValue, "\(name)")
            #expect(try plane.count(counter) == before + 1, "\(name)")
        }
        // TCP to the same port is another service.
        #expect(try plane.owner(Packet(servicePort: 53, flags: .syn).bytes()) == nil)
        #expect(try plane.plane.datagramFlows.entries().isEmpty)
    }

    // MARK: Ports

    @Test(arguments: [UInt8(6), 17]) func aPortGoesBeforeARangeAndARangeBeforeAll(transport: UInt8) throws {
        let plane = try Plane()
        try plane.setService(1, ports: [8005], transport: transport)
        for id in [2, 3, 4] as [UInt16] { try plane.setService(id, ports: [], transport: transport) }
        let ranges: [(ports: ClosedRange<UInt16>, service: UInt16)] = [(8000...8099, 2), (9000...9000, 4), (1...65535, 3)]
        try plane.plane.portRanges.put(
            baton_service_key(address: DirectorFixture.vip, port: 0, protocol: transport), baton_port_ranges(ranges))
        let table: [(UInt16, UInt16)] = [
            (8005, 1), (8000, 2), (8099, 2), (7999, 3), (8100, 3), (1, 3), (65535, 3), (9000, 4), (80, 3),
        ]
        for (port, id) in table {
            let before = try plane.newFlows(id)
            let frame =
                transport == 6
                ? Packet(servicePort: port, flags: .syn).bytes() : Datagram(payload: Datagram.udp(to: port)).bytes()
            #expect(try plane.owner(frame) != nil, "port \(port)")
            #expect(try plane.newFlows(id) == before + 1, "port \(port)")
        }
        // One port of the client, nine flows.
        let map = transport == 6 ? plane.plane.halfOpen : plane.plane.datagramFlows
        #expect(try map.entries().count == table.count)
        // Nothing of another address or of the other protocol.
        let other = IPAddress(ipv4: 0x0a00_0002)
        #expect(try plane.owner(Packet(service: other, servicePort: 8000, flags: .syn).bytes()) == nil)
        let crossed =
            transport == 17
            ? Packet(servicePort: 8000, flags: .syn).bytes() : Datagram(payload: Datagram.udp(to: 8000)).bytes()
        #expect(try plane.owner(crossed) == nil)
    }

    @Test func rangesGoThereAndBack() {
        let ranges: [(ports: ClosedRange<UInt16>, service: UInt16)] = [(1...1, 7), (8000...65535, 9)]
        let read = baton_port_ranges(ranges).ranges
        #expect(read.map(\.ports) == ranges.map(\.ports) && read.map(\.service) == ranges.map(\.service))
        let many = (UInt16(1)...40).map { (ports: $0...$0, service: $0) }
        #expect(baton_port_ranges(many).ranges.count == Int(BATON_MAX_PORT_RANGES))
    }

    @Test func aServiceOfTwoPortsKeepsItsClients() throws {
        let plane = try Plane()
        try plane.setService(1, ports: [80, 443], transport: 6, persistence: 3600)
        var seen: [[MACAddress?]] = []
        for address in [0x0a00_0064, 0x0a00_0065] as [UInt32] {
            seen.append(
                try [80, 443, 80, 443].enumerated().map { index, port in
                    try plane.owner(
                        Packet(
                            client: IPAddress(ipv4: address), clientPort: UInt16(1000 + index), servicePort: port,
                            flags: .syn
                        ).bytes())
                })
        }
        #expect(seen[0] == Array(repeating: Self.owners[0], count: 4))
        #expect(seen[1] == Array(repeating: Self.owners[1], count: 4))
    }

    // MARK: ICMP

    @Test func errorsGoToTheOwnerOfTheFlowThatTheyQuote() throws {
        let plane = try Plane()
        try plane.setService(1, ports: [80], transport: 6)
        try plane.setService(2, ports: [53])
        try plane.setService(3, address: DirectorFixture.vip6, ports: [80], transport: 6)
        let six = Datagram(client: Self.client6, service: DirectorFixture.vip6)
        #expect(try plane.owner(Packet(clientPort: 100, flags: .syn).bytes()) == Self.owners[0])
        #expect(try plane.owner(Datagram(payload: Datagram.udp(from: 101)).bytes()) == Self.owners[0])
        #expect(try plane.owner(Datagram(payload: Datagram.udp(from: 102)).bytes()) == Self.owners[1])
        let syn6 = Packet(client: Self.client6, service: DirectorFixture.vip6, clientPort: 103, flags: .syn)
        #expect(try plane.owner(syn6.bytes()) == Self.owners[0])
        let four = Datagram()
        let known: [(String, Datagram, MACAddress)] = [
            ("fragmentation needed", four.error(type: 3, code: 4, transport: 6, from: 80, to: 100), Self.owners[0]),
            ("unreachable", four.error(type: 3, code: 3, transport: 17, from: 53, to: 102), Self.owners[1]),
            ("time exceeded", four.error(type: 11, code: 0, transport: 17, from: 53, to: 101), Self.owners[0]),
            ("packet too big", six.error(type: 2, code: 0, transport: 6, from: 80, to: 103), Self.owners[0]),
            ("unreachable, IPv6", six.error(type: 1, code: 4, transport: 6, from: 80, to: 103), Self.owners[0]),
        ]
        for (name, datagram, owner) in known { #expect(try plane.owner(datagram.bytes()) == owner, "\(name)") }
        #expect(try plane.count(BATON_COUNT_ERRORS_FORWARDED) == UInt64(known.count))
        var short = four.error(type: 3, code: 4, transport: 6, from: 80, to: 100)
        short.payload.removeLast(6)
        let others: [(String, Datagram, baton_director_counter)] = [
            ("an echo request", four.error(type: 8, code: 0, transport: 6, from: 80, to: 100), BATON_COUNT_NOT_OURS),
            ("an echo request, IPv6", six.error(type: 128, code: 0, transport: 6, from: 80, to: 103), BATON_COUNT_NOT_OURS),
            ("no such flow", four.error(type: 3, code: 4, transport: 6, from: 80, to: 999), BATON_COUNT_NO_FLOW),
            ("no such service", four.error(type: 3, code: 4, transport: 6, from: 81, to: 100), BATON_COUNT_NOT_OURS),
            ("another protocol", four.error(type: 3, code: 4, transport: 132, from: 80, to: 100), BATON_COUNT_NOT_OURS),
            ("a quotation without ports", short, BATON_COUNT_NOT_OURS),
        ]
        for (name, datagram, counter) in others {
            let before = try plane.count(counter)
            let run = try plane.plane.program.testRun(datagram.bytes())
            #expect(run.verdict == DirectorModel.Verdict.pass.rawValue, "\(name)")
            #expect(try plane.count(counter) == before + 1, "\(name)")
        }
        try plane.setSlot(3, BATON_SLOT_ACTIVE.rawValue | BATON_SLOT_TAKEOVER.rawValue)
        #expect(try plane.owner(known[0].1.bytes()) == nil)
    }

    // MARK: Fragments

    @Test(arguments: [true, false]) func fragmentsFollowTheFirst(isIPv4: Bool) throws {
        let plane = try Plane()
        var whole = Datagram()
        if !isIPv4 { (whole.client, whole.service) = (Self.client6, DirectorFixture.vip6) }
        try plane.setService(1, address: whole.service, ports: [53])
        // The first flow has slot 3.
        whole.payload = Datagram.udp(from: 1)
        #expect(try plane.owner(whole.bytes()) == Self.owners[0])
        var later = whole
        later.fragment = (offset: 3, more: false)
        later.payload = [1, 2, 3, 4]
        #expect(try plane.owner(later.bytes()) == nil, "nothing is known of it yet")
        var first = whole
        first.fragment = (offset: 0, more: true)
        first.payload = Array(Datagram.udp(from: 2, bytes: 20).prefix(24))
        first.payload[4] = 1  // Its UDP header tells the length of the whole.
        #expect(try plane.owner(first.bytes()) == Self.owners[1])
        #expect(try plane.owner(later.bytes()) == Self.owners[1])
        var middle = later
        middle.fragment = (offset: 2, more: true)
        #expect(try plane.owner(middle.bytes()) == Self.owners[1])
        #expect(try plane.count(BATON_COUNT_FRAGMENTS_FORWARDED) == 2)
        // IPv6 tells datagrams apart without their protocol.
        for change in [{ $0.identification = 9 }, { $0.transport = 132 }].prefix(isIPv4 ? 2 : 1)
            as ArraySlice<(inout Datagram) -> Void>
        {
            var other = later
            change(&other)
            #expect(try plane.owner(other.bytes()) == nil)
        }
        // What follows after half a minute is another datagram's.
        for (key, value) in try plane.plane.fragmented.entries() {
            var old = value
            old.seen_ns -= 31_000_000_000
            try plane.plane.fragmented.put(key, old)
        }
        #expect(try plane.owner(later.bytes()) == nil)
    }

    /// The stack here would answer a whole segment of them with an RST. Those of a service without backups go where the
    /// flow goes; what comes without a first one is left to the stack, which can make nothing of it.
    @Test func fragmentsOfTCP() throws {
        let plane = try Plane()
        try plane.setService(1, ports: [80], transport: 6)
        for flags in [TCPFlags.syn, .ack] { #expect(try plane.owner(Packet(flags: flags).bytes()) == Self.owners[0]) }
        var first = Packet(payload: [UInt8](repeating: 1, count: 20))
        first.fragment = 0x2000
        var later = Packet()
        later.fragment = 5
        #expect(try plane.plane.program.testRun(later.bytes()).verdict == DirectorModel.Verdict.pass.rawValue)
        for packet in [first, later] { #expect(try plane.owner(packet.bytes()) == Self.owners[0]) }
        first.clientPort = 9
        #expect(try plane.plane.program.testRun(first.bytes()).verdict == DirectorModel.Verdict.drop.rawValue)
        first.clientPort = Packet().clientPort
        for forwarding in [BATON_FORWARD_SELECTIVE, BATON_FORWARD_MULTICAST] {
            let key = baton_service_key(address: DirectorFixture.vip, port: 80)
            var service = try #require(try plane.plane.services.get(key))
            service.forwarding = UInt8(forwarding.rawValue)
            try plane.plane.setService(key, service)
            #expect(try plane.plane.program.testRun(first.bytes()).verdict == DirectorModel.Verdict.drop.rawValue)
        }
        #expect(try plane.count(BATON_COUNT_FRAGMENTS) == 4)
        // A port that nobody has is the stack's.
        first.servicePort = 81
        #expect(try plane.plane.program.testRun(first.bytes()).verdict == DirectorModel.Verdict.pass.rawValue)
    }

    // MARK: Frames

    @Test func tagsStayWhereTheyAre() throws {
        let plane = try Plane()
        try plane.setService(1, ports: [53])
        try plane.setService(2, ports: [80], transport: 6)
        for tags in [[5], [5, 6]] as [[UInt16]] {
            let datagram = Datagram(vlanTags: tags, payload: Datagram.udp())
            #expect(try plane.owner(datagram.bytes()) == Self.owners[0])
            #expect(try plane.owner(Packet(vlanTags: tags, flags: .syn).bytes()) == Self.owners[0])
        }
        #expect(try plane.owner(Datagram(vlanTags: [5, 6, 7], payload: Datagram.udp()).bytes()) == nil)
    }

    @Test(arguments: [1500, 3000, 9000, 16_000]) func framesMayBeLargerThanAPage(size: Int) throws {
        let plane = try Plane()
        try plane.setService(1, ports: [53])
        try plane.setService(2, ports: [80], transport: 6)
        let udp = Datagram(payload: Datagram.udp(bytes: size - 28)).bytes()
        #expect(try plane.owner(udp) == Self.owners[0])
        #expect(try plane.owner(Packet(flags: .syn).bytes()) == Self.owners[0])
        let tcp = Packet(payload: (0..<size - 40).map { UInt8(truncatingIfNeeded: $0) }).bytes()
        #expect(try plane.owner(tcp) == Self.owners[0])
        let bytes = try plane.plane.serviceCounters.sum(2)[3]
        #expect(bytes == UInt64(tcp.count + Packet(flags: .syn).bytes().count))
    }

    @Test func twoArmedFramesLeaveByTheOther() throws {
        let address = MACAddress(rawValue: 0x02_00_00_00_77_01)
        let plane = try Plane(leaving: (index: 7, address: address))
        try plane.setService(1, ports: [53])
        try plane.setService(2, ports: [80], transport: 6)
        let frames = [Packet(flags: .syn).bytes(), Packet().bytes(), Datagram(payload: Datagram.udp()).bytes()]
        for frame in frames {
            let run = try plane.plane.program.testRun(frame)
            // XDP_REDIRECT
            #expect(run.verdict == 4)
            #expect(Array(run.frame[..<12]) == Self.owners[0].bytes + address.bytes)
            #expect(run.frame.dropFirst(12) == frame.dropFirst(12))
        }
    }
}
