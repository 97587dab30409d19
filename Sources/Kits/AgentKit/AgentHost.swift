import CContract
import Cluster
import Configuration
import Glibc
import LinuxBPF
import LinuxBase
import LinuxNetfilter
import LinuxNetwork
import Logging
import Model
import Synchronization
import Tracking
import Wire

/// What the agent changes on its machine, and how it is put back: eBPF programs, nftables table, TUN device, VIPs on
/// `lo`, ARP settings, group memberships, the data thread.
///
/// Belongs to the control thread.
final class AgentHost {
    let interface: NetworkInterface
    /// The interface's primary address: heartbeats come here.
    let address: IPAddress
    let plane: AgentDataPlane
    let mailbox: Mailbox
    private let configuration: Configuration.AgentConfiguration
    private let logger: Logger
    private let addresses: AddressManager
    private let sysctls: SysctlChanges
    private let tun: TunDevice
    private let table: AgentTable
    private let groups: LinuxNetwork.GroupMembership
    private let sockets: SocketTable
    private let destroyer: SocketDestroyer
    private var vips: [IPAddress] = []
    private var addedVIPs: [IPAddress] = []
    private var leaseUntil: UInt64 = 0
    private var fenced = true
    private var thread: RealtimeThread?

    /// - Throws: a sentence for a person; what was changed before the failure is put back.
    init(configuration: Configuration.AgentConfiguration, logger: Logger) throws {
        self.configuration = configuration
        self.logger = logger
        try Privilege.requireRoot(for: "run baton-agent")
        try AgentHost.requireFeatures()
        sysctls = SysctlChanges(memory: SysctlMemory(path: configuration.socket + ".sysctl"))
        addresses = try AddressManager()
        interface = try addresses.interface(named: configuration.interface)
        guard let address = interface.controlAddress else {
            throw AgentFailure("interface \(configuration.interface) has no address; give it one, of IPv4 or IPv6")
        }
        self.address = address
        sockets = try SocketTable()
        destroyer = SocketDestroyer(table: sockets)
        groups = try LinuxNetwork.GroupMembership(interface: configuration.interface)
        mailbox = try Mailbox()
        tun = try TunDevice(name: configuration.tun)
        // Fenced from the first instant: what a former run left must not talk before the director says so.
        table = try AgentTable.create(
            name: configuration.table, interface: configuration.interface, vips: [], fenced: true)
        do {
            plane = try AgentDataPlane(
                interface: interface.index,
                tun: tun.index,
                namespace: try NetworkNamespace.ownInode(),
                folder: configuration.state,
                connectionsLimit: UInt32(Limits.backupConnections)
            )
        } catch {
            try? table.remove()
            throw error
        }
        do {
            try plane.setRules(leaseUntil: 0, fenced: true)
            // What an agent that was killed has left: its VIPs are still served by sockets of a life that is over.
            for (address, mark) in try plane.knownVIPs() {
                vips.append(address)
                if mark == AgentDataPlane.addedByUs { addedVIPs.append(address) }
            }
            try table.setVIPs(vips)
        } catch {
            plane.remove()
            try? table.remove()
            throw error
        }
    }

    /// What an adoption needs of the kernel, asked before anything is changed.
    private static func requireFeatures() throws {
        guard try Sysctl.read("net/ipv4/tcp_syncookies") != "0" else {
            throw FeatureMissing(
                "net.ipv4.tcp_syncookies is 0: the kernel would reset adopted connections; run: "
                    + "sysctl -w net.ipv4.tcp_syncookies=1"
            )
        }
        guard (try? KernelBTF.hasFunction("bpf_sk_assign_tcp_reqsk")) == true else {
            throw FeatureMissing(
                "this kernel cannot adopt connections: its BTF has no kfunc bpf_sk_assign_tcp_reqsk; run Linux 6.12 or "
                    + "later with CONFIG_DEBUG_INFO_BTF and CONFIG_SYN_COOKIES"
            )
        }
        guard access("/dev/net/tun", F_OK) == 0 else {
            throw FeatureMissing(
                "there is no /dev/net/tun: make it (mknod /dev/net/tun c 10 200), or use a kernel with CONFIG_TUN"
            )
        }
    }

