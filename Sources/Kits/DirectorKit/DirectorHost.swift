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
    /// Changed by `adopt` alone.
    var configuration: Configuration.DirectorConfiguration
    private let logger: Logger
    let addresses: AddressManager
    /// The numbers of the configured services, in their order.
    var serviceIDs: [ServiceID] = []
    /// A service keeps the number that it has in the pinned maps, also when it is away for a while: flow keys hold it.
    var numbers: [ServicePlace: ServiceID] = [:]
    /// Where the search for a free number begins.
    var nextNumber: UInt16 = 0
    /// VIPs that this run has put on the interface, and those that it has told the network of.
    var addedVIPs: Set<IPAddress> = []
    var announcedVIPs: Set<IPAddress> = []
    var planRoom = PlanRoom(rows: Int(BATON_PLAN_PLACES) / Int(BATON_PLAN_ROW))
    /// Which of a service's two elements of the map `candidates` is in use.
    var planHalf: [ServiceID: UInt32] = [:]
    /// The first row of the table in use.
    var formerStart: [ServiceID: Int] = [:]
    /// Services whose plan weighs the load of slots.
    var weighing: Set<ServiceID> = []
    /// A service keeps its hash while it is pinned: a restart must not send clients elsewhere.
    var secrets: [ServiceID: UInt32] = [:]
    /// The back-ends whose thresholds the slots have.
    var thresholdsWritten: [SlotID: String] = [:]

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
                flows: UInt32(configuration.flows.size), halfOpen: UInt32(configuration.flows.halfOpen),
                datagramFlows: UInt32(configuration.flows.udp), interfaceAddress: interface.address, leaving: leaving.map { ($0.index, $0.address) }),
            interface: interface.index,
            pins: configuration.state,
            modes: attachModes
        )
        plane = start.plane
        mode = try BPFLink.xdpMode(of: interface.index)?.rawValue ?? "none"
        try adoptPinnedServices()
        try publishLimitOfAll()
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
    func setForwarding(_ number: UInt8, of service: Configuration.DirectorConfiguration.Service) throws {
        let keys = service.singlePortKeys
        guard let key = keys.first, var value = try plane.services.get(key), value.forwarding != number else { return }
        value.forwarding = number
        try plane.setService(value, singlePorts: keys)
    }
}
