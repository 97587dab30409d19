import CLinux
import Glibc
import LinuxBase
import Model

/// A network interface as rtnetlink describes it.
public struct NetworkInterface: Hashable, Sendable {
    public var name: String
    public var index: UInt32
    /// Zero for interfaces without a link-layer address (TUN, loopback).
    public var address: MACAddress
    /// In bytes.
    public var mtu: Int
    public var isUp: Bool
    /// Its addresses in the kernel's order: the first IPv4 one is the primary.
    public var addresses: [InterfaceAddress]

    /// The primary IPv4 address.
    public var ipv4: IPAddress? { addresses.first { $0.address.isIPv4 }?.address }

    /// Where other machines of the cluster find this one: the primary IPv4 address or, without any, the first IPv6 address
    /// that is neither link-local (fe80::/10) nor, as a VIP is, a host's alone.
    public var controlAddress: IPAddress? {
        ipv4
            ?? addresses.first { entry in
                !entry.address.isIPv4 && entry.prefixLength < 128 && entry.address.high >> 54 != 0xfe80 >> 6
            }?.address
    }
}

/// An address of an interface.
public struct InterfaceAddress: Hashable, Sendable {
    public var address: IPAddress
    /// Bits of the network part: 0...32 for IPv4, 0...128 for IPv6.
    public var prefixLength: UInt8
    /// `AddressManager.add` has put it there, of this process or an earlier one. Kernels before 5.18 do not remember.
    public var isOurs: Bool

    public init(address: IPAddress, prefixLength: UInt8, isOurs: Bool = false) {
        self.address = address
        self.prefixLength = prefixLength
        self.isOurs = isOurs
    }
}

/// Interfaces and their addresses, over rtnetlink (rtnetlink(7)).
///
/// Any thread; it acts in the network namespace of the thread that made it.
public final class AddressManager: Sendable {
    let netlink: NetlinkSocket

    public init() throws(LinuxError) {
        netlink = try NetlinkSocket(protocol: Int32(NETLINK_ROUTE))
    }

    /// All interfaces of this network namespace with their addresses.
    public func interfaces() throws(LinuxError) -> [NetworkInterface] {
        var message = NetlinkMessage(type: Int(RTM_GETLINK), flags: Int(NLM_F_DUMP))
        message.append(ifinfomsg())
        let links = try netlink.request(message, operation: "list interfaces", subject: "")
        var interfaces = links.compactMap(AddressManager.interface)
        var addressMessage = NetlinkMessage(type: Int(RTM_GETADDR), flags: Int(NLM_F_DUMP))
        addressMessage.append(ifaddrmsg())
        for reply in try netlink.request(addressMessage, operation: "list addresses", subject: "") {
            guard let (index, address) = AddressManager.address(reply),
                let place = interfaces.firstIndex(where: { $0.index == index })
            else { continue }
            interfaces[place].addresses.append(address)
        }
        return interfaces
    }

    /// The interface of the given name; ENODEV if there is none.
    public func interface(named name: String) throws(LinuxError) -> NetworkInterface {
        let all = try interfaces()
        if let found = all.first(where: { $0.name == name }) { return found }
        let names = all.map(\.name).joined(separator: ", ")
        throw LinuxError("find interface", name, errno: ENODEV, remedy: "name one of: \(names)")
    }

    /// Adds a host address (/32 or /128) to an interface; false when it was there already, with any prefix length.
    ///
    /// Who put it there is not this call's business: leave what was there before where it is at the end.
    @discardableResult
    public func add(_ address: IPAddress, to name: String) throws(LinuxError) -> Bool {
        let interface = try interface(named: name)
        if interface.addresses.contains(where: { $0.address == address }) { return false }
        do {
            let message = AddressManager.message(
                Int(RTM_NEWADDR),
                flags: Int(NLM_F_CREATE | NLM_F_EXCL),
                address,
                interface.index
            )
            _ = try netlink.request(message, operation: "add address", subject: "\(address) to \(name)")
            return true
        } catch  where error.errno == EEXIST {
            return false
        }
    }

    /// Removes a host address (/32 or /128) from an interface; false when it was not there.
    @discardableResult
    public func remove(_ address: IPAddress, from name: String) throws(LinuxError) -> Bool {
        let index = try interface(named: name).index
        do {
            let message = AddressManager.message(Int(RTM_DELADDR), flags: 0, address, index)
            _ = try netlink.request(message, operation: "remove address", subject: "\(address) from \(name)")
            return true
        } catch  where error.errno == EADDRNOTAVAIL {
            return false
        }
    }

