import AdminProtocol
import CContract
import Configuration
import ControlPlane
import LinuxBPF
import LinuxBase
import Model
import NIOCore
import NIOPosix
import Wire

// What `batonctl list --connections` asks of the director: the flow table in parts, so that neither side ever holds more
// than one of them.

extension DirectorRuntime {
    /// Flows in one answer.
    private static let partSize = 4096

    func listConnections(_ arguments: [String: String]) -> AdminAnswer {
        var place: UInt64?
        if let text = arguments["after"] {
            guard let number = UInt64(text) else { return .failure("after: the word `next` of the answer before") }
            place = number
        }
        var names = ConnectionNames(services: [:], servers: [:], addresses: [:])
        for (service, id) in zip(configuration.services, host.serviceIDs) {
            names.services[id.rawValue] = (service.address.address, FlowTimeouts(service))
        }
        names.servers = machine.slotHolders
        for backend in configuration.backends { names.addresses[backend.name] = "\(backend.address)" }
        let (plane, known, after) = (host.plane, names, place)
        return .later(
            walker.runIfActive(eventLoop: loop) {
                let now = MonotonicClock.now()
                let part = try plane.flows.part(after: after, capacity: Self.partSize)
                // What is half open, and datagrams, come with the first part.
                let first =
                    after == nil
                    ? try [plane.halfOpen, plane.datagramFlows].flatMap {
                        try $0.part(after: nil, capacity: Self.partSize).entries
                    } : []
                let connections = (first + part.entries).map { known.connection($0.key, $0.value, now) }
                return try AdminJSON.encode(ConnectionList(connections: connections, next: part.next.map { "\($0)" }))
            }
        )
    }
}

/// What flows are called, as it was when they were asked for.
private struct ConnectionNames: Sendable {
    var services: [UInt16: (address: IPAddress, timeouts: FlowTimeouts)]
    /// By slot.
    var servers: [Int: String]
    /// By server.
    var addresses: [String: String]

    func connection(_ key: baton_flow_key, _ flow: baton_flow, _ now: Instant) -> ConnectionList.Connection {
        let service = services[key.service]
        let phase = FlowPhase(key, flow)
        let idle = now - Instant(nanoseconds: min(flow.last_seen_ns, now.nanoseconds))
        let limit = service?.timeouts.limit(of: phase)
        let server = servers[Int(flow.slot)]
        let port = ":\(key.servicePort)"
        return ConnectionList.Connection(
            protocol: key.protocol == TransportProtocol.udp.number ? "UDP" : "TCP",
            expireS: limit.map { Double(max($0 - idle, .zero).nanoseconds) / 1e9 } ?? 0,
            idleS: Double(idle.nanoseconds) / 1e9,
            state: phase.name,
            source: "\(Endpoint(address: key.clientAddress, port: key.clientPort))",
            virtual: service.map { "\(Endpoint(address: $0.address, port: key.servicePort))" } ?? "?",
            destination: server.flatMap { addresses[$0] }.map { $0.contains(":") ? "[\($0)]\(port)" : $0 + port },
            server: server,
            slot: Int(flow.slot)
        )
    }
}
