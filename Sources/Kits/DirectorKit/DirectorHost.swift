import CContract
import Cluster
import Configuration
import LinuxBPF
import LinuxBase
import LinuxNetwork
import Logging
import Model
import ModuleInterfaces
import Wire

/// What the director changes on its machine: the XDP data plane with its pins, and the VIPs on the interface.
///
/// Belongs to the control thread.
final class DirectorHost {
    let address: IPAddress
    let interface: NetworkInterface
    let plane: DirectorPlane
    /// How the program sits at the interface: `native` or `generic`.
    let mode: String
    private let configuration: Configuration.DirectorConfiguration
    private let logger: Logger
    private let addresses: AddressManager
    /// A service keeps the number that it has in the pinned maps: flow keys hold it.
    private(set) var serviceIDs: [ServiceID] = []
    var planRoom = PlanRoom(rows: Int(BATON_PLAN_PLACES) / Int(BATON_PLAN_ROW))
    /// Which of a service's two elements of the map `candidates` is in use.
    var planHalf: [ServiceID: UInt32] = [:]
    /// The first row of the table in use.
    var formerStart: [ServiceID: Int] = [:]
    /// Services whose plan weighs the load of slots.
    var weighing: Set<ServiceID> = []
    /// A service keeps its hash while it is pinned: a restart must not send clients elsewhere.
    private(set) var secrets: [ServiceID: UInt32] = [:]
    /// The back-ends whose thresholds the slots have.
    var thresholdsWritten: [SlotID: String] = [:]
    var backends: [Configuration.DirectorConfiguration.Backend] { configuration.backends }
    /// New flows of all services together.
    var limitOfAll: Configuration.DirectorConfiguration.Rate? { configuration.flows.rate }

    init(configuration: Configuration.DirectorConfiguration, logger: Logger) throws {
        self.configuration = configuration
        self.logger = logger
        try Privilege.requireRoot(for: "run baton-director")
        addresses = try AddressManager()
        interface = try addresses.interface(named: configuration.interface)
        guard let address = interface.ipv4 else {
            throw DirectorFailure("interface \(configuration.interface) has no IPv4 address; give it one")
        }
        self.address = address
        try BPFFileSystem.prepare(folder: configuration.state)
        let attachModes: Set<XDPMode> =
            switch configuration.xdp {
            case .native: [.native]
            case .generic: [.generic]
            case .auto: [.native, .generic]
            }
        let start = try DirectorPlane.start(
            DirectorPlane.Configuration(
                flows: UInt32(configuration.flows.size), halfOpen: UInt32(configuration.flows.halfOpen),
                interfaceAddress: interface.address),
            interface: interface.index,
            pins: configuration.state,
            modes: attachModes
        )
        plane = start.plane
        mode = try BPFLink.xdpMode(of: interface.index)?.rawValue ?? "none"
        try adoptServices()
        try publishLimitOfAll()
    }

    /// Puts the VIPs on the interface and tells the network where they are.
    func announce() throws {
        for vip in Set(configuration.services.map(\.address.address)).sorted() {
            _ = try addresses.add(vip, to: configuration.interface)
            if vip.isIPv4 { try ARPAnnouncer.announce(vip, on: configuration.interface) }
        }
    }

    /// Numbers for the configured services: known ones keep theirs, new ones get free ones, and what is configured no more
    /// is forgotten by the data plane.
    func adoptServices() throws {
        var known: [Endpoint: UInt16] = [:]
        for entry in try plane.services.entries() {
            let endpoint = Endpoint(
                address: IPAddress(contract: entry.key.address), port: UInt16(bigEndian: entry.key.port))
            if configuration.services.contains(where: { $0.address == endpoint }) {
                known[endpoint] = entry.value.id
                keep(entry.value)
            } else {
                try plane.services.delete(entry.key)
            }
        }
        var free = (0..<UInt16(Limits.services)).filter { number in !known.values.contains(number) }[...]
        serviceIDs = configuration.services.map { service in
            ServiceID(rawValue: known[service.address] ?? free.popFirst() ?? 0)
        }
        for id in serviceIDs where secrets[id] == nil {
            secrets[id] = UInt32(truncatingIfNeeded: try Randomness.number())
            // The number may have been another service's.
            try plane.loads.put(UInt32(id.rawValue), baton_loads())
            try plane.loadCorrections.put(UInt32(id.rawValue), baton_loads())
        }
    }

    /// What an earlier run's plan has in the maps is in use until the next plan.
    private func keep(_ value: baton_service) {
        let id = ServiceID(rawValue: value.id)
        let row = Int(BATON_PLAN_ROW)
        secrets[id] = value.hash_secret
        planHalf[id] = value.candidates % 2
        guard value.plan_length > 0 else { return }
        let start = Int(value.plan_offset) / row
        planRoom.reserve(start: start, count: (Int(value.plan_length) + row - 1) / row, for: value.id)
        formerStart[id] = start
    }

    /// The configured service of a number.
    func service(_ id: ServiceID) -> Configuration.DirectorConfiguration.Service? {
        serviceIDs.firstIndex(of: id).map { configuration.services[$0] }
    }

    // MARK: Slots

    /// The record first: what the next life of this daemon must know is safe before the data plane follows it.
    func publish(_ publication: SlotPublication) throws {
        let index = UInt32(publication.slot.rawValue)
        try plane.slotRecords.put(index, baton_slot_record(publication.record))
        try publishThresholds(of: publication.slot, backend: publication.record.backend)
        if let members = publication.members {
            try plane.slotCopies.put(index, baton_copies(members: members))
        }
        var flags: UInt16 = 0
        if publication.active { flags |= UInt16(BATON_SLOT_ACTIVE.rawValue) }
        if publication.takeOver { flags |= UInt16(BATON_SLOT_TAKEOVER.rawValue) }
        let before = try plane.slots.get(index)
        let owner = publication.owner ?? before?.ownerAddress ?? MACAddress(rawValue: 0)
        if before?.ownerAddress != owner, let before, before.flags & UInt16(BATON_SLOT_ACTIVE.rawValue) != 0 {
            // The program may read an array's value while it is copied: change the owner while nobody reads it.
            let takeOver = UInt16(BATON_SLOT_ACTIVE.rawValue | BATON_SLOT_TAKEOVER.rawValue)
            try plane.slots.put(index, baton_slot(owner: owner, group: publication.group, flags: takeOver))
        }
        try plane.slots.put(index, baton_slot(owner: owner, group: publication.group, flags: flags))
    }

    func records() throws -> [SlotRecord] {
        try plane.slotRecords.entries().compactMap { SlotRecord(slot: SlotID(rawValue: UInt16($0.key)), $0.value) }
            .sorted { $0.slot < $1.slot }
    }

    /// Changes how a service is forwarded from the next frame on; one without a plan yet has no frames either.
    func setForwarding(_ number: UInt8, at endpoint: Endpoint) throws {
        let key = baton_service_key(address: endpoint.address, port: endpoint.port)
        guard var value = try plane.services.get(key), value.forwarding != number else { return }
        value.forwarding = number
        try plane.setService(key, value)
    }
}
