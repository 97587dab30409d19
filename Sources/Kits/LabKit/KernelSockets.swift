import Model

/// TCP sockets of a namespace, as its kernel lists them (`/proc/net/tcp`, proc(5)): a witness apart from the daemons.
enum KernelSockets {
    struct Entry: Sendable {
        var local: Endpoint
        var remotePort: UInt16
        var remote: IPAddress
        /// The kernel's state number: 1 established, 10 listen.
        var state: UInt8
    }

    static func list(inNamespace path: String) throws -> [Entry] {
        try inNetworkNamespace(path) {
            // The thread's own view: /proc/net is that of the process's first thread.
            // Listeners for both families (Caddy's) and what they accept stand in the second file.
            ["tcp", "tcp6"].flatMap { name in
                (readFile("/proc/thread-self/net/\(name)") ?? "").split(separator: "\n").dropFirst().compactMap(parse)
            }
        }
    }

    static func listening(inNamespace path: String) throws -> Set<UInt16> {
        Set(try list(inNamespace: path).filter { $0.state == 10 }.map(\.local.port))
    }

    static func parse(_ line: Substring) -> Entry? {
        let fields = line.split(separator: " ")
        guard fields.count > 3, let local = endpoint(fields[1]), let remote = endpoint(fields[2]),
            let state = UInt8(fields[3], radix: 16)
        else { return nil }
        return Entry(
            local: Endpoint(address: local.address, port: local.port), remotePort: remote.port, remote: remote.address,
            state: state)
    }

    /// `640200C0:0050`: the address as the kernel's big-endian words printed on this little-endian machine, one for IPv4,
    /// four for IPv6. The wildcard of IPv6 counts as that of IPv4.
    private static func endpoint(_ text: Substring) -> (address: IPAddress, port: UInt16)? {
        let parts = text.split(separator: ":")
        guard parts.count == 2, [8, 32].contains(parts[0].utf8.count), let port = UInt16(parts[1], radix: 16) else {
            return nil
        }
        var words: [UInt64] = []
        var rest = parts[0]
        while !rest.isEmpty {
            guard let word = UInt32(rest.prefix(8), radix: 16) else { return nil }
            words.append(UInt64(UInt32(bigEndian: word)))
            rest = rest.dropFirst(8)
        }
        guard words.count == 4, words.contains(where: { $0 != 0 }) else {
            return (IPAddress(ipv4: UInt32(words[words.count - 1])), port)
        }
        return (IPAddress(high: words[0] << 32 | words[1], low: words[2] << 32 | words[3]), port)
    }
}

extension Lab {
    /// Which web servers' kernels hold an established connection with each of the client's ports.
    ///
    /// After a cut cable the victim's kernel still believes in its connections: look at the others.
    public func servers(ofClientPorts ports: Set<UInt16>, among nodes: [String]? = nil) throws -> [UInt16: [String]] {
        var result: [UInt16: [String]] = [:]
        for node in nodes ?? plan.webNodes {
            for entry in try KernelSockets.list(inNamespace: plan.namespacePath(node))
            where entry.state == 1 && [LabPlan.clientAddress, LabPlan.clientAddress6].contains(entry.remote)
                && ports.contains(entry.remotePort) {
                result[entry.remotePort, default: []].append(node)
            }
        }
        return result
    }
}
