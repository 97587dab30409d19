import CContract
import Glibc
import LinuxBPF
import LinuxNetwork
import Model
import Testing

/// Real adoptions: a TUN device, a listener, a cable, and the programs where the agent attaches them.
@Suite struct AgentAdoptionTests {
    private static let options =
        BATON_CONNECTION_TIMESTAMPS.rawValue | BATON_CONNECTION_SACK.rawValue | BATON_CONNECTION_WSCALE.rawValue

    private func install(
        _ sandbox: AgentSandbox, sndUna: UInt64, _ change: (inout baton_connection) -> Void = { _ in }
    ) throws {
        try sandbox.fixture.install(BATON_CONNECTION_ADOPTING) {
            $0.flags = Self.options
            $0.snd_una = sndUna
            $0.right_edge = sndUna + 60_000
            $0.snd_nxt = 0
            ($0.local_ack, $0.local_right_edge) = (0, 0)
            ($0.snd_wscale, $0.rcv_wscale) = (7, 7)
            change(&$0)
        }
    }

    private func eventually(_ condition: () -> Bool) -> Bool {
        for _ in 0..<200 {
            if condition() { return true }
            usleep(10_000)
        }
        return condition()
    }

    @Test(arguments: [false, true])
    func anAdoptedConnectionIsAccepted(isIPv6: Bool) throws {
        let sandbox = try AgentSandbox(isIPv6: isIPv6)
        let listener = try sandbox.listen()
        try install(sandbox, sndUna: 0)
        let socket = try sandbox.adopt(listener)
        #expect(socket.read(4) == Array("GET\n".utf8))
        #expect(socket.info.state == 1)
        let entry = try sandbox.fixture.entry
        #expect(entry.state == BATON_CONNECTION_LIVE.rawValue)
        #expect(entry.flags == Self.options | BATON_CONNECTION_ASSIGNED.rawValue | BATON_CONNECTION_ADOPTED.rawValue)
        #expect(try sandbox.fixture.count(BATON_COUNT_ADOPTIONS) == 1)
        try socket.write([1, 2, 3])
        let seen = sandbox.wire.segments { $0.payload == [1, 2, 3] }
        #expect(seen.last?.sequence == sandbox.fixture.sequence(0))
        #expect(seen.last?.acknowledgment == sandbox.fixture.clientSequence(4))
    }

    /// The client uses its port again while this machine still remembers its connection before (TIME_WAIT): that is told,
    /// and nothing is spliced into it.
    @Test func theRestOfAnEarlierConnectionIsNamed() throws {
        let sandbox = try AgentSandbox()
        let listener = try sandbox.listen()
        try install(sandbox, sndUna: 0)
        var socket: TCPSocket? = try sandbox.adopt(listener)
        #expect(socket?.read(4).count == 4)
        socket = nil
        #expect(sandbox.wire.segments { $0.flags.contains(.fin) }.last?.flags.contains(.fin) == true)
        var fin = sandbox.fixture.acknowledgment(1, from: 4)
        fin.flags = [.fin, .ack]
        try sandbox.send(fin)
        _ = sandbox.wire.segments()
        try install(sandbox, sndUna: 0)
        let refused = try sandbox.fixture.count(BATON_COUNT_REPLAY_DROPPED)
        try sandbox.inject(sandbox.fixture.acknowledgment(0, from: 0))
        let entry = try sandbox.fixture.entry
        #expect(entry.flags == Self.options | BATON_CONNECTION_OBSTRUCTED.rawValue)
        #expect(entry.state == BATON_CONNECTION_ADOPTING.rawValue)
        #expect(try sandbox.fixture.count(BATON_COUNT_REPLAY_DROPPED) == refused + 1)
        // Once it is gone, the way is free.
        let flow = FlowKey(
            client: Endpoint(address: sandbox.fixture.client, port: AgentPacket().clientPort),
            service: Endpoint(address: sandbox.fixture.service, port: 80))
        #expect(try sandbox.server.enter { try SocketDestroyer().destroyClosed(flow) })
        #expect(try sandbox.adopt(listener).read(4) == Array("GET\n".utf8))
    }

