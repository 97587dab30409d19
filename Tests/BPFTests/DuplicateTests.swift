import CContract
import Glibc
import LinuxBPF
import Model
import Testing

/// The forwarding `duplicate`: what XDP hands over, and what the tc program makes of it.
@Suite struct DuplicateTests {
    private static let tcUnspecified = UInt32.max
    private static let tcDrop: UInt32 = 2
    private static let tcRedirect: UInt32 = 7
    private let mark = SlotID(rawValue: 3).mark

    private func duplicate() throws -> DirectorFixture {
        var fixture = try DirectorFixture()
        try fixture.setService(200, forwarding: BATON_FORWARD_DUPLICATE, plan: [3])
        try fixture.setSlot(3)
        return fixture
    }

    @Test func everyFrameIsHandedOverForCopies() throws {
        var fixture = try duplicate()
        for flags in [TCPFlags.syn, .ack, .ack, [.ack, .psh], [.ack, .fin], .rst] {
            let result = try fixture.send(Packet(flags: flags))
            #expect(result.verdict == .pass)
            #expect(result.destination == mark)
        }
        try fixture.compareState()
        #expect(try fixture.plane.serviceCounters.sum(200).prefix(3) == [0, 6, 1])
    }

    /// One method for another in the middle of a flow: the flow stays, and knows what backups have seen.
    @Test func theMethodChangesUnderAFlow() throws {
        var fixture = try duplicate()
        let group = SlotID(rawValue: 3).group
        let owner = DirectorFixture.owner(3)
        for flags in [TCPFlags.syn, .ack, .ack] { #expect(try fixture.send(Packet(flags: flags)).destination == mark) }
        try fixture.setService(200, forwarding: BATON_FORWARD_SELECTIVE, plan: [3])
        #expect(try fixture.send(Packet()).destination == owner)
        try fixture.setService(200, forwarding: BATON_FORWARD_MULTICAST, plan: [3])
        #expect(try fixture.send(Packet()).destination == group)
        try fixture.setService(200, forwarding: BATON_FORWARD_DUPLICATE, plan: [3])
        #expect(try fixture.send(Packet()).destination == mark)
        try fixture.compareState()
    }

    @Test func aTakeOverChangesNothing() throws {
        var fixture = try duplicate()
        try fixture.send(Packet(flags: .syn))
        for isActive in [true, false] {
            try fixture.setSlot(3, isActive: isActive, isTakenOver: true)
            #expect(try fixture.send(Packet()).destination == mark)
        }
        try fixture.setSlot(3, isActive: false)
        #expect(try fixture.send(Packet()).destination == DirectorFixture.own)
        try fixture.compareState()
    }

    /// What only our XDP program may say to the copying program never comes from the wire.
    @Test func aMarkFromTheWireIsDropped() throws {
        var fixture = try duplicate()
        var packet = Packet(flags: .syn)
        packet.destination = mark
        #expect(try fixture.send(packet).verdict == .drop)
        let arp = mark.bytes + [2, 0xba, 0x70, 0x6f, 0, 200, 8, 6] + [UInt8](repeating: 0, count: 46)
        #expect(try fixture.send(arp).verdict == .drop)
        try fixture.compareState()
    }

    // MARK: The copies

    /// A namespace with eth0 (where the program runs) and peer0 (where copies arrive).
    private func wire() throws -> Namespace {
        let namespace = try Namespace()
        try namespace.run(
            "ip link add eth0 type veth peer name peer0", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
            "ip link set eth0 up", "ip link set peer0 up"
        )
        return namespace
    }

    /// A frame as XDP leaves it: for the slot, of the service.
    private func handedOver(slot: UInt16, service: UInt16, length: Int = 60) -> [UInt8] {
        SlotID(rawValue: slot).mark.bytes + [2, 0xba, 0x70, 0x6f, UInt8(service >> 8), UInt8(service & 0xff), 8, 0]
            + (14..<length).map { UInt8(truncatingIfNeeded: $0) }
    }

    /// `ifindex` in a `struct __sk_buff`.
    private func context(_ interface: UInt32) -> [UInt8] {
        [UInt8](repeating: 0, count: 40) + withUnsafeBytes(of: interface) { Array($0) }
    }

    private func tap(_ interface: UInt32) throws -> Int32 {
        // ETH_P_ALL in network byte order, and a `struct sockaddr_ll` (linux/if_packet.h), which Swift does not see.
        let everything = UInt16(3).bigEndian
        let descriptor = socket(AF_PACKET, Int32(SOCK_RAW.rawValue), Int32(everything))
        try #require(descriptor >= 0)
        let address: (UInt16, UInt16, UInt32, UInt64, UInt32) = (UInt16(AF_PACKET), everything, interface, 0, 0)
        let code = withUnsafeBytes(of: address) {
            bind(descriptor, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), 20)
        }
        try #require(code == 0)
        return descriptor
    }

