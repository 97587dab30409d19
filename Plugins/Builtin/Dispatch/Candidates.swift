import ModuleInterfaces

extension DispatchPlan.Candidate {
    /// The back-ends that may get new flows, in their order.
    static func all(of backends: [DispatchBackend]) -> [DispatchPlan.Candidate] {
        backends.filter { $0.weight > 0 }.map(DispatchPlan.Candidate.init)
    }

    /// The same by falling weight, equals in their order: the order of `fo` and `ovf`.
    static func byWeight(_ backends: [DispatchBackend]) -> [DispatchPlan.Candidate] {
        all(of: backends).enumerated()
            .sorted { left, right in
                if left.element.weight != right.element.weight { return left.element.weight > right.element.weight }
                return left.offset < right.offset
            }
            .map(\.element)
    }
}
