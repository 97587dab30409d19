import Model

/// Chooses the slot of new flows, off the packet path: it turns the back-ends' state into a plan, and the data plane
/// runs the plan for every SYN.
public protocol DispatchPolicy: Sendable {
    /// The plan for these back-ends; called again at every change of them.
    ///
    /// Same back-ends, same plan: no clock and no randomness. Back-ends of weight 0 get no new flows. An empty table
    /// means that a SYN finds no back-end.
    /// - Parameter backends: rising by slot, each slot once.
    func plan(for backends: [DispatchBackend]) -> DispatchPlan
}

/// What a dispatch policy knows of a back-end.
public struct DispatchBackend: Hashable, Sendable {
    public var slot: SlotID
    /// Share of new flows, as in LVS: 0 to 65,535.
    public var weight: UInt16
    /// Flows of the slot in the director's table.
    public var activeFlows: UInt32

    public init(slot: SlotID, weight: UInt16, activeFlows: UInt32 = 0) {
        self.slot = slot
        self.weight = weight
        self.activeFlows = activeFlows
    }
}

/// How a new flow finds its slot: a place of the table, found by a counter or by a hash.
public struct DispatchPlan: Hashable, Sendable {
    /// The numbers are those of `enum baton_plan_kind`.
    public enum Kind: UInt8, Hashable, Sendable, CaseIterable {
        /// The service's counter of new flows, modulo the table's length.
        case counter = 0
        /// Client's address.
        case hashSource = 1
        /// Service's address and port.
        case hashDestination = 2
        /// The 5-tuple.
        case hashFlow = 3
    }

    public var kind: Kind
    public var table: [SlotID]

    /// No plan may be longer: all services share the places of one map.
    public static let longestTable = 8192

    public init(kind: Kind, table: [SlotID]) {
        self.kind = kind
        self.table = table
    }

    /// The plan under which every SYN is dropped and counted.
    public static let nobody = DispatchPlan(kind: .counter, table: [])
}
