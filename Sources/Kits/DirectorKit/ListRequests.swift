import AdminProtocol
import CContract
import Cluster
import Configuration
import ControlPlane
import LinuxBPF
import LinuxBase
import Model
import NIOCore
import NIOPosix
import Wire

// What `batonctl list` and `zero` ask of the director, by ipvsadm's words. On the control thread.

extension DirectorRuntime {
    static let listCommands = ["list", "connections", "zero"]

    /// Carries out one of `listCommands`; nil for another command.
    func answerList(_ request: AdminRequest) -> AdminAnswer? {
        switch request.command {
        case "list": .later(listServices())
        case "connections": listConnections(request.arguments)
        case "zero": zero(request.arguments["service"])
        default: nil
        }
    }

    // MARK: Rates

    /// A look at each service's counters costs about two microseconds.
    func sampleRates() {
        let now = MonotonicClock.now()
        let elapsed = sampledAt.map { now - $0 } ?? .zero
        sampledAt = now
        for id in host.serviceIDs {
            guard let sums = try? host.plane.serviceCounters.sum(UInt32(id.rawValue)) else { continue }
            rates[id, default: ServiceRates()].sample(sums, after: elapsed)
        }
        for id in rates.keys where !host.serviceIDs.contains(id) { rates[id] = nil }
    }

    // MARK: Services

    /// What the maps say is read on a thread that may wait: eight kilobytes of loads a service.
    private func listServices() -> EventLoopFuture<[UInt8]> {
        let entries = zip(configuration.services, host.serviceIDs).map { service, id in
            (service, id, rates[id] ?? ServiceRates())
        }
        let servers = StatusReport(runtime: self).backends()
        let holders = machine.slotHolders
        let plane = host.plane
        return walker.runIfActive(eventLoop: loop) {
            let services = try entries.map { service, id, rates in
                try ServiceList.Service(
                    service, plane: plane, id: id, rates: rates, servers: servers, holders: holders)
            }
            return try AdminJSON.encode(ServiceList(services: services))
        }
    }

    // MARK: Zero

    private func zero(_ name: String?) -> AdminAnswer {
        let chosen = zip(configuration.services, host.serviceIDs).filter { name == nil || $0.0.name == name }
        guard !chosen.isEmpty else {
            let names = configuration.services.map(\.name).joined(separator: ", ")
            return .failure("no service \"\(name ?? "")\"; there are: \(names)")
        }
        do {
            for (_, id) in chosen {
                try host.zeroCounters(of: id)
                rates[id] = nil
            }
        } catch {
            return .failure("\(error)")
        }
        return .encoding(ZeroedCounters(services: chosen.map(\.0.name)))
    }
}

extension DirectorMachine {
    /// The name of each slot's holder.
    var slotHolders: [Int: String] {
        var holders: [Int: String] = [:]
        for slot in slots {
            if let holder = holder(of: slot.id) { holders[Int(slot.id.rawValue)] = holder }
        }
        return holders
    }
}

extension DirectorHost {
    /// What frames count meanwhile may be lost.
    func zeroCounters(of id: ServiceID) throws {
        try plane.serviceCounters.reset(UInt32(id.rawValue))
        try plane.copyCounters.reset(UInt32(id.rawValue))
    }
}

extension ServiceList.Service {
    fileprivate init(
        _ service: Configuration.DirectorConfiguration.Service,
        plane: DirectorPlane,
        id: ServiceID,
        rates: ServiceRates,
        servers: [DirectorStatus.Backend],
        holders: [Int: String]
    ) throws {
        let sums = try plane.serviceCounters.sum(UInt32(id.rawValue))
        let loads = try plane.loads.get(UInt32(id.rawValue)) ?? baton_loads()
        let corrections = try plane.loadCorrections.get(UInt32(id.rawValue)) ?? baton_loads()
        var active: [String: Int] = [:]
        var inactive: [String: Int] = [:]
        for (slot, holder) in holders where slot < Limits.slots {
            active[holder, default: 0] += Self.count(loads[slot].active, corrections[slot].active)
            inactive[holder, default: 0] += Self.count(loads[slot].inactive, corrections[slot].inactive)
        }
        self.init(
            name: service.name,
            protocol: service.transport.rawValue.uppercased(),
            address: service.addressText,
            scheduler: service.policy,
            flags: service.listFlags,
            timeouts: ServiceList.Timeouts(service),
            stats: ServiceList.Stats(conns: sums[2], inPkts: sums[0] &+ sums[1], inBytes: sums[3]),
            rate: ServiceList.Rate(
                cps: rates.connections.perSecond, inPps: rates.packets.perSecond, inBps: rates.bytes.perSecond),
            servers: servers.map {
                ServiceList.Server(
                    name: $0.name, address: $0.address, weight: $0.weight, state: $0.state,
                    active: active[$0.name] ?? 0, inactive: inactive[$0.name] ?? 0)
            }
        )
    }

    /// What the data plane has counted and what was put right, modulo 2^32; a negative sum counts as none.
    private static func count(_ load: UInt32, _ correction: UInt32) -> Int {
        max(Int(Int32(bitPattern: load &+ correction)), 0)
    }
}

extension Configuration.DirectorConfiguration.Service {
    /// What stands behind the scheduler, as ipvsadm's flags do.
    fileprivate var listFlags: [String] {
        var flags = policyOptions.sorted { $0.key < $1.key }.filter { $0.value != 0 }.map { key, value in
            value == 1 ? "\(policy)-\(key)" : "\(policy)-\(key) \(value)"
        }
        if let persistence {
            flags.append("persistent \(persistence.timeout.nanoseconds / 1_000_000_000)")
            if persistence.netmask != 32 { flags.append("mask \(persistence.netmask)") }
        }
        if replay != .none { flags.append("replay \(replay.name)") }
        if forwarding != "selective" { flags.append(forwarding) }
        return flags
    }
}

extension ServiceList.Timeouts {
    fileprivate init(_ service: Configuration.DirectorConfiguration.Service) {
        let seconds = { (interval: Interval) in Double(interval.nanoseconds) / 1e9 }
        let timeouts = service.timeouts
        self.init(
            tcp: seconds(timeouts.tcp), tcpfin: seconds(timeouts.tcpfin), udp: seconds(timeouts.udp),
            handshake: seconds(timeouts.handshake), reset: service.resetOnTimeout)
    }
}
