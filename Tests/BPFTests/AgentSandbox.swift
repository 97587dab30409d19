import Glibc
import LinuxBPF
import Model
import Testing

/// A back-end of its own namespace with everything attached as the agent does it: `eth0` with ingress and egress, a TUN
/// device, the VIPs on `lo`; and at the other end of the cable the client's, where frames are made and read by hand.
final class AgentSandbox {
    static let backendMAC = MACAddress(rawValue: 0x02_00_00_00_ee_01)
    static let clientMAC = MACAddress(rawValue: 0x02_00_00_00_ee_02)

    let server: Namespace
    let client: Namespace
    let fixture: AgentFixture
    let wire: Wire
    private let tun: Int32
    private var tracingLinks: [BPFLink] = []

    init(isIPv6: Bool = false, iss: UInt32 = 5000, irs: UInt32 = 90_000) throws {
        server = try Namespace()
        client = try Namespace()
        try server.run(
            "ip link set lo up", "ip addr add 10.0.0.1/32 dev lo", "ip addr add 2001:db8::1/128 dev lo nodad",
            "ip link add eth0 address \(Self.backendMAC) type veth peer name eth0 address \(Self.clientMAC) netns "
                + client.path
        )
        tun = try server.enter {
            let device = try openTun("tun0")
            for name in ["all", "default", "tun0", "eth0"] {
                try AgentSandbox.set("net/ipv4/conf/\(name)/rp_filter", "0")
            }
            try AgentSandbox.set("net/ipv6/conf/all/accept_dad", "0")
            return device
        }
        try server.run(
            "ip link set tun0 mtu 65535 up", "ip link set eth0 mtu 9000 up",
            "ip route add 8.0.0.0/16 dev eth0 src 10.0.0.1 initcwnd 200",
            "ip -6 route add 2001:db8:86dd:1::/64 dev eth0 initcwnd 200",
            "ip neigh add 8.0.0.100 lladdr \(Self.clientMAC) dev eth0 nud permanent",
            "ip -6 neigh add 2001:db8:86dd:1::64 lladdr \(Self.clientMAC) dev eth0 nud permanent"
        )
        try client.run("ip link set lo up", "ip link set eth0 mtu 9000 up")
        fixture = try AgentFixture(isIPv6: isIPv6, iss: iss, irs: irs, namespace: server.inode)
        wire = try client.enter { try Wire(interface: interfaceIndex("eth0")) }
        try server.enter {
            let eth0 = try interfaceIndex("eth0")
            for (interface, direction, program) in [
                (try interfaceIndex("tun0"), TrafficControlHook.Direction.ingress, fixture.tun),
                (eth0, .ingress, fixture.ingress), (eth0, .egress, fixture.egress),
            ] {
                let hook = TrafficControlHook(interface: interface, direction: direction)
                try hook.create()
                try hook.attach(program)
            }
        }
        tracingLinks = [
            try BPFLink.attachTracing(fixture.tracepoint), try BPFLink.attachTracing(fixture.exitTracepoint),
        ]
    }

    deinit {
        tracingLinks = []
        close(tun)
    }

    private static func set(_ name: String, _ value: String) throws {
        let file = open("/proc/sys/\(name)", O_WRONLY)
        defer { close(file) }
        try #require(file >= 0 && Glibc.write(file, value, value.utf8.count) >= 0, "\(name)")
    }

    /// Writes a packet into the TUN device.
    func inject(_ packet: AgentPacket) throws {
        var packet = packet
        packet.hasEthernet = false
        let bytes = packet.bytes()
        try #require(Glibc.write(tun, bytes, bytes.count) == bytes.count)
    }

    /// A frame of the client.
    func send(_ packet: AgentPacket) throws {
        var packet = packet
        packet.sourceMAC = Self.clientMAC
        if packet.destination == AgentPacket().destination { packet.destination = Self.backendMAC }
        try wire.write(packet.bytes())
    }

    /// Receives, and acknowledges, what the client gets up to a place of the reply; the request has four bytes.
    func download(to end: UInt64) throws -> [Seen] {
        var failure: (any Error)?
        let seen = wire.segments { segment in
            guard !segment.payload.isEmpty else { return false }
            let place = UInt64(segment.sequence &- fixture.sequence(0)) + UInt64(segment.payload.count)
            do {
                try send(fixture.acknowledgment(place, from: 4, window: 1000))
            } catch {
                failure = error
            }
            return place >= end
        }
        if let failure { throw failure }
        return seen
    }

