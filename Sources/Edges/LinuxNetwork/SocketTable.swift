import CLinux
import Glibc
import LinuxBase
import Model

/// A TCP socket in LISTEN, as the kernel shows it (inet_diag).
public struct Listener: Hashable, Sendable {
    /// Zero address for a wildcard. IPv4 and IPv6 wildcards differ in `acceptsIPv4` and `acceptsIPv6`.
    public var endpoint: Endpoint
    /// The accept queue's limit (`listen(2)`, capped by net.core.somaxconn). The kernel queues one more than this.
    public var backlog: Int
    /// Connections waiting to be accepted.
    public var queued: Int
    /// Whether it listens for MPTCP: such a socket cannot adopt (`bpf_sk_assign_tcp_reqsk` refuses it).
    public var isMPTCP: Bool
    public var acceptsIPv4: Bool
    public var acceptsIPv6: Bool

    /// Whether a connection to the endpoint would reach this socket.
    public func accepts(_ destination: Endpoint) -> Bool {
        guard destination.port == endpoint.port else { return false }
        guard destination.address.isIPv4 ? acceptsIPv4 : acceptsIPv6 else { return false }
        return endpoint.address == destination.address || endpoint.isWildcard
    }
}

extension Endpoint {
    fileprivate var isWildcard: Bool { address == IPAddress(ipv4: 0) || address == IPAddress(high: 0, low: 0) }
}

/// A TCP socket that is not a listener.
public struct Connection: Hashable, Sendable {
    public var local: Endpoint
    public var remote: Endpoint
    /// TCP_ESTABLISHED = 1 and so on (include/net/tcp_states.h).
    public var state: UInt8
    public var isEstablished: Bool { state == 1 }
    /// Its application has closed it: FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING.
    public var isClosed: Bool { [4, 5, 6, 9, 11].contains(state) }
    /// The kernel's identity of the socket: family, and `struct inet_diag_sockid` with its cookie.
    fileprivate var family: UInt8
    fileprivate var identity: [UInt8]
}

/// The TCP sockets of a network namespace, over SOCK_DIAG (sock_diag(7)): looks at them and destroys them.
///
/// Any thread; it acts in the network namespace of the thread that made it. A listing walks the kernel's whole table.
public final class SocketTable: Sendable {
    private let netlink: NetlinkSocket

    public init() throws(LinuxError) {
        netlink = try NetlinkSocket(protocol: Int32(NETLINK_SOCK_DIAG))
    }

    /// All listeners, of both families.
    public func listeners() throws(LinuxError) -> [Listener] {
        try dump(states: 1 << SocketState.listen).compactMap(SocketTable.listener)
    }

    /// The listeners that a connection to the endpoint could reach: more than one with SO_REUSEPORT, or where a
    /// wildcard stands beside an exact address. Exact addresses come first, as in the kernel's look-up.
    public func listeners(accepting endpoint: Endpoint) throws(LinuxError) -> [Listener] {
        let found = try listeners().filter { $0.accepts(endpoint) }
        return found.filter { !$0.endpoint.isWildcard } + found.filter { $0.endpoint.isWildcard }
    }

    public func listenerExists(_ endpoint: Endpoint) throws(LinuxError) -> Bool {
        try !listeners(accepting: endpoint).isEmpty
    }

    /// All TCP sockets but listeners whose local address is one of these (and, if given, local port one of those).
    public func connections(
        to addresses: [IPAddress],
        ports: Set<UInt16>? = nil
    ) throws(LinuxError) -> [Connection] {
        try dump(states: 0xffff_ffff & ~(1 << SocketState.listen)).compactMap(SocketTable.connection).filter {
            addresses.contains($0.local.address) && ports?.contains($0.local.port) ?? true
        }
    }

