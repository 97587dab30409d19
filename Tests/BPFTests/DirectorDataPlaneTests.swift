import CContract
import LinuxBPF
import Model
import Testing

/// Named cases of the director's data plane; each runs in the kernel and in the model, which must agree.
@Suite struct DirectorDataPlaneTests {
    private func selective() throws -> DirectorFixture {
        var fixture = try DirectorFixture()
        try fixture.setService(7, forwarding: BATON_FORWARD_SELECTIVE, plan: [3, 4])
        try fixture.setSlot(3)
        try fixture.setSlot(4)
        return fixture
    }

    private let group = SlotID(rawValue: 3).group
    private let owner = DirectorFixture.owner(3)

    @Test func selectiveSendsToTheGroupWhatABackupNeeds() throws {
        var fixture = try selective()
        let steps: [(flags: TCPFlags, acknowledgment: UInt32, payload: Int, destination: MACAddress)] = [
            (.syn, 0, 0, group),
            (.ack, 5000, 0, group),  // completes the handshake
            (.ack, 5000, 0, owner),
            (.ack, 6000, 0, owner),
            ([.ack, .psh], 6000, 3, group),
            (.ack, 6000 + (1 << 29) - 1, 0, owner),
            (.ack, 6000 + (1 << 29), 0, group),  // a quarter of the circle since the last one in the group
            (.ack, 6001 + (1 << 29), 0, owner),
            ([.fin, .ack], 6001 + (1 << 29), 0, group),
            (.ack, 6002 + (1 << 29), 0, owner),
            (.rst, 0, 0, group),
        ]
        for step in steps {
            var packet = Packet(flags: step.flags, acknowledgment: step.acknowledgment)
            packet.payload = Array(repeating: 1, count: step.payload)
            let result = try fixture.send(packet)
            #expect(result.verdict == .transmit)
            #expect(result.destination == step.destination, "\(step)")
        }
        try fixture.compareState()
    }

    @Test func multicastSendsEverythingToTheGroup() throws {
        var fixture = try DirectorFixture()
        try fixture.setService(1, forwarding: BATON_FORWARD_MULTICAST, plan: [3])
        try fixture.setSlot(3)
        for flags in [TCPFlags.syn, .ack, .ack, [.ack, .fin]] {
            #expect(try fixture.send(Packet(flags: flags)).destination == group)
        }
        try fixture.compareState()
    }

    @Test func ownerSendsNothingToTheGroupButDuringATakeOver() throws {
        var fixture = try DirectorFixture()
        try fixture.setService(1, forwarding: BATON_FORWARD_OWNER, plan: [3])
        try fixture.setSlot(3)
        for flags in [TCPFlags.syn, .ack, [.ack, .psh], [.ack, .fin]] {
            #expect(try fixture.send(Packet(flags: flags, payload: flags.contains(.psh) ? [1] : [])).destination == owner)
        }
        try fixture.setSlot(3, isActive: false, isTakenOver: true)
        #expect(try fixture.send(Packet()).destination == group)
        try fixture.compareState()
    }

    @Test func aSlotBeingTakenOverHasNoOwner() throws {
        var fixture = try selective()
        for flags in [TCPFlags.syn, .ack] { try fixture.send(Packet(flags: flags)) }
        #expect(try fixture.send(Packet()).destination == owner)
        try fixture.setSlot(3, isActive: false, isTakenOver: true)
        #expect(try fixture.send(Packet()).destination == group)
        try fixture.setSlot(3, isActive: true, isTakenOver: true)
        #expect(try fixture.send(Packet()).destination == group)
        try fixture.setSlot(3)
        #expect(try fixture.send(Packet()).destination == owner)
        try fixture.compareState()
    }

    @Test func newFlowsGoRoundAndOldOnesStay() throws {
        var fixture = try selective()
        for port in UInt16(100)..<108 {
            let expected = SlotID(rawValue: port % 2 == 0 ? 3 : 4).group
            #expect(try fixture.send(Packet(clientPort: port, flags: .syn)).destination == expected)
            // A retransmission of the SYN.
            #expect(try fixture.send(Packet(clientPort: port, flags: .syn)).destination == expected)
        }
        #expect(fixture.model.counts[Int(BATON_COUNT_NEW_FLOWS.rawValue)] == 8)
        try fixture.compareState()
    }

    @Test func aClosingFlowMakesRoomForANewOne() throws {
        var fixture = try selective()
        try fixture.send(Packet(flags: .syn))
        try fixture.send(Packet(flags: [.fin, .ack]))
        #expect(try fixture.send(Packet(flags: .syn)).destination == SlotID(rawValue: 4).group)
        try fixture.compareState()
    }