    func startDataThread(_ report: @escaping @Sendable (DataReport) -> Void) throws {
        var parameters = DataThread.parameters(configuration.journal)
        parameters.connections = Limits.backupConnections
        let data = try DataThread(
            interface: configuration.interface,
            address: interface.address,
            plane: plane,
            tun: tun,
            parameters: parameters,
            mailbox: mailbox,
            report: report
        )
        let box = Handover(data)
        let thread = try RealtimeThread.start(name: "baton-data", priority: 20) { box.value.run() }
        if !thread.isRealtime { logger.notice("no real-time scheduling: take-overs may wait for other programs") }
        self.thread = thread
    }

    /// Hands a thread's own object over to it, once.
    private struct Handover: @unchecked Sendable {
        let value: DataThread
        init(_ value: DataThread) { self.value = value }
    }

    // MARK: Rules

    func setLease(_ lease: Lease) throws {
        switch lease {
        case .none: leaseUntil = 0
        case .until(let instant): leaseUntil = instant.nanoseconds
        case .unlimited: leaseUntil = .max
        }
        try plane.setRules(leaseUntil: leaseUntil, fenced: fenced)
    }

    /// Two locks on one door: the eBPF rule, and the nftables table that holds even when the eBPF filter is gone.
    ///
    /// Both stand below the place where frames wait for a neighbour's address. What a former life has left there would go
    /// out by the next one's lease.
    func setFence(_ on: Bool) throws {
        fenced = on
        if on {
            try plane.setRules(leaseUntil: leaseUntil, fenced: true)
            try table.setFence(true)
        } else {
            try addresses.dropFramesWithoutNeighbour(at: interface.index)
            try table.setFence(false)
            try plane.setRules(leaseUntil: leaseUntil, fenced: false)
        }
    }

    /// Joined before they are heard: no frame is missed by the change.
    func setMembership(_ membership: Cluster.GroupMembership) throws {
        let own = membership.own.map(\.group)
        let tapped = membership.tapped.map(\.group)
        try groups.set(own + tapped)
        try table.setGroups(own: own, tapped: tapped)
        mailbox.post(.membership(membership))
    }

    /// The VIPs of the services on `lo`, with ARP for them silenced; those that were there before stay at the end.
    func setServices(_ services: [ServiceDescription]) throws {
        let wanted = Set(services.map(\.endpoint.address)).sorted()
        try sysctls.silenceARP(on: configuration.interface)
        try table.setVIPs(wanted)
        try plane.setVIPs(wanted, added: addedVIPs)
        for address in wanted where try addresses.add(address, to: "lo") { addedVIPs.append(address) }
        try plane.setVIPs(wanted, added: addedVIPs)
        for address in addedVIPs where !wanted.contains(address) { try addresses.remove(address, from: "lo") }
        addedVIPs.removeAll { !wanted.contains($0) }
        vips = wanted
        mailbox.post(.services(services))
    }

    /// Without a frame to any peer: the fence is up when this is called.
    func destroyServiceSockets() throws {
        let count = vips.isEmpty ? 0 : try destroyer.destroyAll(to: vips)
        for entry in try plane.connections.entries() { try plane.connections.delete(entry.key) }
        for entry in try plane.guarded.entries() { try plane.guarded.delete(entry.key) }
        if count > 0 { logger.notice("destroyed \(count) sockets of a life that is over") }
    }

    /// The kernel sends each client an RST with the number that it takes (tcp_abort), and the application an error.
    func resetConnections(_ flows: [FlowKey]) {
        for flow in flows {
            do {
                if try destroyer.destroy(flow) { logger.debug("\(flow) has timed out: reset") }
            } catch {
                logger.warning("\(flow) has timed out, and cannot be reset: \(error)")
            }
        }
    }

    func hasListener(_ endpoint: Endpoint) -> Bool { (try? sockets.listenerExists(endpoint)) ?? false }

    /// Puts everything back; goes on after a failure.
    func close() {
        mailbox.post(.stop)
        thread?.join()
        do {
            try setFence(true)
            try destroyServiceSockets()
        } catch {
            // Sockets that nobody can silence any more must not lose the rules that keep them silent.
            logger.critical("the fence stays up: \(error)")
            return
        }
        for address in addedVIPs { _ = try? addresses.remove(address, from: "lo") }
        sysctls.restore()
        // The VIPs are gone from `lo` by now, so that nothing of theirs can leave.
        plane.remove()
        try? table.remove()
        try? tun.remove()
    }
}

extension DataThread {
    static func parameters(_ journal: Configuration.AgentConfiguration.Journal) -> Tracker.Parameters {
        var parameters = Tracker.Parameters()
        parameters.journalBytesPerConnection = journal.connection
        parameters.journalBytes = journal.total
        return parameters
    }
}