    /// Sets an interface up or down and, if given, its MTU.
    public func set(_ name: String, up: Bool, mtu: Int? = nil) throws(LinuxError) {
        let index = try interface(named: name).index
        var message = NetlinkMessage(type: Int(RTM_NEWLINK), flags: 0)
        message.append(
            ifinfomsg(
                ifi_family: 0,
                __ifi_pad: 0,
                ifi_type: 0,
                ifi_index: Int32(index),
                ifi_flags: up ? AddressManager.interfaceUp : 0,
                ifi_change: AddressManager.interfaceUp
            )
        )
        if let mtu { message.attribute(Int(IFLA_MTU), UInt32(mtu)) }
        _ = try netlink.request(message, operation: "configure interface", subject: name)
    }

    /// Deletes an interface that can be deleted (TUN, veth); false when there is none of that name.
    @discardableResult
    public func delete(_ name: String) throws(LinuxError) -> Bool {
        guard let index = try interfaces().first(where: { $0.name == name })?.index else { return false }
        var message = NetlinkMessage(type: Int(RTM_DELLINK), flags: 0)
        message.append(
            ifinfomsg(ifi_family: 0, __ifi_pad: 0, ifi_type: 0, ifi_index: Int32(index), ifi_flags: 0, ifi_change: 0)
        )
        do {
            _ = try netlink.request(message, operation: "delete interface", subject: name)
            return true
        } catch  where error.errno == ENODEV {
            return false
        }
    }
}

// MARK: Messages

extension AddressManager {
    /// IFA_PROTO (linux/if_addr.h): who put an address there; numbers from 4 on are anybody's.
    private static var protocolAttribute: Int { 11 }
    private static var ownProtocol: UInt8 { 0xba }

    // IFF_UP (net/if.h).
    private static var interfaceUp: UInt32 { 1 }

    private static func message(_ type: Int, flags: Int, _ address: IPAddress, _ index: UInt32) -> NetlinkMessage {
        let isIPv4 = address.isIPv4
        var message = NetlinkMessage(type: type, flags: flags)
        message.append(
            ifaddrmsg(
                ifa_family: UInt8(isIPv4 ? AF_INET : AF_INET6),
                ifa_prefixlen: isIPv4 ? 32 : 128,
                // A VIP is not looked for on the link by duplicate address detection: several back-ends hold it.
                ifa_flags: isIPv4 ? 0 : UInt8(IFA_F_NODAD),
                ifa_scope: UInt8(RT_SCOPE_UNIVERSE.rawValue),
                ifa_index: index
            )
        )
        let bytes = isIPv4 ? Array(address.bytes.suffix(4)) : address.bytes
        message.attribute(Int(IFA_LOCAL), bytes)
        message.attribute(Int(IFA_ADDRESS), bytes)
        if type == Int(RTM_NEWADDR) { message.attribute(protocolAttribute, [ownProtocol]) }
        return message
    }

    private static func interface(_ reply: NetlinkReply) -> NetworkInterface? {
        guard reply.type == UInt16(RTM_NEWLINK), let info = reply.fixedPart(ifinfomsg.self) else { return nil }
        var interface = NetworkInterface(
            name: "",
            index: UInt32(bitPattern: info.ifi_index),
            address: MACAddress(rawValue: 0),
            mtu: 0,
            isUp: info.ifi_flags & interfaceUp != 0,
            addresses: []
        )
        reply.forEachAttribute(after: MemoryLayout<ifinfomsg>.size) { type, value in
            switch type {
            case Int(IFLA_IFNAME): interface.name = value.text
            case Int(IFLA_ADDRESS): interface.address = MACAddress(bytes: value) ?? interface.address
            case Int(IFLA_MTU): interface.mtu = Int(value.hostUInt32 ?? 0)
            default: break
            }
        }
        return interface
    }

    private static func address(_ reply: NetlinkReply) -> (UInt32, InterfaceAddress)? {
        guard reply.type == UInt16(RTM_NEWADDR), let info = reply.fixedPart(ifaddrmsg.self) else { return nil }
        var local: IPAddress?
        var peer: IPAddress?
        var isOurs = false
        reply.forEachAttribute(after: MemoryLayout<ifaddrmsg>.size) { type, value in
            switch type {
            // On a point-to-point link IFA_ADDRESS is the other end's; IPv6 otherwise has only that one.
            case Int(IFA_LOCAL): local = IPAddress(networkBytes: value)
            case Int(IFA_ADDRESS): peer = IPAddress(networkBytes: value)
            case protocolAttribute: isOurs = value.first == ownProtocol
            default: break
            }
        }
        guard let address = local ?? peer else { return nil }
        return (info.ifa_index, InterfaceAddress(address: address, prefixLength: info.ifa_prefixlen, isOurs: isOurs))
    }
}

extension IPAddress {
    /// Reads four (IPv4) or sixteen (IPv6) bytes in network byte order.
    init?(networkBytes bytes: some Collection<UInt8>) {
        if bytes.count == 4 {
            self.init(ipv4: bytes.reduce(0) { $0 << 8 | UInt32($1) })
        } else {
            self.init(bytes: bytes)
        }
    }
}
