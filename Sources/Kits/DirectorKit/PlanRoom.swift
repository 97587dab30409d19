/// Who has which rows of the plan map: a service's next table is written beside the one in use.
struct PlanRoom {
    private struct Part {
        var start: Int
        var count: Int
        /// A service's number.
        var owner: UInt16
    }

    private let rows: Int
    /// Rising by start.
    private var parts: [Part] = []

    init(rows: Int) { self.rows = rows }

    /// What an earlier run's table has.
    mutating func reserve(start: Int, count: Int, for owner: UInt16) {
        guard count > 0 else { return }
        insert(Part(start: start, count: count, owner: owner))
    }

    /// Finds the first room that is large enough; nil when there is none.
    mutating func take(_ count: Int, for owner: UInt16) -> Int? {
        guard count > 0 else { return 0 }
        var start = 0
        for part in parts {
            if part.start - start >= count { break }
            start = max(start, part.start + part.count)
        }
        guard start + count <= rows else { return nil }
        insert(Part(start: start, count: count, owner: owner))
        return start
    }

    /// Leaves a service the parts that begin at these rows, and gives its others back.
    mutating func keepOnly(_ first: Int, _ second: Int, of owner: UInt16) {
        parts.removeAll { $0.owner == owner && $0.start != first && $0.start != second }
    }

    /// The service is gone.
    mutating func keepNone(of owner: UInt16) { parts.removeAll { $0.owner == owner } }

    private mutating func insert(_ part: Part) {
        let index = parts.firstIndex { $0.start > part.start } ?? parts.count
        parts.insert(part, at: index)
    }
}
