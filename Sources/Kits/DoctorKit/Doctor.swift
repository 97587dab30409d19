public import Configuration
import LinuxBPF
import LinuxNetwork
public import Model

/// `batonctl doctor`: what would stop a take-over on this machine, found out by looking, one check after the other.
public enum Doctor {
    /// What the running daemon says beside its configuration: the group of each back-end's own slot, by the back-end's
    /// name.
    public typealias Groups = [String: MACAddress]

    public static func examine(_ configuration: DirectorConfiguration, groups: Groups) -> Diagnosis {
        let interface = Result { try AddressManager().interface(named: configuration.interface) }
        let checks = [
            Check("key") { key(configuration.key) },
            Check("kernel") { try KernelChecks.features(KernelChecks.director) },
            Check("clock") { try ClockCheck.run() },
            Check("xdp") {
                try DataPlaneChecks.program(
                    interface: interface.get().index, name: configuration.interface, state: configuration.state)
            },
            Check("layout") { try DataPlaneChecks.layout(state: configuration.state) },
            Check("offloads") {
                let mode = try BPFLink.xdpMode(of: interface.get().index) ?? configuredMode(configuration)
                return OffloadChecks.run(interface: configuration.interface, mode: mode)
            },
            Check("arp") {
                let vips = Set(configuration.services.map(\.address.address)).filter(\.isIPv4).sorted()
                return try LANChecks(probes: Probes(interface: interface.get())).vipsAreOurs(vips)
            },
            Check("lan") {
                let peers = configuration.backends.filter(\.address.isIPv4).map {
                    LANChecks.Peer(name: $0.name, address: $0.address, group: groups[$0.name])
                }
                let usesGroups = configuration.services.contains { ["selective", "multicast"].contains($0.forwarding) }
                let found = try LANChecks(probes: Probes(interface: interface.get())).reach(peers, groups: usesGroups)
                return found.isEmpty ? Finding.ok("lan", "full frames and groups reach every back-end") : found
            },
        ]
        return Diagnosis(side: "director", findings: checks.flatMap { $0.findings() })
    }

    public static func examine(_ configuration: AgentConfiguration) -> Diagnosis {
        let interface = Result { try AddressManager().interface(named: configuration.interface) }
        let vips = (try? localVIPs()) ?? []
        let checks = [
            Check("key") { key(configuration.key) },
            Check("kernel") { try KernelChecks.features(KernelChecks.agent) },
            Check("tun") { KernelChecks.tun() },
            Check("clock") { try ClockCheck.run() },
            Check("sysctl") {
                SysctlChecks().agent(
                    interface: configuration.interface, tun: configuration.tun, hasVIPs: !vips.isEmpty)
            },
            Check("mptcp") { try ListenerChecks.run(vips: vips) },
            Check("filter") { FilterChecks.run(table: configuration.table) },
            Check("offloads") { OffloadChecks.run(interface: configuration.interface, mode: nil) },
            Check("queues") { try QueueChecks.run(interface: interface.get()) },
            Check("arp") {
                try LANChecks(probes: Probes(interface: interface.get())).directorAnswers(
                    for: vips.filter(\.isIPv4), director: configuration.director.address)
            },
            Check("lan") {
                let director = LANChecks.Peer(
                    name: "the director", address: configuration.director.address, group: nil)
                let found = try LANChecks(probes: Probes(interface: interface.get())).reach([director], groups: false)
                return found.isEmpty ? Finding.ok("lan", "full frames reach the director") : found
            },
        ]
        return Diagnosis(side: "agent", findings: checks.flatMap { $0.findings() })
    }

    private static func key(_ path: String) -> [Finding] {
        do {
            _ = try ClusterKeyFile.load(path)
            return Finding.ok("key", "the cluster key \(path) is readable, and by nobody else")
        } catch {
            return [Finding("key", .fatal, "\(error)", remedy: "all machines of the cluster have the same key, mode 0600")]
        }
    }

    private static func configuredMode(_ configuration: DirectorConfiguration) -> LinuxBPF.XDPMode? {
        configuration.xdp == .generic ? .generic : nil
    }

    /// The addresses on `lo` but for its own: the agent has put the VIPs there.
    private static func localVIPs() throws -> [IPAddress] {
        try AddressManager().interface(named: "lo").addresses.map(\.address).filter { address in
            if let ipv4 = address.ipv4 { return ipv4 >> 24 != 127 }
            return address != IPAddress(high: 0, low: 1)
        }
    }
}
