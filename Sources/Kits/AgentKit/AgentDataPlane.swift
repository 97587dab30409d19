import BPFObjects
import CContract
import LinuxBPF
import LinuxBase
import LinuxNetwork
import Model

/// The agent's eBPF programs in the kernel, and their maps.
///
/// The filters stay when the process dies: a lease that nobody renews then ends by itself, and connections that were
/// adopted go on. `remove` takes everything away. Any thread may use the maps.
struct AgentDataPlane {
    let connections: BPFMap<baton_connection_key, baton_connection>
    let guarded: BPFMap<baton_connection_key, UInt64>
    let released: BPFMap<baton_connection_key, UInt32>
    let vips: BPFMap<ContractAddress, UInt32>
    let rules: BPFMap<UInt32, baton_agent_rules>
    let counters: BPFCounters
    private let object: LoadedAgentObject
    private let hooks: [TrafficControlHook]
    private let ownsInterfaceHook: Bool
    private let folder: String
    private let tracingLinks: [BPFLink]

    /// What the agent itself sends from a VIP bears this firewall mark.
    static let ownMark: UInt32 = 0xba70_c0d1

    /// The tracepoints' programs, and the names of their pins.
    private static let tracing = [("exit", "agent_exit"), ("guard", "agent_guard")]

    /// Sixteen bytes in network byte order, as `struct baton_address` of the programs.
    struct ContractAddress: BitwiseCopyable, Hashable {
        var high: UInt64
        var low: UInt64
        init(_ address: IPAddress) {
            high = address.high.bigEndian
            low = address.low.bigEndian
        }

        var address: IPAddress { IPAddress(high: UInt64(bigEndian: high), low: UInt64(bigEndian: low)) }
    }

    /// Loads and attaches everything.
    ///
    /// - Parameters:
    ///   - interface: where clients are reached.
    ///   - tun: the agent's own TUN device.
    ///   - namespace: inode of the network namespace whose sockets the guard watches.
    ///   - folder: for pins, in a BPF file system.
    /// - Throws: `BPFError` that names the step, the verifier's last lines and a remedy.
    init(
        interface: UInt32,
        tun: UInt32,
        namespace: UInt32,
        folder: String,
        connectionsLimit: UInt32
    ) throws(BPFError) {
        let object = try LoadedAgentObject(
            folder: folder, namespace: namespace, tun: tun, connectionsLimit: connectionsLimit)
        self.object = object
        self.folder = folder
        connections = try object.connections()
        guarded = try object.guarded()
        released = try object.released()
        vips = try object.vips()
        rules = try object.rules()
        counters = try object.counters()
        let tunHook = TrafficControlHook(interface: tun, direction: .ingress)
        let ingress = TrafficControlHook(interface: interface, direction: .ingress)
        let egress = TrafficControlHook(interface: interface, direction: .egress)
        hooks = [tunHook, ingress, egress]
        _ = try tunHook.create()
        ownsInterfaceHook = try ingress.create()
        do {
            try tunHook.attach(object.program("agent_tun"))
            try egress.attach(object.program("agent_egress"))
            try ingress.attach(object.program("agent_ingress"))
            var links: [BPFLink] = []
            for (name, program) in Self.tracing {
                try BPFLink.unpin(folder + "/" + name)
                let link = try BPFLink.attachTracing(object.program(program))
                try link.pin(at: folder + "/" + name)
                links.append(link)
            }
            tracingLinks = links
        } catch {
            AgentDataPlane.remove(hooks: hooks, destroying: ownsInterfaceHook ? ingress : nil, folder: folder)
            throw error
        }
    }

    /// Sends the programs' events to the handler, from `consume` on the thread that calls it.
    func events(_ handler: @escaping (baton_event) -> Void) throws(BPFError) -> BPFRingBuffer {
        try object.events { bytes in
            guard bytes.count >= MemoryLayout<baton_event>.size else { return }
            handler(bytes.loadUnaligned(as: baton_event.self))
        }
    }

    /// Writes lease and fence; the very next frame is judged by them.
    func setRules(leaseUntil: UInt64, fenced: Bool) throws(BPFError) {
        try rules.put(0, baton_agent_rules(lease_until_ns: leaseUntil, fenced: fenced ? 1 : 0))
    }

    /// The mark of a VIP that the agent itself has put on `lo`; the map is pinned, so the next run knows it.
    static let addedByUs: UInt32 = 2

    /// Makes exactly these addresses VIPs for the programs.
    func setVIPs(_ addresses: [IPAddress], added: [IPAddress]) throws(BPFError) {
        let wanted = addresses.map(ContractAddress.init)
        for entry in try vips.entries() where !wanted.contains(entry.key) { try vips.delete(entry.key) }
        for address in addresses {
            try vips.put(ContractAddress(address), added.contains(address) ? AgentDataPlane.addedByUs : 1)
        }
    }

    /// The VIPs of an earlier run, with their marks.
    func knownVIPs() throws(BPFError) -> [(IPAddress, UInt32)] {
        try vips.entries().map { ($0.key.address, $0.value) }
    }

    /// Detaches the programs and removes the pins; goes on after a failure.
    func remove() {
        AgentDataPlane.remove(hooks: hooks, destroying: ownsInterfaceHook ? hooks[1] : nil, folder: folder)
    }

    private static func remove(hooks: [TrafficControlHook], destroying own: TrafficControlHook?, folder: String) {
        for hook in hooks { try? hook.detach() }
        if let own { try? own.destroy() }
        for (name, _) in tracing { try? BPFLink.unpin(folder + "/" + name) }
        try? BPFFileSystem.remove(folder: folder)
    }
}

/// Keeps the loaded object, from which maps and programs are taken by name.
private final class LoadedAgentObject {
    private var handle: BPFObjectHandle

    init(folder: String, namespace: UInt32, tun: UInt32, connectionsLimit: UInt32) throws(BPFError) {
        handle = try BPFObjectHandle(.agent)
        try handle.setMaxEntries(of: "connections", connectionsLimit)
        try handle.setConstant("own_netns_inode", namespace)
        try handle.setConstant("tun_interface", tun)
        try handle.setConstant("agent_mark", AgentDataPlane.ownMark)
        _ = try handle.load(
            pinningMapsIn: folder,
            layoutVersion: UInt32(BATON_LAYOUT_VERSION),
            history: .agent,
            maps: ["connections", "guarded", "rules", "vips"]
        )
    }

    func program(_ name: String) throws(BPFError) -> BPFProgram { try handle.program(name) }
    func connections() throws(BPFError) -> BPFMap<baton_connection_key, baton_connection> {
        try handle.map("connections")
    }
    func guarded() throws(BPFError) -> BPFMap<baton_connection_key, UInt64> { try handle.map("guarded") }
    func released() throws(BPFError) -> BPFMap<baton_connection_key, UInt32> { try handle.map("released") }
    func vips() throws(BPFError) -> BPFMap<AgentDataPlane.ContractAddress, UInt32> { try handle.map("vips") }
    func rules() throws(BPFError) -> BPFMap<UInt32, baton_agent_rules> { try handle.map("rules") }
    func counters() throws(BPFError) -> BPFCounters { try handle.counters("counters") }
    func events(_ handler: @escaping (UnsafeRawBufferPointer) -> Void) throws(BPFError) -> BPFRingBuffer {
        try handle.ringBuffer("events", handler: handler)
    }
}
