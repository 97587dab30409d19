import BPFObjects
public import CContract
import Clibbpf
public import Model

/// The director's data plane in the kernel: its program, its maps, and the interface it sits at.
///
/// The daemon writes tables, the program reads them and keeps the flows. Any thread may use it.
public struct DirectorPlane: Sendable {
    public let program: BPFProgram
    /// Makes the copies of the forwarding `duplicate`, behind `program`, at the tc ingress of the same interface.
    public let duplicator: BPFProgram
    /// The same as `program`, but it changes nothing and is only run on made-up frames: `route`.
    public let router: BPFProgram
    /// By virtual address and port; written with `setService`.
    public let services: BPFMap<baton_service_key, baton_service>
    /// By virtual address and protocol, with port 0: the services that have ranges of ports. They are found by their
    /// numbers (`baton_service_key(number:)`) in `services`.
    public let portRanges: BPFMap<baton_service_key, baton_port_ranges>
    /// Datagrams of which the program has seen the first fragment.
    public let fragmented: BPFMap<baton_fragment_key, baton_fragmented>
    /// Filled by the program: an LRU, so that a new flow in a full table drives out one long unused.
    public let flows: BPFMap<baton_flow_key, baton_flow>
    /// By slot number.
    ///
    /// A put copies the value in place while the program reads it: change the owner while BATON_SLOT_TAKEOVER is set
    /// (the owner is not read then), and take the flag away with a second put.
    public let slots: BPFMap<UInt32, baton_slot>
    /// Flows of which only SYNs were seen; the ACK that completes the handshake brings them into `flows`.
    public let halfOpen: BPFMap<baton_flow_key, baton_flow>
    /// Flows of UDP; likewise.
    public let datagramFlows: BPFMap<baton_flow_key, baton_flow>
    /// By service id, and BATON_LIMIT_OF_ALL: how many new flows may begin.
    public let flowLimits: BPFMap<UInt32, baton_flow_limit>
    /// By service id: SYNs refused by the service's limit, by that of all, handshakes completed
    /// (`struct baton_flood_counters`).
    public let floodCounters: BPFCounters
    /// By service id: how many flows each slot may have.
    public let thresholds: BPFMap<UInt32, baton_thresholds>
    /// By service id: the slots that have reached their upper threshold.
    public let fullSlots: BPFMap<UInt32, baton_full_slots>
    /// The tables of dispatch plans: `putTable` a service's at free places, then point the service there.
    public let plan: BPFMap<UInt32, baton_plan_row>
    /// Two for each service id: `id * 2` and `id * 2 + 1`; written beside the one in use.
    public let candidates: BPFMap<UInt32, baton_candidates>
    /// By service id: flows of each slot as the program counts them. Never put: the program would lose counts.
    public let loads: BPFMap<UInt32, baton_loads>
    /// By service id: what is to be added to `loads`, modulo 2^32.
    public let loadCorrections: BPFMap<UInt32, baton_loads>
    /// Persistence: the slot of each client's network.
    public let clients: BPFMap<baton_client_key, baton_client>
    /// The policies `lblc` and `lblcr`: the slots of each destination.
    public let destinations: BPFMap<baton_client_key, baton_destination>
    public let slotRecords: BPFMap<UInt32, baton_slot_record>
    /// One element: indices are `enum baton_director_counter`.
    public let counters: BPFCounters
    /// By slot number: who gets copies where a service is forwarded by `duplicate`. A put exchanges the value whole.
    public let slotCopies: BPFMap<UInt32, baton_copies>
    /// By service id: copies sent, frames that could not be copied (`struct baton_copy_counters`).
    public let copyCounters: BPFCounters
    /// By service id: frames to the owner, frames to the group, new flows, bytes (`struct baton_service_counters`).
    public let serviceCounters: BPFCounters

    /// What the data plane is told before it is loaded.
    public struct Configuration: Sendable {
        /// Size of the flow table.
        public var flows: UInt32
        /// Size of the table of half-open flows.
        public var halfOpen: UInt32
        /// Size of the table of flows of UDP.
        public var datagramFlows: UInt32
        /// The interface's own address: frames to another one (flooded by a bridge) are left alone. Nil: no check.
        public var interfaceAddress: MACAddress?
        /// Two-armed: the interface by which frames leave, and its address. Nil: the one that they came in on.
        public var leaving: (index: UInt32, address: MACAddress)?

        public init(
            flows: UInt32 = UInt32(BATON_DEFAULT_FLOWS), halfOpen: UInt32 = UInt32(BATON_DEFAULT_HALF_OPEN),
            datagramFlows: UInt32 = UInt32(BATON_DEFAULT_DATAGRAM_FLOWS),
            interfaceAddress: MACAddress?, leaving: (index: UInt32, address: MACAddress)? = nil
        ) {
            self.flows = flows
            self.halfOpen = halfOpen
            self.datagramFlows = datagramFlows
            self.interfaceAddress = interfaceAddress
            self.leaving = leaving
        }
    }

    /// What became of each pinned map, and of the program at the interface.
    public struct Start: Sendable {
        public let plane: DirectorPlane
        public let maps: [PinnedMap]
        public let interface: BPFLink.Outcome
    }