    @Test func aFlowOfADeadSlotIsResetAndDispatchedAnew() throws {
        var fixture = try selective()
        try fixture.send(Packet(flags: .syn))
        try fixture.setSlot(3, isActive: false)
        #expect(try fixture.send(Packet()).verdict == .pass)
        #expect(try fixture.send(Packet(flags: .syn)).destination == SlotID(rawValue: 4).group)
        try fixture.compareState()
        #expect(fixture.model.counts[Int(BATON_COUNT_SLOT_DOWN.rawValue)] == 1)
    }

    @Test func theHandshakeOfAReusedPortReachesTheGroup() throws {
        var fixture = try selective()
        for flags in [TCPFlags.syn, .ack, .ack] { try fixture.send(Packet(flags: flags)) }
        #expect(try fixture.send(Packet(flags: .syn)).destination == group)
        #expect(try fixture.send(Packet(flags: .ack)).destination == group)
        #expect(try fixture.send(Packet(flags: .ack)).destination == owner)
        try fixture.compareState()
    }

    @Test func withoutABackendASYNIsDropped() throws {
        var fixture = try DirectorFixture()
        try fixture.setService(1, port: 80, forwarding: BATON_FORWARD_SELECTIVE, plan: [])
        try fixture.setService(2, port: 81, forwarding: BATON_FORWARD_SELECTIVE, plan: [9])
        try fixture.setService(3, port: 82, forwarding: BATON_FORWARD_SELECTIVE, plan: [UInt16(BATON_NO_SLOT)])
        try fixture.setService(4, port: 83, forwarding: BATON_FORWARD_SELECTIVE, plan: [10])
        try fixture.setSlot(9, isActive: false)
        try fixture.setSlot(10, isActive: true, isTakenOver: true)
        for port in UInt16(80)...83 {
            #expect(try fixture.send(Packet(servicePort: port, flags: .syn)).verdict == .drop)
        }
        #expect(fixture.model.counts[Int(BATON_COUNT_NO_BACKEND.rawValue)] == 4)
        try fixture.compareState()
    }

