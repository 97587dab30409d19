import Model

/// Chooses the slot of new flows, off the packet path: it turns the back-ends' state into a plan, and the data plane
/// runs the plan for every SYN.
public protocol DispatchPolicy: Sendable {
    /// The plan for these back-ends; called again at every change of them, on the control thread.
    ///
    /// Same back-ends, same plan: no clock and no randomness. Back-ends of weight 0 get no new flows. An empty plan
    /// means that a SYN finds no back-end.
    /// - Parameter backends: rising by slot, each slot once.
    func plan(for backends: [DispatchBackend]) -> DispatchPlan
}

/// What a dispatch policy knows of a back-end.
public struct DispatchBackend: Hashable, Sendable {
    public var slot: SlotID
    /// Share of new flows, as in LVS: 0 to 65,535.
    public var weight: UInt16
    /// Slots of dead or drained lives that it serves: their flows are its load, and they get no new ones. Rising.
    public var takenOver: [SlotID]

    public init(slot: SlotID, weight: UInt16, takenOver: [SlotID] = []) {
        self.slot = slot
        self.weight = weight
        self.takenOver = takenOver
    }
}

/// How a new flow finds its slot: a place of a table, or a choice among candidates by the flows that they have.
///
/// docs/design/0010-dispatch-plans.md says what the data plane does with each kind.
public struct DispatchPlan: Hashable, Sendable {
    /// The numbers are those of `enum baton_plan_kind`.
    public enum Kind: UInt8, Hashable, Sendable, CaseIterable {
        /// A place of the table by the service's counter of new flows, modulo the table's length.
        case counter = 0
        /// A place by a hash of the client's address.
        case hashSource = 1
        /// A place by a hash of the service's address.
        case hashDestination = 2
        /// A place by a hash of the 5-tuple.
        case hashFlow = 3
        /// A place by a hash of the client's address and port.
        case hashClient = 4
        /// The candidate of the least load.
        case least = 5
        /// The first candidate that may have it.
        case first = 6
        /// The less loaded of two candidates that a hash draws from the table.
        case twoChoices = 7
        /// The slot that the destination had last, while it is not overloaded; then the least loaded.
        case cache = 8
        /// The least loaded of the slots that the destination has; one more of them where they are overloaded.
        case cacheSet = 9

        public var usesTable: Bool {
            switch self {
            case .counter, .hashSource, .hashDestination, .hashFlow, .hashClient, .twoChoices: true
            case .least, .first, .cache, .cacheSet: false
            }
        }

        public var usesCandidates: Bool {
            switch self {
            case .counter, .hashSource, .hashDestination, .hashFlow, .hashClient: false
            case .least, .first, .twoChoices, .cache, .cacheSet: true
            }
        }
    }

    /// What load means, or who may have a flow; the numbers are those of `enum baton_plan_rule`. `a` is active flows,
    /// `i` inactive ones (FIN or RST seen).
    public enum Rule: UInt8, Hashable, Sendable, CaseIterable {
        /// (256 a + i) / weight.
        case overhead = 0
        /// (a + 1) / weight.
        case delay = 1
        /// Whoever has a = 0; else as `delay`.
        case idleFirst = 2
        /// `first`: whoever is up.
        case any = 3
        /// `first`: whoever is up with a <= weight.
        case overflow = 4
    }

    /// A back-end that is weighed by its load. Among equals the first of the list wins.
    public struct Candidate: Hashable, Sendable {
        public var slot: SlotID
        /// 1 to 65,535.
        public var weight: UInt16
        /// Slots whose flows count for this one.
        public var takenOver: [SlotID]

        public init(slot: SlotID, weight: UInt16, takenOver: [SlotID] = []) {
            self.slot = slot
            self.weight = weight
            self.takenOver = takenOver
        }

        /// - Parameter backend: one with a weight.
        public init(_ backend: DispatchBackend) {
            self.init(slot: backend.slot, weight: backend.weight, takenOver: backend.takenOver)
        }
    }

    public var kind: Kind
    /// Empty where the kind uses none.
    public var table: [SlotID]
    public var candidates: [Candidate]
    public var rule: Rule
    /// Hashes: where the slot found is down, hash again.
    public var fallsBack: Bool
    /// `cache`, `cacheSet`: seconds after which an unused destination is forgotten, and an unchanged set shrinks.
    public var cacheSeconds: UInt32
    /// Who gets a flow that nobody of the plan takes; the cluster sets it, not the policy.
    public var sorry: SlotID?

    /// No table may be longer.
    public static let longestTable = 131_071

    public init(
        kind: Kind,
        table: [SlotID] = [],
        candidates: [Candidate] = [],
        rule: Rule = .overhead,
        fallsBack: Bool = false,
        cacheSeconds: UInt32 = 0
    ) {
        self.kind = kind
        self.table = table
        self.candidates = candidates
        self.rule = rule
        self.fallsBack = fallsBack
        self.cacheSeconds = cacheSeconds
    }

    /// The plan under which every SYN is dropped and counted.
    public static let nobody = DispatchPlan(kind: .counter)

    /// All that may get a new flow, rising.
    public var slots: [SlotID] {
        var isIn = [Bool](repeating: false, count: Limits.slots)
        for slot in table where Int(slot.rawValue) < isIn.count { isIn[Int(slot.rawValue)] = true }
        for candidate in candidates where Int(candidate.slot.rawValue) < isIn.count {
            isIn[Int(candidate.slot.rawValue)] = true
        }
        return isIn.indices.filter { isIn[$0] }.map { SlotID(rawValue: UInt16($0)) }
    }

    /// Why the data plane could not run the plan; nil when it can. What a module of somebody else's returns is held
    /// against this first.
    public func fault(for backends: [DispatchBackend]) -> String? {
        let known = backends.filter { $0.weight > 0 }.map(\.slot)
        guard table.count <= Self.longestTable else { return "the table has \(table.count) places" }
        guard kind.usesTable || table.isEmpty else { return "\(kind) has no table" }
        guard kind.usesCandidates || candidates.isEmpty else { return "\(kind) has no candidates" }
        for slot in slots where !known.contains(slot) { return "\(slot) is no back-end with a weight" }
        guard !table.contains(where: { Int($0.rawValue) >= Limits.slots }) else { return "a slot that is none" }
        guard Set(candidates.map(\.slot)).count == candidates.count, !candidates.contains(where: { $0.weight == 0 })
        else { return "a candidate stands twice, or has no weight" }
        if kind == .twoChoices, !table.isEmpty, Set(table) != Set(candidates.map(\.slot)) {
            return "table and candidates are not the same slots"
        }
        return nil
    }
}
