import AdminProtocol
import CContract
import Cluster
import Configuration
import LinuxBPF
import LinuxBase
import Model
import Wire

/// Walks the kernel's flow table; on any thread but the control thread.
enum FlowWalk {
    /// A flow that is idle for so long does not keep its slot; one that was closed need not wait as long. A client that
    /// has closed its half may still be served, so the flag alone says nothing.
    private static let idle: UInt64 = 3600 * 1_000_000_000
    private static let closingIdle: UInt64 = 120 * 1_000_000_000

    /// A closed flow that has been idle for so long is certainly not served any more, unless its server thinks for longer
    /// about a request whose client has closed its half.
    private static let servedIdle: UInt64 = 10 * 1_000_000_000

    /// A SYN that nothing followed for so long opens nothing any more (IPVS: SYN_RECV).
    private static let handshakeIdle: UInt64 = 60 * 1_000_000_000

    /// Living flows of each slot; and what the data plane has counted wrong is put right.
    static func count(_ plane: DirectorPlane, services: [ServiceID]) throws -> [SlotFlows] {
        var counts = [UInt32](repeating: 0, count: Limits.slots)
        var busy = counts
        var tallies = try LoadTallies(plane, services: services)
        let now = MonotonicClock.now().nanoseconds
        let limits = try idleLimits(plane)
        try plane.flows.forEach { key, flow in
            let isClosing = flow.flags & UInt8(BATON_FLOW_CLOSING.rawValue) != 0
            let isEstablished = flow.flags & UInt8(BATON_FLOW_ESTABLISHED.rawValue) != 0
            let age = now &- min(flow.last_seen_ns, now)
            guard Int(flow.slot) < counts.count, age < (isClosing ? closingIdle : limits[key.service] ?? idle)
            else { return }
            counts[Int(flow.slot)] += 1
            if !isClosing || age < servedIdle { busy[Int(flow.slot)] += 1 }
            guard isClosing || isEstablished || age < handshakeIdle else { return }
            tallies.add(service: key.service, slot: Int(flow.slot), isClosing: isClosing)
        }
        try tallies.correct(plane)
        return counts.indices.filter { counts[$0] > 0 }.map {
            SlotFlows(slot: SlotID(rawValue: UInt16($0)), flows: counts[$0], busy: busy[$0])
        }
    }

    /// How long a flow of UDP may be silent, by the service's number.
    private static func idleLimits(_ plane: DirectorPlane) throws -> [UInt16: UInt64] {
        var limits: [UInt16: UInt64] = [:]
        for entry in try plane.services.entries() where entry.value.idle_s > 0 {
            limits[entry.value.id] = UInt64(entry.value.idle_s) * 1_000_000_000
        }
        return limits
    }

    /// What flows are called, as it was when the walk began.
    struct Names: Sendable {
        /// The VIPs of services by number.
        var services: [Int: IPAddress]
        var owners: [Int: String]

        init(machine: DirectorMachine, host: DirectorHost) {
            services = [:]
            for id in host.serviceIDs { services[Int(id.rawValue)] = host.service(id)?.address.address }
            owners = [:]
            for slot in machine.slots {
                if let holder = machine.holder(of: slot.id) { owners[Int(slot.id.rawValue)] = holder }
            }
        }
    }

    /// The first flows in the kernel's order, and how many there are.
    static func list(
        _ flows: BPFMap<baton_flow_key, baton_flow>,
        limit: Int,
        names: Names
    ) throws -> FlowList {
        var list = FlowList(total: 0, flows: [])
        let now = MonotonicClock.now().nanoseconds
        try flows.forEach { key, flow in
            list.total += 1
            guard list.flows.count < limit else { return }
            let isClosing = flow.flags & UInt8(BATON_FLOW_CLOSING.rawValue) != 0
            let isEstablished = flow.flags & UInt8(BATON_FLOW_ESTABLISHED.rawValue) != 0
            list.flows.append(
                FlowList.Flow(
                    client: "\(Endpoint(address: key.clientAddress, port: key.clientPort))",
                    service: names.services[Int(key.service)].map { name(of: key, at: $0) } ?? "?",
                    slot: Int(flow.slot),
                    owner: names.owners[Int(flow.slot)],
                    state: isClosing ? "closing" : isEstablished ? "established" : "handshake",
                    idleS: Double(now &- min(flow.last_seen_ns, now)) / 1e9
                )
            )
        }
        return list
    }

    private static func name(of key: baton_flow_key, at vip: IPAddress) -> String {
        let endpoint = Endpoint(address: vip, port: key.servicePort)
        return key.protocol == TransportProtocol.udp.number ? "\(endpoint)/udp" : "\(endpoint)"
    }
}
