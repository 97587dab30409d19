import CPolicy
import Model
import ModuleInterfaces

/// A policy behind the C interface. What it writes is taken for hostile until it is checked.
struct LoadedPolicy: DispatchPolicy {
    typealias Fill = @convention(c) (
        UnsafePointer<baton_policy_backend>?, UInt32, UnsafeMutablePointer<baton_policy_plan>?
    ) -> Int32

    let fill: Fill

    func plan(for backends: [DispatchBackend]) -> DispatchPlan {
        let given = backends.map { baton_policy_backend(slot: $0.slot.rawValue, weight: $0.weight) }
        var table = [UInt16](repeating: .max, count: DispatchPlan.longestTable)
        var candidates = [baton_policy_backend](repeating: baton_policy_backend(), count: max(given.count, 1))
        var written = baton_policy_plan()
        let (tableRoom, candidateRoom) = (table.count, given.count)
        let result = table.withUnsafeMutableBufferPointer { table in
            candidates.withUnsafeMutableBufferPointer { candidates in
                written.table = table.baseAddress
                written.table_room = UInt32(tableRoom)
                written.candidates = candidates.baseAddress
                return given.withUnsafeBufferPointer { fill($0.baseAddress, UInt32($0.count), &written) }
            }
        }
        guard result == 0, written.table_length <= UInt32(tableRoom), written.candidate_count <= UInt32(candidateRoom),
            let (kind, rule) = Self.kind(written.kind)
        else { return .nobody }
        let takenOver = { (slot: UInt16) in backends.first { $0.slot.rawValue == slot }?.takenOver ?? [] }
        let plan = DispatchPlan(
            kind: kind,
            table: table.prefix(Int(written.table_length)).map { SlotID(rawValue: $0) },
            candidates: candidates.prefix(Int(written.candidate_count)).map {
                DispatchPlan.Candidate(
                    slot: SlotID(rawValue: $0.slot), weight: $0.weight, takenOver: takenOver($0.slot))
            },
            rule: rule
        )
        return plan.fault(for: backends) == nil ? plan : .nobody
    }

    private static func kind(_ number: UInt32) -> (DispatchPlan.Kind, DispatchPlan.Rule)? {
        switch number {
        case BATON_POLICY_COUNTER.rawValue: (.counter, .overhead)
        case BATON_POLICY_HASH_SOURCE.rawValue: (.hashSource, .overhead)
        case BATON_POLICY_HASH_FLOW.rawValue: (.hashFlow, .overhead)
        case BATON_POLICY_HASH_CLIENT.rawValue: (.hashClient, .overhead)
        case BATON_POLICY_LEAST_OVERHEAD.rawValue: (.least, .overhead)
        case BATON_POLICY_LEAST_DELAY.rawValue: (.least, .delay)
        case BATON_POLICY_FIRST.rawValue: (.first, .any)
        case BATON_POLICY_FIRST_WITH_ROOM.rawValue: (.first, .overflow)
        default: nil
        }
    }
}
