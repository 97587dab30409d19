import Glibc
import Model
import NIOCore

/// The text of an errno.
func errorText(_ code: CInt) -> String {
    String(cString: strerror(code))
}

/// The layouts of `sockaddr_in` and `sockaddr_in6`, written and read as bytes.
///
/// Their Swift names belong to whichever C module was built first, so with strict imports they cannot be relied on.
private enum AddressLayout {
    static let familyOffset = 0
    static let portOffset = 2
    static let ipv4AddressOffset = 4
    static let ipv4Bytes = 16
    static let ipv6AddressOffset = 8
    static let ipv6Bytes = 28
}

extension Endpoint {
    /// The address family of a socket that is bound to this endpoint.
    var family: CInt { address.isIPv4 ? AF_INET : AF_INET6 }

    /// Calls `body` with this endpoint as a socket address of the given family.
    ///
    /// An IPv4 address becomes `::ffff:a.b.c.d` for an IPv6 socket. Nil when an IPv6 address cannot be said in IPv4.
    func withSocketAddress<R>(family: CInt, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R? {
        if family == AF_INET, !address.isIPv4 { return nil }
        var storage = sockaddr_storage()
        let length = withUnsafeMutableBytes(of: &storage) { bytes in
            bytes.storeBytes(of: sa_family_t(family), toByteOffset: AddressLayout.familyOffset, as: sa_family_t.self)
            bytes.storeBytes(of: port.bigEndian, toByteOffset: AddressLayout.portOffset, as: UInt16.self)
            if family == AF_INET, let bits = address.ipv4 {
                bytes.storeBytes(of: bits.bigEndian, toByteOffset: AddressLayout.ipv4AddressOffset, as: UInt32.self)
                return AddressLayout.ipv4Bytes
            }
            let offset = AddressLayout.ipv6AddressOffset
            bytes.storeBytes(of: address.high.bigEndian, toByteOffset: offset, as: UInt64.self)
            bytes.storeBytes(of: address.low.bigEndian, toByteOffset: offset + 8, as: UInt64.self)
            return AddressLayout.ipv6Bytes
        }
        return withUnsafePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(length)) }
        }
    }

    /// Reads a socket address; nil when it is neither IPv4 nor IPv6.
    init?(socketAddress bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= AddressLayout.ipv4Bytes else { return nil }
        let family = bytes.loadUnaligned(fromByteOffset: AddressLayout.familyOffset, as: sa_family_t.self)
        let port = bytes.loadUnaligned(fromByteOffset: AddressLayout.portOffset, as: UInt16.self)
        let address: IPAddress
        if CInt(family) == AF_INET {
            let bits = bytes.loadUnaligned(fromByteOffset: AddressLayout.ipv4AddressOffset, as: UInt32.self)
            address = IPAddress(ipv4: UInt32(bigEndian: bits))
        } else if CInt(family) == AF_INET6, bytes.count >= AddressLayout.ipv6Bytes {
            let offset = AddressLayout.ipv6AddressOffset
            address = IPAddress(
                high: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)),
                low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self))
            )
        } else {
            return nil
        }
        self.init(address: address, port: UInt16(bigEndian: port))
    }

    /// The endpoint of a NIO address; nil for a unix socket's.
    init?(_ address: SocketAddress?) {
        guard let address else { return nil }
        let endpoint = address.withSockAddr { pointer, length in
            Endpoint(socketAddress: UnsafeRawBufferPointer(start: pointer, count: length))
        }
        guard let endpoint else { return nil }
        self = endpoint
    }

    /// The local address of a socket; nil when it has none of IPv4 or IPv6.
    init?(localAddressOf descriptor: CInt) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        guard result == 0, let endpoint = withUnsafeBytes(of: storage, { Endpoint(socketAddress: $0) }) else {
            return nil
        }
        self = endpoint
    }

    /// The NIO form of this endpoint.
    func socketAddress() throws -> SocketAddress {
        let bytes = address.isIPv4 ? Array(address.bytes.suffix(4)) : address.bytes
        return try SocketAddress(packedIPAddress: ByteBuffer(bytes: bytes), port: Int(port))
    }
}
