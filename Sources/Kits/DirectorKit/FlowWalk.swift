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
    /// A closed flow that has been idle for so long is certainly not served any more, unless its server thinks for longer
    /// about a request whose client has closed its half.
    private static let servedIdle: UInt64 = 10 * 1_000_000_000

    /// Of flows whose service is configured no more.
    private static let usual = Configuration.DirectorConfiguration.Timeouts()

    /// What a walk has found.
    struct Count: Sendable {
        var slots: [SlotFlows]
        /// Flows that were forgotten for their idleness.
        var timedOut: UInt64
        /// Those of them whose ends shall know.
        var resets: [TimedOutFlow]
    }

    /// Flows forgotten in one walk; the next one finds the others.
    private static let overdueLimit = 65_536

    /// Living flows of each slot; what the data plane has counted wrong is put right, and what has been idle for too long
    /// is forgotten.
    ///
    /// - Parameter timeouts: by the service's number.
    static func count(
        _ plane: DirectorPlane, services: [ServiceID], timeouts: [FlowTimeouts?]
    ) throws -> Count {
        var counts = [UInt32](repeating: 0, count: Limits.slots)
        var busy = counts
        var tallies = try LoadTallies(plane, services: services)
        let instant = MonotonicClock.now()
        let now = instant.nanoseconds
        func isOver(_ phase: FlowPhase, _ key: baton_flow_key, _ flow: baton_flow) -> Bool {
            let own = Int(key.service) < timeouts.count ? timeouts[Int(key.service)] : nil
            return (own ?? FlowTimeouts(usual)).isOver(phase, lastSeen: flow.last_seen_ns, now: instant)
        }
        func add(_ key: baton_flow_key, _ flow: baton_flow) {
            guard Int(flow.slot) < counts.count else { return }
            let isClosing = flow.flags & UInt8(BATON_FLOW_CLOSING.rawValue) != 0
            let age = now &- min(flow.last_seen_ns, now)
            counts[Int(flow.slot)] += 1
            if !isClosing || age < servedIdle { busy[Int(flow.slot)] += 1 }
            tallies.add(service: key.service, slot: Int(flow.slot), isClosing: isClosing)
        }
        func walk(_ map: BPFMap<baton_flow_key, baton_flow>) throws -> Overdue {
            var overdue: Overdue = []
            try map.forEach { key, flow in
                if !isOver(FlowPhase(key, flow), key, flow) {
                    add(key, flow)
                } else if overdue.count < overdueLimit {
                    overdue.append((key, flow))
                }
            }
            return overdue
        }
        let forgotten = try forget(try walk(plane.flows), plane, timeouts)
        for map in [plane.halfOpen, plane.datagramFlows] { _ = try delete(try walk(map), from: map) }
        try tallies.correct(plane)
        for service in services { try Thresholds.judge(plane, service: service) }
        let slots = counts.indices.filter { counts[$0] > 0 }.map {
            SlotFlows(slot: SlotID(rawValue: UInt16($0)), flows: counts[$0], busy: busy[$0])
        }
        return Count(slots: slots, timedOut: forgotten.count, resets: forgotten.resets)
    }

    private typealias Overdue = [(key: baton_flow_key, flow: baton_flow)]

    /// Deletes flows, but for those that a frame has come for meanwhile; returns what it has deleted.
    private static func delete(
        _ idle: Overdue, from map: BPFMap<baton_flow_key, baton_flow>
    ) throws -> Overdue {
        try idle.filter { key, flow in
            guard let present = try map.get(key), present.last_seen_ns == flow.last_seen_ns else { return false }
            return try map.delete(key)
        }
    }

    private static func forget(
        _ overdue: Overdue, _ plane: DirectorPlane, _ timeouts: [FlowTimeouts?]
    ) throws -> (count: UInt64, resets: [TimedOutFlow]) {
        let deleted = try delete(overdue, from: plane.flows)
        var resets: [TimedOutFlow] = []
        for (key, flow) in deleted {
            // One whose client has closed it is not idle but over.
            guard timeouts[Int(key.service)]?.reset == true, FlowPhase(key, flow) == .established else { continue }
            let client = Endpoint(address: key.clientAddress, port: key.clientPort)
            let reset = FlowReset(client: client, service: ServiceID(rawValue: key.service), port: key.servicePort)
            resets.append(TimedOutFlow(slot: SlotID(rawValue: flow.slot), flow: reset))
        }
        return (UInt64(deleted.count), resets)
    }

    /// What flows are called, as it was when the walk began.
    struct Names: Sendable {
        /// The VIPs of services by number.
        var services: [Int: IPAddress]
        var owners: [Int: String]

        init(machine: DirectorMachine, host: DirectorHost) {
            services = [:]
            for id in host.serviceIDs { services[Int(id.rawValue)] = host.service(id)?.address.address }
            owners = machine.slotHolders
        }
    }

    /// The first flows in the kernel's order, and how many there are.
    static func list(
        _ plane: DirectorPlane,
        limit: Int,
        names: Names
    ) throws -> FlowList {
        var list = FlowList(total: 0, flows: [])
        let now = MonotonicClock.now().nanoseconds
        func add(_ key: baton_flow_key, _ flow: baton_flow) {
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
        for map in [plane.flows, plane.halfOpen, plane.datagramFlows] { try map.forEach { key, flow in add(key, flow) } }
        return list
    }

    private static func name(of key: baton_flow_key, at vip: IPAddress) -> String {
        let endpoint = Endpoint(address: vip, port: key.servicePort)
        return key.protocol == TransportProtocol.udp.number ? "\(endpoint)/udp" : "\(endpoint)"
    }
}
