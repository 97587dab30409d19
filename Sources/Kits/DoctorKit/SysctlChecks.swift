import LinuxNetwork

/// Settings of the kernel that stop a take-over, or let two machines answer for one address.
struct SysctlChecks {
    /// Reads a setting by its path below /proc/sys; nil where there is none.
    var read: (String) -> Int?

    init(read: @escaping (String) -> Int? = { (try? Sysctl.read($0)).flatMap { Int($0) } }) { self.read = read }

    func agent(interface: String, tun: String, hasVIPs: Bool) -> [Finding] {
        let found =
            adoption() + reversePath(interface: interface, tun: tun) + groups(interface)
            + (hasVIPs ? silence(interface) : [])
        return found.isEmpty ? Finding.ok("sysctl", "the kernel's settings let connections be adopted") : found
    }

    /// What `bpf_sk_assign_tcp_reqsk` and cookie_v4_check demand.
    private func adoption() -> [Finding] {
        var found: [Finding] = []
        if read("net/ipv4/tcp_syncookies") == 0 {
            found.append(
                fatal(
                    "net.ipv4.tcp_syncookies", 0, "the kernel resets clients whose connections are adopted",
                    "sysctl -w net.ipv4.tcp_syncookies=1"))
        }
        for (name, what) in [
            ("tcp_timestamps", "timestamps"), ("tcp_sack", "selective acknowledgments"),
            ("tcp_window_scaling", "window scaling"),
        ] where read("net/ipv4/" + name) == 0 {
            found.append(
                fatal(
                    "net.ipv4.\(name)", 0, "the kernel refuses to adopt connections that have agreed on \(what)",
                    "sysctl -w net.ipv4.\(name)=1, on all back-ends alike"))
        }
        return found
    }

    /// The larger of `all` and the device's value counts (ip-sysctl.rst).
    private func reversePath(interface: String, tun: String) -> [Finding] {
        var found: [Finding] = []
        if effective("rp_filter", tun) == 1 {
            found.append(
                fatal(
                    "net.ipv4.conf.\(tun).rp_filter (or that of `all`)", 1,
                    "adoptions come in by \(tun) from clients that live elsewhere, and are dropped",
                    "sysctl -w net.ipv4.conf.all.rp_filter=0 (or 2), and restart the agent"))
        }
        if effective("rp_filter", interface) == 1 {
            found.append(
                Finding(
                    "sysctl", .warning,
                    "net.ipv4.conf.\(interface).rp_filter is 1 (strict): frames of clients whose way back is another "
                        + "interface are dropped",
                    remedy: "sysctl -w net.ipv4.conf.all.rp_filter=2, where clients come by several ways"))
        }
        return found
    }

    private func groups(_ interface: String) -> [Finding] {
        guard effective("drop_unicast_in_l2_multicast", interface) ?? 0 > 0 else { return [] }
        return [
            fatal(
                "net.ipv4.conf.\(interface).drop_unicast_in_l2_multicast (or that of `all`)", 1,
                "frames to the slots' groups are dropped",
                "sysctl -w net.ipv4.conf.all.drop_unicast_in_l2_multicast=0 net.ipv4.conf.\(interface)."
                    + "drop_unicast_in_l2_multicast=0")
        ]
    }

    /// VIPs stand on `lo`: this machine must not answer for them.
    private func silence(_ interface: String) -> [Finding] {
        var found: [Finding] = []
        for (name, least) in [("arp_ignore", 1), ("arp_announce", 2)] {
            guard let value = effective(name, interface), value < least else { continue }
            found.append(
                fatal(
                    "net.ipv4.conf.\(interface).\(name)", value,
                    "this back-end tells the network that the VIPs are here, and draws the director's clients",
                    "sysctl -w net.ipv4.conf.all.\(name)=\(least); see what has changed it, for the agent had set it"))
        }
        return found
    }

    /// Nil where neither is there.
    func effective(_ name: String, _ interface: String) -> Int? {
        let values = ["all", interface].compactMap { read("net/ipv4/conf/\($0)/\(name)") }
        // Without the device (the agent does not run) there is nothing to be wrong.
        return read("net/ipv4/conf/\(interface)/\(name)") == nil ? nil : values.max()
    }

    private func fatal(_ setting: String, _ value: Int, _ consequence: String, _ remedy: String) -> Finding {
        Finding("sysctl", .fatal, "\(setting) is \(value): \(consequence)", remedy: remedy)
    }
}
