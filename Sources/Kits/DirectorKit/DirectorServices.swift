import CContract
import Configuration
import LinuxBPF
import LinuxBase
import LinuxNetwork
import Model
import Wire

/// Which number a service has in the maps, and where its VIP is.
extension DirectorHost {
    /// At the start: services of the pinned maps keep their numbers, for the keys of their flows hold them; and what is
    /// configured no more is forgotten by the data plane.
    func adoptPinnedServices() throws {
        for entry in try plane.services.entries() {
            let endpoint = Self.endpoint(entry.key)
            if configuration.services.contains(where: { $0.address == endpoint }) {
                numbers[endpoint] = ServiceID(rawValue: entry.value.id)
                keep(entry.value)
            } else {
                try plane.services.delete(entry.key)
            }
        }
        try adopt(configuration)
    }

    /// Numbers for the services of a configuration, which becomes the host's own.
    ///
    /// A service keeps its number, also when it comes back after a while; a new one gets that which was free longest: what
    /// is on its way of another service, such as a heartbeat, must not be taken for its own.
    func adopt(_ new: Configuration.DirectorConfiguration) throws {
        for service in new.services where numbers[service.address] == nil {
            numbers[service.address] = try freeNumber(besides: Set(new.services.map(\.address)))
        }
        serviceIDs = new.services.map { numbers[$0.address] ?? ServiceID(rawValue: 0) }
        configuration = new
    }

    private func freeNumber(besides endpoints: Set<Endpoint>) throws -> ServiceID {
        let count = UInt16(Limits.services)
        let used = Set(numbers.values)
        let inUse = Set(endpoints.union(configuration.services.map(\.address)).compactMap { numbers[$0] })
        let order = (0..<count).map { ServiceID(rawValue: (nextNumber + $0) % count) }
        // One of a service that is gone is forgotten only when there is no other.
        guard let id = order.first(where: { !used.contains($0) }) ?? order.first(where: { !inUse.contains($0) }) else {
            throw DirectorFailure("no number for another service: \(count) are in use; apply the change in two parts")
        }
        for (endpoint, number) in numbers where number == id { numbers[endpoint] = nil }
        nextNumber = (id.rawValue + 1) % count
        secrets[id] = UInt32(truncatingIfNeeded: try Randomness.number())
        // The number may have been another service's.
        try plane.loads.put(UInt32(id.rawValue), baton_loads())
        try plane.loadCorrections.put(UInt32(id.rawValue), baton_loads())
        try zeroCounters(of: id)
        return id
    }

    /// Takes the services that are configured no more out of the data plane, and VIPs that have none any more off the
    /// interface, as far as this run has put them there.
    func dropFormerServices() throws {
        let wanted = Set(configuration.services.map(\.address))
        for vip in addedVIPs.subtracting(wanted.map(\.address)).sorted() {
            _ = try addresses.remove(vip, from: configuration.interface)
            addedVIPs.remove(vip)
        }
        for entry in try plane.services.entries() where !wanted.contains(Self.endpoint(entry.key)) {
            try plane.services.delete(entry.key)
            let id = ServiceID(rawValue: entry.value.id)
            planRoom.keepNone(of: id.rawValue)
            formerStart[id] = nil
            planHalf[id] = nil
            weighing.remove(id)
        }
    }

    /// Puts VIPs on the interface and tells the network where they are; those that this run has announced stay as they
    /// are.
    func announce() throws {
        let wanted = Set(configuration.services.map(\.address.address))
        for vip in wanted.subtracting(announcedVIPs).sorted() {
            if try addresses.add(vip, to: configuration.interface) { addedVIPs.insert(vip) }
            if vip.isIPv4 { try ARPAnnouncer.announce(vip, on: configuration.interface) }
            announcedVIPs.insert(vip)
        }
        announcedVIPs.formIntersection(wanted)
    }

    /// The configured service of a number.
    func service(_ id: ServiceID) -> Configuration.DirectorConfiguration.Service? {
        serviceIDs.firstIndex(of: id).map { configuration.services[$0] }
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

    private static func endpoint(_ key: baton_service_key) -> Endpoint {
        Endpoint(address: IPAddress(contract: key.address), port: UInt16(bigEndian: key.port))
    }
}
