import CLinux
import LinuxBase
import Model

/// TCP connections to the local application.
public enum LocalConnection {
    /// Starts a connection without waiting for it: the descriptor is nonblocking, and writable once it is made.
    ///
    /// Any thread.
    public static func start(to service: Endpoint) throws(LinuxError) -> FileDescriptor {
        let address = service.address
        let bytes = address.ipv4.map { bytesOf($0) } ?? bytesOf(address.high) + bytesOf(address.low)
        let number = try systemCall("connect to", "\(service)") {
            clinux_tcp_connect(bytes, bytes.count, service.port)
        }
        return FileDescriptor(owning: number)
    }
}

/// In network byte order.
private func bytesOf(_ number: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: number.bigEndian) { Array($0) } }
