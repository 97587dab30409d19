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
        func add(_ key: baton_flow_key, _ flow: baton_flow) {
            let isClosing = flow.flags & UInt8(BATON_FLOW_CLOSING.rawValue) != 0
            let isEstablished = flow.flags & UInt8(BATON_FLOW_ESTABLISHED.rawValue) != 0
            let age = now &- min(flow.last_seen_ns, now)
            guard Int(flow.slot) < counts.count, age < (isClosing ? closingIdle : idle) else { return }
            counts[Int(flow.slot)] += 1
            if !isClosing || age < servedIdle { busy[Int(flow.slot)] += 1 }
            guard isClosing || isEstablished || age < handshakeIdle else { return }
            tallies.add(service: key.service, slot: Int(flow.slot), isClosing: isClosing)
        }
        try plane.flows.forEach { key, flow in add(key, flow) }
        // What nobody has completed in a minute opens nothing any more.
        try plane.halfOpen.forEach { key, flow in
            if now &- min(flow.last_seen_ns, now) < handshakeIdle { add(key, flow) }
        }
        try tallies.correct(plane)
        for service in services { try Thresholds.judge(plane, service: service) }
        return counts.indices.filter { counts[$0] > 0 }.map {
            SlotFlows(slot: SlotID(rawValue: UInt16($0)), flows: counts[$0], busy: busy[$0])
        }
    }

    /// What flows are called, as it was when the walk began.
    struct Names: Sendable {
        var services: [Int: String]
        var owners: [Int: String]

        init(machine: DirectorMachine, host: DirectorHost) {
            services = [:]
            for id in host.serviceIDs { services[Int(id.rawValue)] = host.service(id).map { "\($0.address)" } }
            owners = [:]
            for slot in machine.slots {
                if let holder = machine.holder(of: slot.id) { owners[Int(slot.id.rawValue)] = holder }
            }
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
                    service: names.services[Int(key.service)] ?? "?",
                    slot: Int(flow.slot),
                    owner: names.owners[Int(flow.slot)],
                    state: isClosing ? "closing" : isEstablished ? "established" : "handshake",
                    idleS: Double(now &- min(flow.last_seen_ns, now)) / 1e9
                )
            )
        }
        try plane.flows.forEach { key, flow in add(key, flow) }
        try plane.halfOpen.forEach { key, flow in add(key, flow) }
        return list
    }
}