    func listen(receiveBuffer: Int32? = nil) throws -> TCPSocket {
        try server.enter { try TCPSocket.listening(isIPv6: fixture.isIPv6, port: 80, receiveBuffer: receiveBuffer) }
    }

    /// Installs an entry, writes the adopting ACK and a request, and accepts what comes of them.
    func adopt(
        _ listener: TCPSocket, request: [UInt8] = Array("GET\n".utf8), _ change: (inout AgentPacket) -> Void = { _ in }
    ) throws -> TCPSocket {
        var packet = AgentPacket(
            client: fixture.client, service: fixture.service, sequence: fixture.clientSequence(0),
            acknowledgment: fixture.sequence(0), window: 20_000, timestamps: .init(value: 700, echo: 900)
        )
        change(&packet)
        try inject(packet)
        packet.timestamps = nil
        packet.payload = request
        try inject(packet)
        return try listener.accept()
    }

    /// A packet socket on the client's end of the cable.
    final class Wire {
        private let descriptor: Int32

        init(interface: UInt32) throws {
            let kind = Int32(SOCK_RAW.rawValue)
            descriptor = socket(17, kind, Int32(UInt16(3).bigEndian))  // AF_PACKET, ETH_P_ALL
            try #require(descriptor >= 0)
            var limit = timeval(tv_sec: 0, tv_usec: 20_000)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
            var large: Int32 = 8 << 20
            setsockopt(descriptor, SOL_SOCKET, 33, &large, 4)  // SO_RCVBUFFORCE
            // struct sockaddr_ll: family, protocol (network byte order), interface.
            var address = [UInt8](repeating: 0, count: 20)
            withUnsafeBytes(of: UInt16(17)) { address.replaceSubrange(0..<2, with: $0) }
            withUnsafeBytes(of: UInt16(3).bigEndian) { address.replaceSubrange(2..<4, with: $0) }
            withUnsafeBytes(of: interface) { address.replaceSubrange(4..<8, with: $0) }
            let code = address.withUnsafeBytes {
                bind(descriptor, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), 20)
            }
            try #require(code == 0)
        }

        deinit { close(descriptor) }

        func write(_ frame: [UInt8]) throws {
            try #require(Glibc.write(descriptor, frame, frame.count) == frame.count)
        }

        /// The TCP segments of the service that came, up to the one that `last` is true of or until none comes for
        /// 300 ms. Checksums are left to the device, so they are not looked at.
        func segments(quiet: Int = 15, until last: (Seen) -> Bool = { _ in false }) -> [Seen] {
            var all: [Seen] = []
            var buffer = [UInt8](repeating: 0, count: 1 << 20)
            var silent = 0
            while silent < quiet {
                let count = read(descriptor, &buffer, buffer.count)
                guard count > 0 else {
                    silent += 1
                    continue
                }
                guard let seen = Seen(buffer[..<count]) else { continue }
                all.append(seen)
                if last(seen) { break }
            }
            return all
        }
    }

    /// What is looked at of a segment on the wire, which may be larger than the device's MTU.
    struct Seen {
        var sequence: UInt32
        var acknowledgment: UInt32
        var flags: TCPFlags
        var payload: [UInt8]

        init?(_ frame: ArraySlice<UInt8>) {
            guard frame.count >= 54, frame[12] == 8 || frame[12] == 0x86 else { return nil }
            var at = frame[12] == 8 ? 34 : 54
            let transport = frame[12] == 8 ? frame[23] : frame[20]
            if frame[12] == 0x86, transport == 0 { at += 8 }
            guard transport == 6 || (transport == 0 && frame[54] == 6), frame.count >= at + 20 else { return nil }
            let number = { (place: Int) in frame[place..<place + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) } }
            // Towards the client: the service's port is the source.
            guard frame[12] != 8 || frame[26] == 10 else { return nil }
            sequence = number(at + 4)
            acknowledgment = number(at + 8)
            flags = TCPFlags(rawValue: frame[at + 13])
            payload = Array(frame[(at + Int(frame[at + 12] >> 4) * 4)...])
        }
    }
}