    /// The socket of one flow; nil if the kernel has none. One look-up in the kernel's hash.
    public func connection(_ flow: FlowKey) throws(LinuxError) -> Connection? {
        let isIPv4 = flow.service.address.isIPv4
        var identity: [UInt8] = []
        for port in [flow.service.port, flow.client.port] {
            identity += [UInt8(port >> 8), UInt8(truncatingIfNeeded: port)]
        }
        for address in [flow.service.address, flow.client.address] {
            identity += isIPv4 ? Array(address.bytes.suffix(4)) + [UInt8](repeating: 0, count: 12) : address.bytes
        }
        // Any interface; INET_DIAG_NOCOOKIE.
        identity += [0, 0, 0, 0] + [UInt8](repeating: 0xff, count: 8)
        let message = SocketTable.message(
            Int(SOCK_DIAG_BY_FAMILY),
            flags: 0,
            family: UInt8(isIPv4 ? AF_INET : AF_INET6),
            states: 0xffff_ffff,
            identity: identity
        )
        do {
            let replies = try netlink.request(message, operation: "look up connection", subject: "\(flow)")
            // The kernel's look-up falls back to a listener.
            return replies.compactMap(SocketTable.connection).first { $0.remote == flow.client }
        } catch  where error.errno == ENOENT {
            return nil
        }
    }

    /// Destroys one socket (SOCK_DESTROY); false if it was gone already.
    ///
    /// The application meets ECONNABORTED, and **the kernel sends the client an RST** in every state that calls for
    /// one (tcp_abort): have the fence or a guard up where the client must not notice.
    @discardableResult
    public func destroy(_ connection: Connection) throws(LinuxError) -> Bool {
        let message = SocketTable.message(
            Int(SOCK_DESTROY),
            flags: 0,
            family: connection.family,
            states: 0xffff_ffff,
            identity: connection.identity
        )
        do {
            let subject = "\(connection.remote)>\(connection.local)"
            _ = try netlink.request(message, operation: "destroy connection", subject: subject)
            return true
        } catch  where error.errno == ENOENT {
            return false
        } catch  where error.errno == EOPNOTSUPP {
            throw LinuxError(
                error.operation,
                error.subject,
                errno: error.errno,
                remedy: "build the kernel with CONFIG_INET_DIAG_DESTROY"
            )
        }
    }
}

/// Destroys TCP sockets of VIPs.
public struct SocketDestroyer: Sendable {
    private let table: SocketTable

    public init(table: SocketTable) {
        self.table = table
    }

    public init() throws(LinuxError) {
        table = try SocketTable()
    }

    /// Destroys every TCP socket, listeners excepted, whose local address is one of these; returns how many.
    ///
    /// See `SocketTable.destroy(_:)` for the RSTs that this sends.
    @discardableResult
    public func destroyAll(to addresses: [IPAddress], ports: Set<UInt16>? = nil) throws(LinuxError) -> Int {
        var count = 0
        for connection in try table.connections(to: addresses, ports: ports) where try table.destroy(connection) {
            count += 1
        }
        return count
    }

    /// Destroys the socket of one flow; false if there is none.
    @discardableResult
    public func destroy(_ flow: FlowKey) throws(LinuxError) -> Bool {
        guard let connection = try table.connection(flow) else { return false }
        return try table.destroy(connection)
    }
}

extension SocketDestroyer {
    /// Destroys the socket of a flow that its application has closed; false if there is no such socket.
    @discardableResult
    public func destroyClosed(_ flow: FlowKey) throws(LinuxError) -> Bool {
        guard let connection = try table.connection(flow), connection.isClosed else { return false }
        return try table.destroy(connection)
    }
}

// MARK: Messages

/// include/net/tcp_states.h
private enum SocketState {
    static let listen: UInt32 = 10
}

extension SocketTable {
    /// `struct inet_diag_sockid`: two ports, two addresses of 16 bytes, interface, cookie.
    private static var identityBytes: Int { 48 }
    /// `struct inet_diag_msg`.
    private static var messageBytes: Int { 72 }

