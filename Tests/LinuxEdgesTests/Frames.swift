import CLinux
import Glibc
import LinuxBase
import Model

/// Frames and packets for the tests, checksums included.
enum Frames {
    static func ipv4(from source: String, to destination: String, protocol number: UInt8, _ payload: [UInt8]) -> [UInt8]
    {
        let length = 20 + payload.count
        var header: [UInt8] = [
            0x45, 0, UInt8(length >> 8), UInt8(length & 0xff), 0x12, 0x34, 0x40, 0, 64, number, 0, 0,
        ]
        header += IPAddress(source)!.bytes.suffix(4) + IPAddress(destination)!.bytes.suffix(4)
        let sum = checksum(header)
        header[10] = UInt8(sum >> 8)
        header[11] = UInt8(sum & 0xff)
        return header + payload
    }

    static func ipv6(from source: String, to destination: String, next: UInt8, _ payload: [UInt8]) -> [UInt8] {
        [0x60, 0, 0, 0, UInt8(payload.count >> 8), UInt8(payload.count & 0xff), next, 64]
            + IPAddress(source)!.bytes + IPAddress(destination)!.bytes + payload
    }

    /// A UDP datagram; checksum 0 means none in IPv4 (RFC 768).
    static func udp(from source: UInt16, to destination: UInt16, _ payload: [UInt8]) -> [UInt8] {
        let length = UInt16(8 + payload.count)
        return [source, destination, length, 0].flatMap { [UInt8($0 >> 8), UInt8($0 & 0xff)] } + payload
    }

    /// The UDP of IPv6 needs its checksum (RFC 8200 8.1).
    static func udp6(
        from source: String,
        to destination: String,
        ports: (UInt16, UInt16),
        _ payload: [UInt8]
    ) -> [UInt8] {
        var datagram = udp(from: ports.0, to: ports.1, payload)
        let pseudo =
            IPAddress(source)!.bytes + IPAddress(destination)!.bytes
            + [0, 0, 0, UInt8(datagram.count), 0, 0, 0, 17]
        let sum = checksum(pseudo + datagram)
        datagram[6] = UInt8(sum >> 8)
        datagram[7] = UInt8(sum & 0xff)
        return datagram
    }

    static func checksum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count, by: 2) {
            sum += UInt32(bytes[index]) << 8 | (index + 1 < bytes.count ? UInt32(bytes[index + 1]) : 0)
        }
        while sum >> 16 != 0 { sum = (sum & 0xffff) + sum >> 16 }
        return ~UInt16(sum)
    }
}

/// Sends whole Ethernet payloads to a MAC address of one's choosing.
struct FrameSender {
    private let socket: FileDescriptor
    private let index: UInt32

    init(interface: String) throws {
        socket = FileDescriptor(owning: try systemCall("open packet socket") { clinux_packet_socket() })
        index = if_nametoindex(interface)
    }

    func send(_ packet: [UInt8], to mac: MACAddress) throws {
        let etherType: UInt16 = packet[0] >> 4 == 4 ? 0x0800 : 0x86dd
        _ = try systemCall("send frame") {
            clinux_packet_send(socket.rawValue, index, etherType, mac.bytes, packet, packet.count)
        }
    }
}

/// A nonblocking UDP or TCP socket of the tests.
struct TestSocket {
    let descriptor: FileDescriptor

    static func make(_ family: Int32, _ type: __socket_type, protocol number: Int32 = 0) throws -> TestSocket {
        TestSocket(
            descriptor: FileDescriptor(
                owning: try systemCall("open socket") { socket(family, Int32(type.rawValue), number) }
            )
        )
    }

    static func udp(_ endpoint: String) throws -> TestSocket {
        let endpoint = Endpoint(endpoint)!
        let made = try make(endpoint.address.isIPv4 ? AF_INET : AF_INET6, SOCK_DGRAM)
        try made.bind(endpoint)
        return made
    }

    static func listener(_ endpoint: Endpoint, backlog: Int32, protocol number: Int32 = 0) throws -> TestSocket {
        let made = try make(endpoint.address.isIPv4 ? AF_INET : AF_INET6, SOCK_STREAM, protocol: number)
        try made.bind(endpoint)
        _ = try systemCall("listen") { listen(made.descriptor.rawValue, backlog) }
        return made
    }

    func bind(_ endpoint: Endpoint) throws {
        _ = try withAddress(endpoint) { address, length in
            try systemCall("bind", "\(endpoint)") { Glibc.bind(descriptor.rawValue, address, length) }
        }
    }

    func connect(_ endpoint: Endpoint) throws {
        _ = try withAddress(endpoint) { address, length in
            try systemCall("connect", "\(endpoint)") { Glibc.connect(descriptor.rawValue, address, length) }
        }
    }

    func accept() throws -> TestSocket {
        guard try descriptor.waitReadable(timeout: .seconds(5)) else { throw CommandFailure(description: "no client") }
        return TestSocket(
            descriptor: FileDescriptor(
                owning: try systemCall("accept") { Glibc.accept(descriptor.rawValue, nil, nil) }
            )
        )
    }

    /// What arrives within the time; nil for nothing, errors as negative numbers in `code`.
    func receive(within interval: Interval) throws -> [UInt8]? {
        guard try descriptor.waitReadable(timeout: interval) else { return nil }
        var buffer = [UInt8](repeating: 0, count: 70_000)
        let count = try systemCall("receive") { recv(descriptor.rawValue, &buffer, buffer.count, 0) }
        return Array(buffer[..<count])
    }

    func send(_ bytes: [UInt8]) throws {
        _ = try systemCall("send") { Glibc.send(descriptor.rawValue, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }
    }

    var local: Endpoint {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = getsockname(descriptor.rawValue, $0, &length)
            }
            let bytes = UnsafeRawBufferPointer(start: pointer, count: 28)
            let port = UInt16(bytes[2]) << 8 | UInt16(bytes[3])
            return Int32(bytes[0]) == AF_INET
                ? Endpoint(
                    address: IPAddress(ipv4: bytes[4..<8].reduce(0) { $0 << 8 | UInt32($1) }),
                    port: port
                )
                : Endpoint(address: IPAddress(bytes: bytes[8..<24])!, port: port)
        }
    }

    private func withAddress<R>(_ endpoint: Endpoint, _ body: (UnsafePointer<sockaddr>, socklen_t) throws -> R) throws
        -> R
    {
        if let bits = endpoint.address.ipv4 {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = endpoint.port.bigEndian
            address.sin_addr.s_addr = bits.bigEndian
            return try withUnsafePointer(to: address) { pointer in
                try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    try body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = endpoint.port.bigEndian
        withUnsafeMutableBytes(of: &address.sin6_addr) { $0.copyBytes(from: endpoint.address.bytes) }
        return try withUnsafePointer(to: address) { pointer in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                try body($0, socklen_t(MemoryLayout<sockaddr_in6>.size))
            }
        }
    }
}
