import CContract
import Glibc
import LinuxBPF
import Model
import Testing

/// Real frames on real (virtual) interfaces: client, bridge, director and one back-end in four namespaces.
///
/// The slot's group address is the back-end's own here: what a group's members do with its frames is the agent's part.
@Suite struct RoundTripTests {
    private static let director = "02:00:00:00:dd:01"
    private static let server = "02:00:00:00:dd:02"
    private static let vip: UInt32 = 0x0a63_0001

    private let client: Namespace
    private let middle: Namespace
    private let server: Namespace

    init() throws {
        client = try Namespace()
        middle = try Namespace()
        server = try Namespace()
        // Whole checksums: a frame that leaves through XDP cannot say that its own is unfinished.
        try client.run(
            "ip link add br0 type bridge mcast_snooping 0", "ip link set br0 up",
            "ip link add port1 type veth peer name eth0 address \(Self.director) netns \(middle.path)",
            "ip link add port2 type veth peer name eth0 address \(Self.server) netns \(server.path)",
            "ip link set port1 master br0", "ip link set port2 master br0",
            "ethtool -K br0 tx off", "ethtool -K port1 tx off",
            "ip link set port1 up", "ip link set port2 up",
            "ip addr add 10.99.0.100/24 dev br0",
            "ip neigh add 10.99.0.1 lladdr \(Self.director) dev br0 nud permanent"
        )
        try middle.run("ip link set eth0 up")
        try server.run(
            "ip link set lo up", "ip link set eth0 up", "ip addr add 10.99.0.2/24 dev eth0",
            "ip addr add 10.99.0.1/32 dev lo", "ethtool -K eth0 tx off"
        )
    }

    @Test(arguments: [true, false])
    func aConnectionPassesThroughTheDirector(isNative: Bool) throws {
        let plane = try DirectorPlane.load(
            .init(flows: 1024, interfaceAddress: MACAddress(Self.director)))
        try plane.putTable([3])
        var service = baton_service()
        service.id = 1
        service.forwarding = UInt8(BATON_FORWARD_SELECTIVE.rawValue)
        service.plan_length = 1
        try plane.setService(baton_service_key(address: IPAddress(ipv4: Self.vip), port: 8080), service)
        let owner = try #require(MACAddress(Self.server))
        try plane.slots.put(3, baton_slot(owner: owner, group: owner, flags: UInt16(BATON_SLOT_ACTIVE.rawValue)))
        try client.enter { try VirtualEthernet.takeTransmittedFrames(interface: try interfaceIndex("port1")) }
        let link = try middle.enter {
            try attach(plane.program, interface: try interfaceIndex("eth0"), isNative: isNative)
        }

        let listener = try server.enter { try listen(port: 8080) }
        defer { close(listener) }
        let caller = try client.enter { try call(Self.vip, port: 8080) }
        defer { close(caller) }
        let answerer = accept(listener, nil, nil)
        #expect(answerer >= 0)
        defer { close(answerer) }
        let request = Array("a request".utf8)
        #expect(write(caller, request, request.count) == request.count)
        #expect(receive(answerer, count: request.count) == request)
        // A reply long enough for acknowledgments that carry nothing.
        let reply = (0..<100_000).map { UInt8(truncatingIfNeeded: $0) }
        #expect(write(answerer, reply, reply.count) == reply.count)
        #expect(receive(caller, count: reply.count) == reply)

        let counts = try plane.counters.sum()
        #expect(counts[Int(BATON_COUNT_NEW_FLOWS.rawValue)] == 1)
        #expect(counts[Int(BATON_COUNT_TO_GROUP.rawValue)] >= 3, "\(counts)")
        #expect(counts[Int(BATON_COUNT_TO_OWNER.rawValue)] >= 1, "\(counts)")
        #expect(counts[Int(BATON_COUNT_MALFORMED.rawValue)] == 0)
        try link.detach()
    }

    private func attach(_ program: BPFProgram, interface: UInt32, isNative: Bool) throws -> BPFLink {
        if isNative {
            let (link, mode) = try BPFLink.attachXDP(program, interface: interface, modes: [.native])
            #expect(mode == .native)
            return link
        }
        return try BPFLink.attachGenericXDP(program, interface: interface)
    }

    private func socketAddress(_ address: UInt32, _ port: UInt16) -> sockaddr_in {
        var result = sockaddr_in()
        result.sin_family = sa_family_t(AF_INET)
        result.sin_port = port.bigEndian
        result.sin_addr.s_addr = address.bigEndian
        return result
    }

    private func listen(port: UInt16) throws -> Int32 {
        let listener = makeSocket()
        var address = socketAddress(0, port)
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, 16) }
        }
        try #require(code == 0 && Glibc.listen(listener, 1) == 0)
        return listener
    }

    private func call(_ remote: UInt32, port: UInt16) throws -> Int32 {
        let caller = makeSocket()
        var address = socketAddress(remote, port)
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(caller, $0, 16) }
        }
        try #require(code == 0, "connect: \(String(cString: strerror(errno)))")
        return caller
    }

    /// A socket that gives up after five seconds, connecting included.
    private func makeSocket() -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        return descriptor
    }

    private func receive(_ descriptor: Int32, count: Int) -> [UInt8] {
        var all: [UInt8] = []
        var part = [UInt8](repeating: 0, count: count)
        while all.count < count {
            let got = read(descriptor, &part, count - all.count)
            if got <= 0 { break }
            all += part[..<got]
        }
        return all
    }
}