    private static func message(
        _ type: Int,
        flags: Int,
        family: UInt8,
        states: UInt32,
        identity: [UInt8]
    ) -> NetlinkMessage {
        var message = NetlinkMessage(type: type, flags: flags)
        // `struct inet_diag_req_v2`. INET_DIAG_INFO brings the upper-layer protocol, MPTCP among them, along with it
        // (inet_sk_diag_fill: idiag_get_aux).
        let wantsInformation = states == 1 << SocketState.listen
        let extensions: UInt8 = wantsInformation ? 1 << (UInt8(INET_DIAG_INFO) - 1) : 0
        message.append((family, UInt8(IPPROTO_TCP), extensions, UInt8(0), states))
        message.append(raw: identity)
        return message
    }

    /// Sockets of both families in the given states. IPv4 connections of an IPv6 listener are listed as IPv6.
    private func dump(states: UInt32) throws(LinuxError) -> [NetlinkReply] {
        var replies: [NetlinkReply] = []
        for family in [AF_INET, AF_INET6] {
            let message = SocketTable.message(
                Int(SOCK_DIAG_BY_FAMILY),
                flags: Int(NLM_F_DUMP),
                family: UInt8(family),
                states: states,
                identity: [UInt8](repeating: 0, count: SocketTable.identityBytes)
            )
            do {
                replies += try netlink.request(message, operation: "list TCP sockets", subject: "")
            } catch  where family == AF_INET6 && (error.errno == ENOENT || error.errno == EAFNOSUPPORT) {
                // A kernel without IPv6 has no such sockets.
            }
        }
        return replies
    }

    private static func connection(_ reply: NetlinkReply) -> Connection? {
        guard reply.payload.count >= messageBytes else { return nil }
        let bytes = reply.payload
        let isIPv4 = bytes[0] == UInt8(AF_INET)
        guard
            let local = IPAddress(networkBytes: bytes[8..<(isIPv4 ? 12 : 24)]),
            let remote = IPAddress(networkBytes: bytes[24..<(isIPv4 ? 28 : 40)]),
            bytes[1] != UInt8(SocketState.listen)
        else { return nil }
        return Connection(
            local: Endpoint(address: local, port: UInt16(bytes[4]) << 8 | UInt16(bytes[5])),
            remote: Endpoint(address: remote, port: UInt16(bytes[6]) << 8 | UInt16(bytes[7])),
            state: bytes[1],
            family: bytes[0],
            identity: Array(bytes[4..<(4 + identityBytes)])
        )
    }

    private static func listener(_ reply: NetlinkReply) -> Listener? {
        guard reply.payload.count >= messageBytes else { return nil }
        let bytes = reply.payload
        let isIPv4 = bytes[0] == UInt8(AF_INET)
        guard let address = IPAddress(networkBytes: bytes[8..<(isIPv4 ? 12 : 24)]),
            let queued = bytes[56..<60].hostUInt32, let backlog = bytes[60..<64].hostUInt32
        else { return nil }
        var listener = Listener(
            endpoint: Endpoint(address: address, port: UInt16(bytes[4]) << 8 | UInt16(bytes[5])),
            backlog: Int(backlog),
            queued: Int(queued),
            isMPTCP: false,
            acceptsIPv4: isIPv4 || address.isIPv4 || address == IPAddress(high: 0, low: 0),
            acceptsIPv6: !isIPv4 && !address.isIPv4
        )
        reply.forEachAttribute(after: messageBytes) { type, value in
            switch type {
            case Int(INET_DIAG_SKV6ONLY):
                if !isIPv4, value.first == 1 { listener.acceptsIPv4 = false }
            case Int(INET_DIAG_ULP_INFO):
                NetlinkReply.forEachAttribute(in: value) { type, value in
                    if type == Int(INET_ULP_INFO_NAME), value.text == "mptcp" { listener.isMPTCP = true }
                }
            default: break
            }
        }
        return listener
    }
}