    /// Whatever has arrived within 100 ms.
    private func arrived(_ descriptor: Int32) -> [[UInt8]] {
        var frames: [[UInt8]] = []
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        var room = [UInt8](repeating: 0, count: 2000)
        while poll(&entry, 1, 100) > 0 {
            let count = recv(descriptor, &room, room.count, 0)
            if count > 0 { frames.append(Array(room[..<count])) }
        }
        return frames
    }

    private let members = (1...8).map { MACAddress(rawValue: 0x02_00_00_00_05_00 | UInt64($0)) }

    @Test(arguments: [1, 2, 3, 4, 8])
    func eachMemberGetsACopyTheOwnerLast(count: Int) throws {
        let fixture = try duplicate()
        let namespace = try wire()
        let chosen = Array(members.prefix(count))
        try fixture.plane.slotCopies.put(3, baton_copies(members: chosen))
        #expect(try fixture.plane.slotCopies.get(3)?.members == chosen)
        let frame = handedOver(slot: 3, service: 200, length: 1514)
        try namespace.enter {
            let descriptor = try tap(try interfaceIndex("peer0"))
            defer { close(descriptor) }
            let run = try fixture.plane.duplicator.testRun(frame, context: context(try interfaceIndex("eth0")))
            // The last copy is the frame itself, redirected when the program has ended: a test run does not do that.
            #expect(run.verdict == Self.tcRedirect)
            let copies = arrived(descriptor) + [run.frame]
            #expect(copies.map { MACAddress(bytes: $0[..<6]) } == chosen)
            for copy in copies {
                #expect(MACAddress(bytes: copy[6..<12]) == mark)
                #expect(copy[12...] == frame[12...])
            }
        }
        #expect(try fixture.plane.copyCounters.sum(200) == [UInt64(count), 0])
    }

    @Test func withoutMembersNothingIsSent() throws {
        let fixture = try duplicate()
        let namespace = try wire()
        try fixture.plane.slotCopies.put(4, baton_copies(members: []))
        try namespace.enter {
            let descriptor = try tap(try interfaceIndex("peer0"))
            defer { close(descriptor) }
            let interface = context(try interfaceIndex("eth0"))
            for slot in [UInt16(3), 4] {
                let frame = handedOver(slot: slot, service: 200)
                #expect(try fixture.plane.duplicator.testRun(frame, context: interface).verdict == Self.tcDrop)
            }
            #expect(arrived(descriptor).isEmpty)
        }
        #expect(try fixture.plane.copyCounters.sum(200) == [0, 2])
    }

    /// A backup that cannot be sent its copy is a reason for the owner not to get one.
    @Test func withoutAWayNobodyGetsACopy() throws {
        let fixture = try duplicate()
        let namespace = try wire()
        try namespace.run("ip link set eth0 down")
        try fixture.plane.slotCopies.put(3, baton_copies(members: Array(members.prefix(2))))
        try namespace.enter {
            let frame = handedOver(slot: 3, service: 200)
            let interface = context(try interfaceIndex("eth0"))
            #expect(try fixture.plane.duplicator.testRun(frame, context: interface).verdict == Self.tcDrop)
        }
        #expect(try fixture.plane.copyCounters.sum(200) == [0, 1])
    }

    @Test func otherFramesAreLeftAlone() throws {
        let fixture = try duplicate()
        try fixture.plane.slotCopies.put(3, baton_copies(members: members))
        var toAnother = handedOver(slot: 3, service: 200)
        toAnother[3] = 0
        var fromAnother = handedOver(slot: 3, service: 200)
        fromAnother[9] = 0x6e
        for frame in [toAnother, fromAnother, Packet().bytes()] {
            let run = try fixture.plane.duplicator.testRun(frame)
            #expect(run.verdict == Self.tcUnspecified)
            #expect(run.frame == frame)
        }
        #expect(try fixture.plane.copyCounters.sum(200) == [0, 0])
    }

    @Test func moreMembersThanThereIsRoomForKeepTheOwner() {
        let many = (1...12).map { MACAddress(rawValue: UInt64($0)) }
        #expect(baton_copies(members: many).members == Array(many.suffix(Int(BATON_MAX_COPIES))))
    }

    /// Like the XDP program's link, the copying program's outlives the daemon, and is exchanged in place.
    @Test func theCopyingProgramStaysAtItsInterface() throws {
        let folder = try PinFolder()
        let namespace = try wire()
        let configuration = DirectorPlane.Configuration(flows: 4096, interfaceAddress: nil)
        try namespace.enter {
            let interface = try interfaceIndex("eth0")
            _ = try DirectorPlane.start(configuration, interface: interface, pins: folder.path)
            let again = try DirectorPlane.start(configuration, interface: interface, pins: folder.path)
            #expect(again.interface == .updated)
            #expect(try BPFLink.pinned(at: folder.path + "/duplicate_link") != nil)
        }
    }
}