    /// The client's clock went on between the building of the adopting ACK and its way into the kernel. With the newer
    /// value as TS.Recent, PAWS drops the ACK in the child, and that stays in SYN_RECV for ever.
    @Test(arguments: [0, 1, 1000, 1 << 30] as [UInt32])
    func anOldClockInTheAdoptingACK(age: UInt32) throws {
        let sandbox = try AgentSandbox()
        let listener = try sandbox.listen()
        try install(sandbox, sndUna: 0) { $0.client_tsval = 700 &+ age }
        let socket = try sandbox.adopt(listener)
        #expect(socket.info.state == 1)
        #expect(socket.read(4) == Array("GET\n".utf8))
    }

    /// The client has 300,000 bytes; the application sends 400,000.
    @Test(arguments: [5000, 0xffff_ffff - 200_000] as [UInt32], [false, true])
    func whatTheClientHasIsSwallowed(iss: UInt32, isIPv6: Bool) throws {
        let sandbox = try AgentSandbox(isIPv6: isIPv6, iss: iss)
        let fixture = sandbox.fixture
        let listener = try sandbox.listen()
        try install(sandbox, sndUna: 300_000) { $0.right_edge = 500_000 }
        let socket = try sandbox.adopt(listener)
        let reply = (0..<400_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
        try socket.write(reply)
        let seen = try sandbox.download(to: 400_000)
        var got = Set<Int>()
        for segment in seen where !segment.payload.isEmpty {
            let place = Int(segment.sequence &- fixture.sequence(0))
            #expect(place + segment.payload.count > 300_000, "nothing of what the client has")
            #expect(segment.payload == Array(reply[place..<place + segment.payload.count]))
            got.formUnion(place..<place + segment.payload.count)
        }
        #expect((300_000..<400_000).allSatisfy(got.contains))
        #expect(seen.allSatisfy { !$0.flags.contains(.rst) })
        #expect(try fixture.entry.state == BATON_CONNECTION_LIVE.rawValue)
        #expect(try fixture.count(BATON_COUNT_REFLECTED) > 0)
    }

    /// With a device that takes more than 64 KiB at once, segments in catch-up have the hop-by-hop header.
    @Test(arguments: [true, false])
    func bigSegmentsAreSwallowed(hasTimestamps: Bool) throws {
        let sandbox = try AgentSandbox(isIPv6: true)
        let fixture = sandbox.fixture
        try sandbox.server.run("ip link set eth0 gso_max_size 250000")
        let listener = try sandbox.listen()
        try install(sandbox, sndUna: 2_000_000) {
            $0.right_edge = 5_000_000
            $0.mss = 8900
            $0.snd_wscale = 14
            if !hasTimestamps { $0.flags &= ~BATON_CONNECTION_TIMESTAMPS.rawValue }
        }
        let socket = try sandbox.adopt(listener) {
            $0.window = 1000
            if !hasTimestamps { $0.timestamps = nil }
        }
        var reply = (0..<2_500_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
        try socket.write(Array(reply[..<1_999_999]))
        #expect(eventually { (try? fixture.entry.caught_up_bytes) ?? 0 >= 1_999_999 })
        let early = sandbox.wire.segments(quiet: 2)
        #expect(early.allSatisfy { $0.payload.isEmpty })
        #expect(try fixture.entry.state == BATON_CONNECTION_CATCHING_UP.rawValue)
        // Fewer segments than 64 KiB each would be: some were BIG TCP's.
        let segments = try fixture.count(BATON_COUNT_REFLECTED)
        #expect(segments < 1_999_999 / 65_535)
        reply = Array(reply[1_999_999...])
        try socket.write(reply)
        let seen = try sandbox.download(to: 2_500_000)
        #expect(seen.contains { $0.payload.count > 65_535 })
        #expect(seen.first { !$0.payload.isEmpty }?.sequence == fixture.sequence(1_999_999))
    }

    /// A frame to the slot's group is TCP's only once its type is set to host.
    @Test func framesToTheGroupReachTheSocket() throws {
        let sandbox = try AgentSandbox()
        let listener = try sandbox.listen()
        try install(sandbox, sndUna: 0)
        let socket = try sandbox.adopt(listener)
        #expect(socket.read(4).count == 4)
        try socket.write([1])
        #expect(sandbox.wire.segments { $0.payload == [1] }.last?.payload == [1])
        var packet = sandbox.fixture.acknowledgment(1, from: 4)
        packet.timestamps = .init(value: 701, echo: 901)
        packet.payload = Array("more".utf8)
        packet.destination = SlotID(rawValue: 3).group
        try sandbox.send(packet)
        #expect(socket.read(4) == Array("more".utf8))
        #expect(socket.info.unacknowledged == 0)
    }

    /// The journal is 4 MiB, the socket's buffer a few KiB, and the application does not read: the client is far ahead,
    /// and its pure ACKs must free the reply all the same.
    @Test func theClientIsAheadOfTheJournal() throws {
        let sandbox = try AgentSandbox()
        let fixture = sandbox.fixture
        let listener = try sandbox.listen(receiveBuffer: 8192)
        try install(sandbox, sndUna: 0) { ($0.snd_wscale, $0.rcv_wscale) = (7, 0) }
        let socket = try sandbox.adopt(listener)
        let reply = [UInt8](repeating: 9, count: 30_000)
        try socket.write(reply)
        #expect(eventually { (try? fixture.entry.snd_nxt) == 30_000 })
        #expect(socket.info.unacknowledged > 0)
        var packet = fixture.acknowledgment(30_000, from: 4 << 20, window: 500)
        packet.timestamps = .init(value: 701, echo: 901)
        try sandbox.send(packet)
        #expect(eventually { socket.info.unacknowledged == 0 })
        // A window that closes and opens again is noticed too, before the journal has caught up.
        for window: UInt16 in [0, 500] {
            packet.window = window
            try sandbox.send(packet)
        }
        try socket.write(reply)
        #expect(eventually { (try? fixture.entry.snd_nxt) == 60_000 })
    }

    /// In the middle of an adoption a SYN in fragments must not make the listener answer.
    @Test func aFragmentedSYNDoesNotReachTheListener() throws {
        let sandbox = try AgentSandbox()
        let listener = try sandbox.listen()
        try install(sandbox, sndUna: 1000)
        var syn = sandbox.fixture.acknowledgment(0, from: 0)
        syn.flags = .syn
        syn.acknowledgment = 0
        syn.payload = [1, 2, 3, 4]
        let whole = syn.bytes()
        // The first twenty-four bytes of it hold the header; eight bytes are the unit.
        for (range, field) in [(34..<50, UInt16(0x2000)), (50..<58, 2)] {
            var frame = Array(whole[..<34]) + Array(whole[range])
            let length = UInt16(frame.count - 14)
            frame.replaceSubrange(16..<18, with: [UInt8(length >> 8), UInt8(length & 0xff)])
            frame.replaceSubrange(20..<22, with: [UInt8(field >> 8), UInt8(field & 0xff)])
            frame.replaceSubrange(24..<26, with: [0, 0])
            let sum = InternetChecksum.of(Array(frame[14..<34]))
            frame.replaceSubrange(24..<26, with: [UInt8(sum >> 8), UInt8(sum & 0xff)])
            frame.replaceSubrange(0..<6, with: AgentSandbox.backendMAC.bytes)
            try sandbox.wire.write(frame)
        }
        #expect(sandbox.wire.segments(quiet: 10).isEmpty)
        #expect(try sandbox.fixture.isKnown)
        #expect(listener.isOpen)
    }

    /// The agent forgets an adopted connection when its socket is gone, however that went.
    @Test(arguments: [false, true])
    func theEndOfAnAdoptedConnectionIsTold(isReset: Bool) throws {
        let sandbox = try AgentSandbox()
        let fixture = sandbox.fixture
        let listener = try sandbox.listen()
        try install(sandbox, sndUna: 0)
        var socket: TCPSocket? = try sandbox.adopt(listener)
        // Unread bytes make the close a RST.
        if !isReset { #expect(socket?.read(4).count == 4) }
        #expect(socket?.info.state == 1)
        #expect(try fixture.kinds() == [BATON_EVENT_ADOPTED])
        socket = nil
        if !isReset {
            var packet = fixture.acknowledgment(1, from: 4)
            packet.flags = [.ack, .fin]
            packet.timestamps = .init(value: 701, echo: 901)
            try sandbox.send(packet)
        }
        usleep(50_000)
        #expect(try fixture.kinds() == [BATON_EVENT_CLOSED])
    }
}
