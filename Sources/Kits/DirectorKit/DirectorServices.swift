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
        var pinned = try PinnedServices(plane)
        for service in configuration.services {
            if let number = pinned.take(service) { numbers[service.place] = ServiceID(rawValue: number) }
        }
        for value in try pinned.forgetOthers(plane, keeping: numbered) { keep(value) }
        try adopt(configuration)
        try publishRanges()
        try takeFormerVIPs()
    }

    /// Numbers for the services of a configuration, which becomes the host's own.
    ///
    /// A service keeps its number, also when it comes back after a while, or gets other ports beside some that it has; a
    /// new one gets that which was free longest: what is on its way of another service, such as a heartbeat, must not be
    /// taken for its own.
    func adopt(_ new: Configuration.DirectorConfiguration) throws {
        let places = Set(new.services.map(\.place))
        for service in new.services where numbers[service.place] == nil {
            let former = configuration.services.first {
                !places.contains($0.place) && $0.sharesPort(with: service) && numbers[$0.place] != nil
            }
            let inherited = former.flatMap { numbers.removeValue(forKey: $0.place) }
            numbers[service.place] = try inherited ?? freeNumber(besides: places)
        }
        serviceIDs = new.services.map { numbers[$0.place] ?? ServiceID(rawValue: 0) }
        configuration = new
    }

    /// The configured services that have a number.
    private var numbered: [(Configuration.DirectorConfiguration.Service, ServiceID)] {
        configuration.services.compactMap { service in numbers[service.place].map { (service, $0) } }
    }

    /// Which ports of ranges are whose; a single port needs no more than its entry.
    private func publishRanges() throws {
        let ranges = PortRanges(numbered)
        for (key, value) in ranges.values { try plane.portRanges.put(key, value) }
        for entry in try plane.portRanges.entries() where !ranges.contains(entry.key) {
            try plane.portRanges.delete(entry.key)
        }
    }

    private func freeNumber(besides places: Set<ServicePlace>) throws -> ServiceID {
        let count = UInt16(Limits.services)
        let used = Set(numbers.values)
        let inUse = Set(places.union(configuration.services.map(\.place)).compactMap { numbers[$0] })
        let order = (0..<count).map { ServiceID(rawValue: (nextNumber + $0) % count) }
        // One of a service that is gone is forgotten only when there is no other.
        guard let id = order.first(where: { !used.contains($0) }) ?? order.first(where: { !inUse.contains($0) }) else {
            throw DirectorFailure("no number for another service: \(count) are in use; apply the change in two parts")
        }
        for (place, number) in numbers where number == id { numbers[place] = nil }
        nextNumber = (id.rawValue + 1) % count
        secrets[id] = UInt32(truncatingIfNeeded: try Randomness.number())
        // The number may have been another service's.
        try plane.loads.put(UInt32(id.rawValue), baton_loads())
        try plane.loadCorrections.put(UInt32(id.rawValue), baton_loads())
        try zeroCounters(of: id)
        return id
    }

    /// Takes the services that are configured no more out of the data plane, and VIPs that have none any more off the
    /// interface, as far as this run or an earlier one has put them there.
    func dropFormerServices() throws {
        let vips = Set(configuration.services.map(\.address.address))
        for vip in addedVIPs.subtracting(vips).sorted() {
            _ = try addresses.remove(vip, from: configuration.interface)
            addedVIPs.remove(vip)
        }
        try publishRanges()
        let wanted = ServiceEntries(numbered)
        for entry in try plane.services.entries() where !wanted.contains(entry.key, entry.value) {
            try plane.services.delete(entry.key)
            let id = ServiceID(rawValue: entry.value.id)
            guard !serviceIDs.contains(id) else { continue }
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
            if vip.isIPv4 {
                try ARPAnnouncer.announce(vip, on: configuration.interface)
            } else {
                try NeighbourAnnouncer.announce(vip, on: configuration.interface)
            }
            announcedVIPs.insert(vip)
        }
        announcedVIPs.formIntersection(wanted)
    }

    /// What an earlier run has put on the interface is this run's to take off, and what nobody wants any more goes at once.
    private func takeFormerVIPs() throws {
        let wanted = Set(configuration.services.map(\.address.address))
        for known in try addresses.interface(named: configuration.interface).addresses where known.isOurs {
            if wanted.contains(known.address) {
                addedVIPs.insert(known.address)
            } else {
                _ = try addresses.remove(known.address, from: configuration.interface)
            }
        }
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
}
