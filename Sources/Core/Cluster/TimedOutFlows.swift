import Model
import Wire

/// A flow that the director's table has forgotten for its idleness, and whose ends shall know.
public struct TimedOutFlow: Hashable, Sendable {
    public var slot: SlotID
    public var flow: FlowReset

    public init(slot: SlotID, flow: FlowReset) {
        self.slot = slot
        self.flow = flow
    }
}

extension DirectorMachine {
    /// The owner's kernel has the connection, and so the sequence number that the client takes an RST by.
    mutating func timedOut(_ flows: [TimedOutFlow], into effects: inout [DirectorEffect]) {
        for member in members {
            guard let session = member.session else { continue }
            let held = slots.filter { $0.holder == .owned(by: member.slot) }.map(\.id)
            let own = flows.filter { held.contains($0.slot) }.map(\.flow)
            for start in stride(from: 0, to: own.count, by: FlowReset.limit) {
                let part = own[start..<min(start + FlowReset.limit, own.count)]
                effects.append(.send(.resetFlows(Array(part)), to: session))
            }
        }
    }
}

extension AgentMachine {
    /// Flows of services that are gone are left to end by themselves.
    mutating func reset(_ flows: [FlowReset], into effects: inout [AgentEffect]) {
        guard case .member = standing, let director else { return }
        let keys = flows.compactMap { flow in
            director.services.first { $0.id == flow.service }.map {
                FlowKey(client: flow.client, service: Endpoint(address: $0.endpoint.address, port: flow.port))
            }
        }
        if !keys.isEmpty { effects.append(.resetConnections(keys)) }
    }
}