    /// Whoever knows a connection's addresses and ports can send such frames; they move no flow and age none.
    @Test func forgedFramesMoveNoFlow() throws {
        var fixture = try selective()
        try fixture.setSlot(4)
        try fixture.setService(7, forwarding: BATON_FORWARD_SELECTIVE, plan: [3, 4])
        let key = baton_flow_key(client: Packet().client, clientPort: 40000, service: 7, servicePort: 80)
        let flags = { try #require(try fixture.plane.flows.get(key)).flags }
        for flags in [TCPFlags.syn, .ack] { try fixture.send(Packet(flags: flags)) }
        let slot = try #require(try fixture.plane.flows.get(key)).slot
        try fixture.send(Packet(flags: .syn, sequence: 77))
        #expect(try flags() == UInt8(BATON_FLOW_ESTABLISHED.rawValue | BATON_FLOW_OPENING.rawValue))
        for frames in [[.rst, .syn], [.rst, .ack], [.rst, .syn, .ack], [[.rst, .ack], .rst, .syn]] as [[TCPFlags]] {
            for flags in frames { try fixture.send(Packet(flags: flags, sequence: 77)) }
            #expect(try #require(try fixture.plane.flows.get(key)).slot == slot, "\(frames)")
            #expect(try flags() & UInt8(BATON_FLOW_CLOSING.rawValue) == 0, "\(frames)")
        }
        // A FIN, and data behind it that was never sent.
        for packet in [Packet(flags: [.fin, .ack]), Packet(payload: [1])] { try fixture.send(packet) }
        try fixture.send(Packet(flags: .syn, sequence: 77))
        #expect(try #require(try fixture.plane.flows.get(key)).slot == slot)
        // A FIN alone, and then the port is used again.
        for flags in [[.fin, .ack], .ack, .syn] as [TCPFlags] { try fixture.send(Packet(flags: flags)) }
        #expect(try fixture.plane.flows.get(key) == nil)
        #expect(try fixture.plane.halfOpen.get(key)?.slot == (slot == 3 ? 4 : 3))
        try fixture.compareState()
    }

    @Test func onlyASYNOpensAFlow() throws {
        var fixture = try selective()
        let others: [TCPFlags] = [[], .ack, .fin, .rst, [.syn, .ack], [.syn, .rst], [.syn, .fin], [.ack, .psh]]
        for flags in others { #expect(try fixture.send(Packet(flags: flags)).verdict == .pass) }
        #expect(fixture.model.counts[Int(BATON_COUNT_NO_FLOW.rawValue)] == UInt64(others.count))
        #expect(try fixture.plane.flows.entries().isEmpty)
        #expect(try fixture.plane.halfOpen.entries().isEmpty)
        try fixture.compareState()
    }

    @Test func paddingIsNotPayload() throws {
        var fixture = try selective()
        for flags in [TCPFlags.syn, .ack] { try fixture.send(Packet(flags: flags)) }
        // 54 bytes of headers, 6 of padding.
        let frame = Packet().bytes()
        #expect(frame.count == 60)
        #expect(try fixture.send(frame).destination == owner)
        #expect(try fixture.send(Packet(payload: [1])).destination == group)
    }

    @Test func whatIsNotOursIsLeftAlone() throws {
        var fixture = try selective()
        var frames: [[UInt8]] = [
            Packet(servicePort: 81, flags: .syn).bytes(),
            Packet(service: IPAddress(ipv4: 0x0a00_0002), flags: .syn).bytes(),
            Packet(flags: .syn, transport: 17).bytes(),
            Packet(destination: MACAddress(rawValue: 0x02_00_00_00_00_02), flags: .syn).bytes(),
            Packet(destination: SlotID(rawValue: 3).group, flags: .syn).bytes(),
            Packet(vlanTags: [1, 2, 3], flags: .syn).bytes(),
        ]
        frames.append(Array(repeating: 0, count: 14))
        for frame in frames { #expect(try fixture.send(frame).verdict == .pass) }
        #expect(fixture.model.counts[Int(BATON_COUNT_NOT_OURS.rawValue)] == UInt64(frames.count))
        try fixture.compareState()
    }

    @Test func withoutAnAddressToCheckAnyUnicastFrameCounts() throws {
        var fixture = try DirectorFixture(checksAddress: false)
        try fixture.setService(1, forwarding: BATON_FORWARD_SELECTIVE, plan: [3])
        try fixture.setSlot(3)
        let other = MACAddress(rawValue: 0x02_00_00_00_00_02)
        #expect(try fixture.send(Packet(destination: other, flags: .syn)).verdict == .transmit)
        #expect(try fixture.send(Packet(destination: group, flags: .syn)).verdict == .pass)
    }

    @Test func formsOfHeadersAreFollowed() throws {
        var fixture = try selective()
        try fixture.setService(8, address: DirectorFixture.vip6, forwarding: BATON_FORWARD_SELECTIVE, plan: [3])
        let client6 = IPAddress(high: 0x2001_0db8_0000_0001, low: 9)
        let six = Packet(client: client6, service: DirectorFixture.vip6, flags: .syn)
        var chained = six
        chained.extensionHeaders = [(0, 0), (60, 1), (60, 0), (60, 3)]
        var tagged6 = six
        tagged6.vlanTags = [7, 8]
        let followed: [Packet] = [
            Packet(vlanTags: [5], flags: .syn),
            Packet(vlanTags: [5, 6], flags: .syn),
            Packet(flags: .syn, tcpOptions: Array(repeating: 1, count: 40)),
            Packet(flags: .syn, ipOptions: Array(repeating: 1, count: 40)),
            six, chained, tagged6,
        ]
        for packet in followed { #expect(try fixture.send(packet).verdict == .transmit) }
        var tooLong = chained
        tooLong.extensionHeaders.append((60, 0))
        var routed = six
        routed.extensionHeaders = [(43, 0)]
        var fragmented = six
        fragmented.extensionHeaders = [(44, 0)]
        for packet in [tooLong, routed, fragmented] { #expect(try fixture.send(packet).verdict == .pass) }
        try fixture.compareState()
    }

    @Test func fragmentsGoToTheStack() throws {
        var fixture = try selective()
        for fragment: UInt16 in [0x0001, 0x2001, 0x1fff] {
            #expect(try fixture.send(Packet(flags: .syn, fragment: fragment)).verdict == .pass)
        }
        #expect(fixture.model.counts[Int(BATON_COUNT_FRAGMENTS.rawValue)] == 3)
        try fixture.compareState()
    }

    @Test func contradictoryLengthsAreDropped() throws {
        var fixture = try selective()
        var packets = [
            Packet(flags: .syn, tcpHeaderError: -1),
            Packet(flags: .syn, tcpHeaderError: -5),
            Packet(flags: .syn, tcpHeaderError: 1),
            Packet(flags: .syn, ipLengthError: -1),
            Packet(flags: .syn, ipLengthError: -40),
            Packet(flags: .syn, ipLengthError: 1),
            Packet(flags: .syn, ipLengthError: 1400),
        ]
        for index in packets.indices { packets[index].isPadded = false }
        for packet in packets { #expect(try fixture.send(packet).verdict == .drop, "\(packet)") }
        #expect(fixture.model.counts[Int(BATON_COUNT_MALFORMED.rawValue)] == UInt64(packets.count))
        try fixture.compareState()
    }

    @Test func longFramesPassInPieces() throws {
        var fixture = try selective()
        try fixture.send(Packet(flags: .syn))
        // More than a page: the kernel hands such a frame over in several buffers.
        let long = Packet(payload: Array(repeating: 7, count: 8900))
        #expect(try fixture.send(long).verdict == .transmit)
        var lying = long
        lying.ipLengthError = 1
        #expect(try fixture.send(lying).verdict == .drop)
        try fixture.compareState()
    }

    @Test(arguments: [BATON_PLAN_HASH_SOURCE, BATON_PLAN_HASH_DESTINATION, BATON_PLAN_HASH_FLOW])
    func hashedPlansAgreeAndSpread(_ kind: baton_plan_kind) throws {
        var fixture = try DirectorFixture()
        let plan: [UInt16] = [1, 2, 3, 4, 5, 6, 7]
        try fixture.setService(1, forwarding: BATON_FORWARD_SELECTIVE, kind: kind, plan: plan, secret: 99)
        for slot in plan { try fixture.setSlot(slot) }
        for number in UInt32(0)..<700 {
            let client = IPAddress(ipv4: 0x0a01_0000 + number / 2)
            try fixture.send(Packet(client: client, clientPort: UInt16(1024 + number), flags: .syn))
        }
        try fixture.compareState()
        let used = Dictionary(grouping: fixture.model.flows.values) { $0.slot }.mapValues { $0.count }
        if kind == BATON_PLAN_HASH_DESTINATION {
            #expect(used.count == 1)
        } else {
            #expect(used.count == plan.count && used.values.allSatisfy { $0 > 50 }, "\(used)")
        }
    }

    /// Linux's lib/tests/siphash_kunit.c, `test_vectors_hsiphash` of 32-bit machines.
    @Test func theHashIsHalfSipHash() {
        let vectors: [UInt32] = [0x5814_c896, 0xe7e8_64ca, 0xbc4b_0e30, 0x0153_9939, 0x7e05_9ea6]
        for (length, expected) in vectors.enumerated() {
            let message = (0..<length).map { UInt8($0) }
            #expect(halfSipHash13(message, key: (0x0302_0100, 0x0706_0504)) == expected)
        }
    }

    @Test func anUnknownForwardingIsRefused() throws {
        let fixture = try DirectorFixture()
        var service = baton_service()
        service.forwarding = 4
        #expect(throws: BPFError.self) {
            try fixture.plane.setService(baton_service_key(address: DirectorFixture.vip, port: 80), service)
        }
    }

    @Test func aFullTableDrivesOutOldFlows() throws {
        try Requirement.root()
        let plane = try DirectorPlane.load(.init(flows: 4096, interfaceAddress: nil))
        try plane.putTable([3])
        var service = baton_service()
        service.forwarding = UInt8(BATON_FORWARD_SELECTIVE.rawValue)
        service.plan_length = 1
        try plane.setService(baton_service_key(address: DirectorFixture.vip, port: 80), service)
        try plane.slots.put(3, baton_slot(owner: owner, group: group, flags: UInt16(BATON_SLOT_ACTIVE.rawValue)))
        for port in UInt16(1)...20_000 {
            let result = try plane.program.testRun(Packet(clientPort: port, flags: .syn).bytes())
            #expect(result.verdict == DirectorModel.Verdict.transmit.rawValue)
            let key = baton_flow_key(client: Packet().client, clientPort: port, service: 0, servicePort: 80)
            #expect(try plane.halfOpen.get(key) != nil)
            _ = try plane.program.testRun(Packet(clientPort: port).bytes())
            #expect(try plane.flows.get(key) != nil)
            #expect(try plane.halfOpen.get(key) == nil)
        }
        #expect((2048...4096).contains(try plane.flows.entries().count))
        #expect(try plane.counters.sum()[Int(BATON_COUNT_TABLE_FULL.rawValue)] == 0)
    }

    @Test func aFlowRemembersWhenItWasSeen() throws {
        var fixture = try selective()
        try fixture.send(Packet(flags: .syn))
        try fixture.send(Packet())
        let key = baton_flow_key(client: Packet().client, clientPort: 40000, service: 7, servicePort: 80)
        let born = try #require(try fixture.plane.flows.get(key)).last_seen_ns
        #expect(born > 0)
        // Within a second it is not written again, after that it is.
        try fixture.send(Packet())
        #expect(try fixture.plane.flows.get(key)?.last_seen_ns == born)
        var old = try #require(try fixture.plane.flows.get(key))
        old.last_seen_ns = born - 1_000_000_000
        try fixture.plane.flows.put(key, old)
        try fixture.send(Packet())
        #expect(try #require(try fixture.plane.flows.get(key)).last_seen_ns >= born)
    }
}
