import CContract
import Configuration
import LinuxBPF
import Model
import Wire

// What the data plane calls the services of the configuration.

extension Configuration.DirectorConfiguration.Service {
    /// The entries of the map `services` for ports that stand alone.
    var singlePortKeys: [baton_service_key] {
        singlePorts.map { baton_service_key(address: address.address, port: $0, protocol: transport.number) }
    }

    /// The entry of the map `port_ranges`, which it shares with other services of its address and protocol.
    var rangeKey: baton_service_key {
        baton_service_key(address: address.address, port: 0, protocol: transport.number)
    }

    /// What agents are told: port 0 where there is nothing that they could track or check.
    var agentEndpoint: Endpoint {
        isForwardedOnly ? Endpoint(address: address.address, port: 0) : address
    }
}

/// A key that can be compared.
private struct KeyName: Hashable {
    var address: IPAddress
    var port: UInt16
    var number: UInt8

    init(_ key: baton_service_key) {
        address = key.serviceAddress
        // The number of a service stands there in host order; it is only compared.
        port = key.port
        number = key.protocol
    }
}

/// The ranges of all services, by address and protocol.
struct PortRanges {
    let values: [(key: baton_service_key, value: baton_port_ranges)]
    private let names: Set<KeyName>

    init(_ services: [(Configuration.DirectorConfiguration.Service, ServiceID)]) {
        var values: [(key: baton_service_key, value: baton_port_ranges)] = []
        var names: Set<KeyName> = []
        for (service, _) in services where !service.portRanges.isEmpty {
            guard names.insert(KeyName(service.rangeKey)).inserted else { continue }
            let sharing = services.filter { KeyName($0.0.rangeKey) == KeyName(service.rangeKey) }
            // `all` behind the others: the first range that has the port counts.
            var ranges: [(ports: ClosedRange<UInt16>, service: UInt16)] = []
            for isAll in [false, true] {
                for (service, id) in sharing where (service.ports?.isAll ?? false) == isAll {
                    for ports in service.portRanges { ranges.append((ports, id.rawValue)) }
                }
            }
            values.append((service.rangeKey, baton_port_ranges(ranges)))
        }
        self.values = values
        self.names = names
    }

    func contains(_ key: baton_service_key) -> Bool { names.contains(KeyName(key)) }
}

/// The entries of the map `services` that the configured services have.
struct ServiceEntries {
    private var ids: [KeyName: UInt16] = [:]

    init(_ services: [(Configuration.DirectorConfiguration.Service, ServiceID)]) {
        for (service, id) in services {
            for key in service.singlePortKeys { ids[KeyName(key)] = id.rawValue }
            ids[KeyName(baton_service_key(number: id.rawValue))] = id.rawValue
        }
    }

    func contains(_ key: baton_service_key, _ value: baton_service) -> Bool { ids[KeyName(key)] == value.id }
}

/// The services that an earlier run has left in the maps: each keeps its number, for flow keys hold it.
struct PinnedServices {
    private var singles: [KeyName: UInt16] = [:]
    private var ranges: [KeyName: [(ports: ClosedRange<UInt16>, service: UInt16)]] = [:]
    private var taken: Set<UInt16> = []

    init(_ plane: DirectorPlane) throws {
        for entry in try plane.services.entries() where !entry.key.isNumber { singles[KeyName(entry.key)] = entry.value.id }
        for entry in try plane.portRanges.entries() { ranges[KeyName(entry.key)] = entry.value.ranges }
    }

    /// The number that a service had, if any of its ports was there; a number is given once.
    mutating func take(_ service: Configuration.DirectorConfiguration.Service) -> UInt16? {
        let bySingle = service.singlePortKeys.compactMap { singles[KeyName($0)] }
        let former = ranges[KeyName(service.rangeKey)] ?? []
        let byRange = service.portRanges.compactMap { range in former.first { $0.ports == range }?.service }
        guard let number = (bySingle + byRange).first(where: { !taken.contains($0) }) else { return nil }
        taken.insert(number)
        return number
    }

    /// Removes all entries but those of these services; returns what is left, each service once.
    func forgetOthers(
        _ plane: DirectorPlane, keeping services: [(Configuration.DirectorConfiguration.Service, ServiceID)]
    ) throws -> [baton_service] {
        let wanted = ServiceEntries(services)
        var kept: [UInt16: baton_service] = [:]
        for entry in try plane.services.entries() {
            if wanted.contains(entry.key, entry.value) {
                kept[entry.value.id] = entry.value
            } else {
                try plane.services.delete(entry.key)
            }
        }
        return kept.values.sorted { $0.id < $1.id }
    }
}
