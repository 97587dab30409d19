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
    /// Where agents find the director: of the interface that faces them.
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

    init(configuration: Configuration.DirectorConfiguration, logger: Logger) throws {
        self.configuration = configuration
        self.logger = logger
        try Privilege.requireRoot(for: "run baton-director")
        let addresses = try AddressManager()
        self.addresses = addresses
        interface = try addresses.interface(named: configuration.interface)
        let leaving = try configuration.backendInterface.map { try addresses.interface(named: $0) }
        let facing = leaving ?? interface
        guard let address = facing.controlAddress else {
            throw DirectorFailure("interface \(facing.name) has no address; give it one, of IPv4 or IPv6")
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
                flows: UInt32(configuration.flows.size), interfaceAddress: interface.address,
                leaving: leaving.map { ($0.index, $0.address) }),
            interface: interface.index,
            pins: configuration.state,
            modes: attachModes
        )
        plane = start.plane
        mode = try BPFLink.xdpMode(of: interface.index)?.rawValue ?? "none"
        try adoptServices()
    }

    /// Puts the VIPs on the interface and tells the network where they are.
    func announce() throws {
        for vip in Set(configuration.services.map(\.address.address)).sorted() {
            _ = try addresses.add(vip, to: configuration.interface)
            if vip.isIPv4 {
                try ARPAnnouncer.announce(vip, on: configuration.interface)
            } else {
                try NeighbourAnnouncer.announce(vip, on: configuration.interface)
            }
        }
    }

    /// Numbers for the configured services: known ones keep theirs, new ones get free ones, and what is configured no more
    /// is forgotten by the data plane.
    func adoptServices() throws {
        var found = try FormerServices(plane)
        let known = configuration.services.map { found.take($0) }
        var free = (0..<UInt16(Limits.services)).filter { number in !known.contains(number) }[...]
        serviceIDs = known.map { ServiceID(rawValue: $0 ?? free.popFirst() ?? 0) }
        for value in try found.forgetOthers(plane, keeping: Array(zip(configuration.services, serviceIDs))) {
            keep(value)
        }
        try publishRanges()
        for id in serviceIDs where secrets[id] == nil {
            secrets[id] = UInt32(truncatingIfNeeded: try Randomness.number())
            // The number may have been another service's.
            try plane.loads.put(UInt32(id.rawValue), baton_loads())
            try plane.loadCorrections.put(UInt32(id.rawValue), baton_loads())
        }
    }

    /// Which ports of ranges are whose; a single port needs no more than its entry.
    private func publishRanges() throws {
        let ranges = PortRanges(Array(zip(configuration.services, serviceIDs)))
        for (key, value) in ranges.values { try plane.portRanges.put(key, value) }
        for entry in try plane.portRanges.entries() where !ranges.contains(entry.key) {
            try plane.portRanges.delete(entry.key)
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
    func setForwarding(_ number: UInt8, of service: Configuration.DirectorConfiguration.Service) throws {
        let keys = service.singlePortKeys
        guard let key = keys.first, var value = try plane.services.get(key), value.forwarding != number else { return }
        value.forwarding = number
        try plane.setService(value, singlePorts: keys)
    }
}
