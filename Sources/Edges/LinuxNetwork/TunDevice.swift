import CLinux
import Glibc
import LinuxBase
import Model

/// A TUN device: what is written into it enters the kernel as if it had come from a network.
///
/// The device goes with its last reference, and with the process.
public final class TunDevice: Sendable {
    public let name: String
    public let index: UInt32
    /// For reading what is sent into the device: what the data plane redirects, for the kernel routes nothing there.
    public let descriptor: FileDescriptor

    /// Makes the device, sets its MTU, keeps the kernel from sending anything of its own into it, and sets it up.
    ///
    /// The sources of what is written are clients that live elsewhere, so the reverse path must not be checked
    /// strictly. The kernel takes the larger of `all` and the device's value: 0 here where `all` is 0, else 2 (loose),
    /// and then a loopback address, since for a device without any address it checks strictly all the same
    /// (__fib_validate_source). The system's own setting stays as it is.
    /// - Parameter mtu: in bytes; 65535 lets a whole journal segment through.
    /// - Throws: EBUSY when a device of the name exists.
    public init(name: String, mtu: Int = 65535) throws(LinuxError) {
        let tun = try systemCall("create TUN device", name, remedy: TunDevice.remedy(name)) { clinux_tun(name) }
        descriptor = FileDescriptor(owning: tun)
        self.name = name
        let links = try AddressManager()
        index = try links.interface(named: name).index
        let strict = try Sysctl.read("net/ipv4/conf/all/rp_filter") != "0"
        try Sysctl.write("net/ipv4/conf/\(name)/rp_filter", strict ? "2" : "0")
        // No link-local address, so no router solicitations; absent where IPv6 is switched off.
        if Sysctl.exists("net/ipv6/conf/\(name)/addr_gen_mode") {
            try Sysctl.write("net/ipv6/conf/\(name)/addr_gen_mode", "1")
        }
        try links.set(name, up: true, mtu: mtu)
        if strict { try links.add(TunDevice.ownAddress, to: name) }
    }

    /// Of scope host, as all of 127.0.0.0/8: nobody outside can reach it, and nothing is sent from it.
    private static let ownAddress = IPAddress(ipv4: 0x7f42_4154)

    private static func remedy(_ name: String) -> String {
        switch errno {
        case EBUSY: "another process holds a device of this name: stop it, or choose another name"
        case ENOENT: "make /dev/net/tun: mknod /dev/net/tun c 10 200, or build the kernel with CONFIG_TUN"
        case ENAMETOOLONG: "interface names have at most 15 bytes"
        default: ""
        }
    }

    /// Hands one IP packet to the kernel, which runs it through tc ingress and its IP stack before the call returns.
    ///
    /// Any thread.
    public func write(_ packet: UnsafeRawBufferPointer) throws(LinuxError) {
        _ = try systemCall("write \(packet.count) bytes to TUN device", name) {
            Glibc.write(descriptor.rawValue, packet.baseAddress, packet.count)
        }
    }

    /// Hands one IP packet to the kernel.
    public func write(_ packet: [UInt8]) throws(LinuxError) {
        _ = try systemCall("write \(packet.count) bytes to TUN device", name) {
            Glibc.write(descriptor.rawValue, packet, packet.count)
        }
    }

    /// Reads what the kernel has sent into the device, at most `max` packets; never blocks.
    ///
    /// The bytes are valid during the call only. One thread at a time.
    public func read(max: Int, _ body: (UnsafeRawBufferPointer) -> Void) throws(LinuxError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
        defer { buffer.deallocate() }
        for _ in 0..<max {
            let ready = clinux_wait_readable(descriptor.rawValue, 0)
            guard ready > 0 else { return }
            let count = Glibc.read(descriptor.rawValue, buffer.baseAddress, buffer.count)
            guard count > 0 else {
                if count < 0, errno != EAGAIN, errno != EINTR { throw LinuxError.last("read TUN device", name) }
                return
            }
            body(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        }
    }

    /// Removes the device now; later writes fail with EBADFD. Without it the device goes with the last reference.
    public func remove() throws(LinuxError) {
        try AddressManager().delete(name)
    }
}
