import Glibc
import Model
import Testing

/// A TCP socket of either family, closed with its last reference; nothing on it takes more than five seconds.
final class TCPSocket {
    let descriptor: Int32

    /// What TCP_INFO says (struct tcp_info).
    struct Info {
        /// TCP_ESTABLISHED is 1, TCP_SYN_RECV is 3.
        var state: UInt8
        /// Segments sent and not acknowledged.
        var unacknowledged: UInt32
    }

    private init(isIPv6: Bool) throws {
        descriptor = socket(isIPv6 ? AF_INET6 : AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        try #require(descriptor >= 0)
        setUp()
    }

    private init(owning descriptor: Int32) {
        self.descriptor = descriptor
        setUp()
    }

    deinit { close(descriptor) }

    private func setUp() {
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        var on: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, 4)
    }

    var isOpen: Bool { fcntl(descriptor, F_GETFD) >= 0 }

    static func listening(isIPv6: Bool, port: UInt16, receiveBuffer: Int32? = nil) throws -> TCPSocket {
        let made = try TCPSocket(isIPv6: isIPv6)
        if var receiveBuffer { setsockopt(made.descriptor, SOL_SOCKET, SO_RCVBUF, &receiveBuffer, 4) }
        // A whole reply is written before anybody looks at it.
        var sendBuffer: Int32 = 8 << 20
        setsockopt(made.descriptor, SOL_SOCKET, 32, &sendBuffer, 4)  // SO_SNDBUFFORCE
        try made.bind(to: isIPv6 ? IPAddress(high: 0, low: 0) : IPAddress(ipv4: 0), port: port)
        try #require(Glibc.listen(made.descriptor, 16) == 0)
        return made
    }

    static func connected(
        from local: IPAddress, port localPort: UInt16, to remote: IPAddress, port: UInt16
    ) throws -> TCPSocket {
        let made = try TCPSocket(isIPv6: !local.isIPv4)
        try made.bind(to: local, port: localPort)
        let code = withAddress(remote, port) { connect(made.descriptor, $0, $1) }
        try #require(code == 0, "connect: \(String(cString: strerror(errno)))")
        return made
    }

    func accept() throws -> TCPSocket {
        let accepted = Glibc.accept(descriptor, nil, nil)
        try #require(accepted >= 0, "accept: \(String(cString: strerror(errno)))")
        return TCPSocket(owning: accepted)
    }

    func write(_ bytes: [UInt8]) throws {
        try #require(Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count)
    }

    func read(_ count: Int) -> [UInt8] {
        var all: [UInt8] = []
        var part = [UInt8](repeating: 0, count: count)
        while all.count < count {
            let got = Glibc.read(descriptor, &part, count - all.count)
            if got <= 0 { break }
            all += part[..<got]
        }
        return all
    }

    var info: Info {
        var bytes = [UInt8](repeating: 0, count: 256)
        var length = socklen_t(bytes.count)
        let code = getsockopt(descriptor, Int32(IPPROTO_TCP), 11, &bytes, &length)  // TCP_INFO
        guard code == 0 else { return Info(state: 0, unacknowledged: 0) }
        return bytes.withUnsafeBytes {
            Info(state: $0[0], unacknowledged: $0.load(fromByteOffset: 24, as: UInt32.self))
        }
    }

    private func bind(to address: IPAddress, port: UInt16) throws {
        let code = TCPSocket.withAddress(address, port) { Glibc.bind(descriptor, $0, $1) }
        try #require(code == 0, "bind: \(String(cString: strerror(errno)))")
    }

    private static func withAddress(
        _ address: IPAddress, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        if let ipv4 = address.ipv4 {
            var value = sockaddr_in()
            value.sin_family = sa_family_t(AF_INET)
            value.sin_port = port.bigEndian
            value.sin_addr.s_addr = ipv4.bigEndian
            return withUnsafePointer(to: &value) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, 16) }
            }
        }
        var value = sockaddr_in6()
        value.sin6_family = sa_family_t(AF_INET6)
        value.sin6_port = port.bigEndian
        withUnsafeMutableBytes(of: &value.sin6_addr) { $0.copyBytes(from: address.bytes) }
        return withUnsafePointer(to: &value) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, 28) }
        }
    }
}