    /// Loads the data plane, its maps and its link pinned in a folder, and puts it at an interface.
    ///
    /// What an earlier run left pinned there goes on: flows, tables and counters stay, the program is exchanged between
    /// two frames. The folder is looked up in the calling thread's mount namespace, the interface in its network
    /// namespace.
    /// - Throws: whatever is pinned by then stays, for the next start to find.
    public static func start(
        _ configuration: Configuration, interface: UInt32, pins folder: String, modes: Set<XDPMode> = [.native, .generic]
    ) throws(BPFError) -> Start {
        var object = try open(configuration)
        let version = UInt32(BATON_LAYOUT_VERSION)
        let maps = try object.load(pinningMapsIn: folder, layoutVersion: version, history: .director)
        let plane = try DirectorPlane(object)
        // Before the program that leaves its frames to this one.
        try BPFLink.attachOrUpdateIngress(plane.duplicator, interface: interface, pin: folder + "/" + duplicatorPin)
        let (_, outcome) = try BPFLink.attachOrUpdateXDP(
            plane.program, interface: interface, pin: folder + "/" + linkPin, modes: modes)
        try object.copyLatecomers()
        return Start(plane: plane, maps: maps, interface: outcome)
    }

    /// Loads the data plane for itself alone: nothing pinned, no interface.
    public static func load(_ configuration: Configuration) throws(BPFError) -> DirectorPlane {
        var object = try open(configuration)
        try object.load()
        return try DirectorPlane(object)
    }

    /// Takes the data plane off the interface and forgets all flows.
    public static func remove(pins folder: String) throws(BPFError) {
        try BPFFileSystem.remove(folder: folder)
    }

    /// Writes a service.
    /// - Throws: for a forwarding that the data plane does not know; it would leave such a service's frames alone.
    public func setService(_ key: baton_service_key, _ service: baton_service) throws(BPFError) {
        let known = [BATON_FORWARD_DUPLICATE, BATON_FORWARD_MULTICAST, BATON_FORWARD_SELECTIVE, BATON_FORWARD_OWNER]
        guard known.map(\.rawValue).contains(UInt32(service.forwarding)) else {
            throw BPFError(
                operation: "set", subject: "service \(service.id)", code: 0,
                cause: "the data plane has no forwarding number \(service.forwarding)",
                remedy: "choose `duplicate`, `multicast`, `selective` or `owner`"
            )
        }
        try services.put(key, service)
    }

    /// Writes a service under its number and under each of its single ports.
    ///
    /// One after the other: for a moment some ports go by the new plan, some by the one before, which both stand.
    public func setService(_ service: baton_service, singlePorts keys: [baton_service_key]) throws(BPFError) {
        try setService(baton_service_key(number: service.id), service)
        for key in keys { try setService(key, service) }
    }

    /// Writes a table from a place on, a multiple of BATON_PLAN_ROW; the rest of its last row becomes BATON_NO_SLOT.
    public func putTable(_ slots: [UInt16], from place: UInt32 = 0) throws(BPFError) {
        let row = Int(BATON_PLAN_ROW)
        let rows = stride(from: 0, to: slots.count, by: row).map { start in
            let part = slots[start..<min(start + row, slots.count)]
            return baton_plan_row(places: Array(part))
        }
        try plan.putAll(rows, from: place / UInt32(row))
    }

    private static let linkPin = "link"
    private static let duplicatorPin = "duplicate_link"

    private static func open(_ configuration: Configuration) throws(BPFError) -> BPFObjectHandle {
        var object = try BPFObjectHandle(.director)
        try object.setMaxEntries(of: "flows", configuration.flows)
        try object.setMaxEntries(of: "half_open", configuration.halfOpen)
        try object.setMaxEntries(of: "datagram_flows", configuration.datagramFlows)
        if let address = configuration.interfaceAddress {
            try object.setConstant("interface_address", address.contract)
        }
        if let leaving = configuration.leaving {
            try object.setConstant("leaving_interface", leaving.index)
            try object.setConstant("leaving_address", leaving.address.contract)
        }
        return object
    }

    private init(_ object: borrowing BPFObjectHandle) throws(BPFError) {
        program = try object.program("baton_director")
        duplicator = try object.program("baton_duplicate")
        router = try object.program("baton_route")
        slotCopies = try object.map("slot_copies")
        copyCounters = try object.counters("copy_counters")
        services = try object.map("services")
        portRanges = try object.map("port_ranges")
        fragmented = try object.map("fragmented")
        flows = try object.map("flows")
        halfOpen = try object.map("half_open")
        datagramFlows = try object.map("datagram_flows")
        flowLimits = try object.map("flow_limits")
        floodCounters = try object.counters("flood_counters")
        thresholds = try object.map("thresholds")
        fullSlots = try object.map("full_slots")
        slots = try object.map("slots")
        plan = try object.map("plan")
        candidates = try object.map("candidates")
        loads = try object.map("loads")
        loadCorrections = try object.map("load_corrections")
        clients = try object.map("clients")
        destinations = try object.map("destinations")
        slotRecords = try object.map("slot_records")
        counters = try object.counters("counters")
        serviceCounters = try object.counters("service_counters")
    }
}
