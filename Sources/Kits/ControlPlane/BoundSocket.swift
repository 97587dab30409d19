import Glibc
import Model

/// A socket that could not be made: place, cause and remedy.
public struct SocketError: Error, CustomStringConvertible, Equatable {
    /// The errno of the call that failed; 0 when no call did.
    public let code: CInt
    public let description: String

    init(_ description: String, code: CInt = 0) {
        self.description = description
        self.code = code
    }
}

/// Sockets made by hand and then given to NIO, so that a bad address is an error at once and not a future's.
enum BoundSocket {
    /// A bound, non-blocking UDP socket.
    static func datagram(_ endpoint: Endpoint, receiveBufferBytes: CInt) throws(SocketError) -> CInt {
        let descriptor = try open(endpoint, type: CInt(SOCK_DGRAM.rawValue), name: "UDP")
        // A burst must not push heartbeats out; a smaller buffer than asked for is no error.
        setOption(descriptor, SOL_SOCKET, SO_RCVBUF, receiveBufferBytes)
        // Queues with bands let heartbeats go before the downloads (TC_PRIO_CONTROL, linux/pkt_sched.h).
        setOption(descriptor, SOL_SOCKET, SO_PRIORITY, 7)
        try bind(descriptor, endpoint, name: "UDP")
        return descriptor
    }

    /// Connections that the kernel keeps for us: when they are full it drops SYNs, and an honest peer loses a second.
    static let acceptQueue: CInt = 1024

    /// A bound, listening, non-blocking TCP socket.
    static func listener(_ endpoint: Endpoint) throws(SocketError) -> CInt {
        let descriptor = try open(endpoint, type: CInt(SOCK_STREAM.rawValue), name: "TCP")
        // After a restart the old sessions are in TIME_WAIT and must not block the port.
        setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        try bind(descriptor, endpoint, name: "TCP")
        guard listen(descriptor, acceptQueue) == 0 else {
            let code = errno
            close(descriptor)
            throw SocketError("cannot listen at TCP \(endpoint): \(errorText(code))", code: code)
        }
        return descriptor
    }

    /// Sets the accept queue of a listening socket that NIO has taken over: NIO listens again, with 128.
    static func restoreAcceptQueue(_ descriptor: CInt) {
        listen(descriptor, acceptQueue)
    }

    private static func open(_ endpoint: Endpoint, type: CInt, name: String) throws(SocketError) -> CInt {
        let flags = CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(endpoint.family, type | flags, 0)
        guard descriptor >= 0 else {
            let code = errno
            throw SocketError("cannot make a socket for \(name) \(endpoint): \(errorText(code))", code: code)
        }
        return descriptor
    }

    private static func bind(_ descriptor: CInt, _ endpoint: Endpoint, name: String) throws(SocketError) {
        let result = endpoint.withSocketAddress(family: endpoint.family) { Glibc.bind(descriptor, $0, $1) }
        guard result == 0 else {
            let code = errno
            close(descriptor)
            let remedy =
                switch code {
                case EADDRINUSE: "; is another daemon running?"
                case EADDRNOTAVAIL: "; no interface has this address"
                case EACCES: "; run it as root"
                default: ""
                }
            throw SocketError("cannot bind \(name) \(endpoint): \(errorText(code))\(remedy)", code: code)
        }
    }

    @discardableResult
    static func setOption(_ descriptor: CInt, _ level: CInt, _ name: CInt, _ value: CInt) -> Bool {
        var value = value
        return setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<CInt>.size)) == 0
    }
}
