import CLab
import Glibc
import Model

/// Makes the namespaces and links of a lab: a router with a bridge (the LAN) and a routed link to the client.
struct Topology {
    let plan: LabPlan
    let options: LabOptions

    func build(_ progress: (String) -> Void) throws {
        for node in plan.nodes {
            try require(["ip", "netns", "add", plan.namespace(node)])
            try configure(
                node,
                [
                    "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
                    // Without it the kernel resets the client of an adoption (cookie_v4_check).
                    "net.ipv4.tcp_syncookies=1",
                ] + settings6)
            try require(ip(node, "link", "set", "lo", "up"))
        }
        progress("router: bridge br0 \(LabPlan.routerAddress)/24, multicast flooded")
        try buildRouter()
        progress("client: \(LabPlan.clientAddress), behind the router")
        try attach("client", bridged: false)
        try configure("client", ["net.ipv4.tcp_rmem=4096 131072 \(max(131072, options.clientReceiveBuffer))"])
        progress("director: \(LabPlan.directorAddress), virtual address \(LabPlan.virtualAddress)")
        try attach("director", bridged: true)
        if options.twoArmed { try attachClientSide() }
        try prepareForXDP()
        for node in plan.webNodes {
            progress("\(node): \(plan.address(of: node)?.description ?? "")")
            try attach(node, bridged: true)
        }
    }

    /// Without IPv6 no router solicitations and duplicate address detection in captures; with it neither.
    private var settings6: [String] {
        guard options.ipv6 else { return ["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"] }
        return ["all", "default"].flatMap { place in
            ["disable_ipv6=0", "accept_dad=0", "router_solicitations=0", "accept_ra=0"].map {
                "net.ipv6.conf.\(place).\($0)"
            }
        }
    }

    private func buildRouter() throws {
        try require(ip("router", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0", "stp_state", "0"))
        try require(ip("router", "address", "add", "\(LabPlan.routerAddress)/24", "dev", "br0"))
        try require(ip("router", "link", "set", "br0", "up"))
        // No redirects: the director and the back-ends are on the router's own LAN, and must stay out of its way.
        try configure(
            "router",
            [
                "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0",
                "net.ipv4.conf.br0.send_redirects=0", "net.ipv4.conf.default.send_redirects=0",
            ])
        guard options.ipv6 else { return }
        try configure("router", ["net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.forwarding=1"])
        try require(ip("router", "address", "add", "\(LabPlan.routerAddress6)/64", "dev", "br0", "nodad"))
    }

    /// What `attach` does for IPv4. The director's daemon puts the VIP on its interface itself.
    private func attach6(_ node: String, bridged: Bool) throws {
        guard options.ipv6, let address = plan.address6(of: node) else { return }
        if !bridged { try require(ip("router", "address", "add", "\(LabPlan.clientGateway6)/64", "dev", node, "nodad")) }
        try require(ip(node, "address", "add", "\(address)/64", "dev", "eth0", "nodad"))
        let gateway = bridged ? LabPlan.routerAddress6 : LabPlan.clientGateway6
        try require(ip(node, "-6", "route", "add", "default", "via", gateway.description))
    }

    /// A veth: `eth0` in the node; in the router a port with the node's name.
    private func attach(_ node: String, bridged: Bool) throws {
        guard let address = plan.address(of: node) else { throw LabError.invalid("no node named \(node)") }
        let (own, port) = options.twoArmed && node == "director" ? ("eth1", directorLANPort) : ("eth0", node)
        try link(node, own, port)
        if bridged {
            try require(ip("router", "link", "set", port, "master", "br0"))
        } else {
            try require(ip("router", "address", "add", "\(LabPlan.clientGateway)/24", "dev", node))
        }
        try require(ip("router", "link", "set", port, "up"))
        try require(ip(node, "link", "set", own, "up"))
        let gateway = bridged ? LabPlan.routerAddress : LabPlan.clientGateway
        if !options.ipv6Only {
            try require(ip(node, "address", "add", "\(address)/24", "dev", own))
            try require(ip(node, "route", "add", "default", "via", gateway.description))
        }
        try attach6(node, bridged: bridged)
    }

    private func link(_ node: String, _ own: String, _ port: String) throws {
        let size = ["mtu", "\(options.mtu)"]
        try require(
            ["ip", "link", "add", own, "netns", plan.namespace(node)] + size + ["type", "veth", "peer", "name", port]
                + ["netns", plan.namespace("router")] + size)
    }

    // MARK: Two-armed

    /// The router's port of the director's eth1.
    private var directorLANPort: String { "directorlan" }

    /// The director's eth0: a link of its own, by which the router reaches the VIP and nothing else.
    private func attachClientSide() throws {
        try link("director", "eth0", "director")
        try require(ip("router", "link", "set", "director", "up"))
        try require(ip("director", "link", "set", "eth0", "up"))
        try require(ip("router", "route", "add", "\(LabPlan.virtualAddress)/32", "dev", "director"))
    }

    /// What XDP_TX on a veth needs, which a real NIC does by itself.
    private func prepareForXDP() throws {
        // A frame that leaves by XDP loses the note that its checksum is still to be filled in: fill it in before.
        try require(nsenter("router", ["ethtool", "-K", "director", "tx", "off"]))
        // XDP_TX to a veth wakes its peer only if that has an XDP program of its own (veth_xdp_flush): GRO is not
        // enough.
        let pass = plan.pins + "/pass"
        let code = clab_pin_xdp_pass(pass, options.mtu > 3000 ? 1 : 0)
        guard code == 0 else { throw LabError.system("XDP program for the router's port", code: -code) }
        for port in ["director"] + (options.twoArmed ? [directorLANPort] : []) {
            try require(nsenter("router", ["ip", "link", "set", "dev", port, "xdpdrv", "pinned", pass]))
        }
        guard !options.ipv6Only else { return }
        try require(ip("director", "address", "add", "\(LabPlan.virtualAddress)/32", "dev", "eth0"))
    }

    // MARK: Cables

    /// Puts the router's port of a node up or down; returns the instant just before the kernel was told.
    @discardableResult
    func setCable(_ node: String, up: Bool) throws -> Instant {
        try inNetworkNamespace(plan.namespacePath("router")) {
            let before = Instant.now()
            guard clab_set_link(node, up ? 1 : 0) == 0 else {
                throw LabError.system("router's port \(node)", code: errno)
            }
            return before
        }
    }

    // MARK: Commands

    private func ip(_ node: String, _ arguments: String...) -> [String] {
        ["ip", "-n", plan.namespace(node)] + arguments
    }

    private func nsenter(_ node: String, _ command: [String]) -> [String] {
        Topology.enter(plan, node, command)
    }

    private func configure(_ node: String, _ settings: [String]) throws {
        try require(nsenter(node, ["sysctl", "-q", "-w"] + settings))
    }

    /// The command, run in the node's network but with this machine's files and mounts (so that pins are seen).
    static func enter(_ plan: LabPlan, _ node: String, _ command: [String]) -> [String] {
        ["nsenter", "--net=\(plan.namespacePath(node))", "--"] + command
    }
}
