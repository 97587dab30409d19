import Model

/// Deadlines in the order of time, then of setting: a binary heap.
///
/// A deadline that was changed stays in as it was; whoever takes it out sees that it is not valid any more.
struct DeadlineHeap {
    struct Entry {
        var at: Instant
        var order: UInt64
        var place: Int

        func isBefore(_ other: Entry) -> Bool {
            at == other.at ? order < other.order : at < other.at
        }
    }

    private var entries: [Entry] = []
    private var order: UInt64 = 0

    var first: Entry? { entries.first }

    mutating func insert(_ place: Int, at instant: Instant) {
        order &+= 1
        entries.append(Entry(at: instant, order: order, place: place))
        var child = entries.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard entries[child].isBefore(entries[parent]) else { return }
            entries.swapAt(child, parent)
            child = parent
        }
    }

    mutating func removeFirst() {
        guard let last = entries.popLast(), !entries.isEmpty else { return }
        entries[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in 2 * parent + 1..<min(2 * parent + 3, max(entries.count, 2 * parent + 1)) {
                if entries[child].isBefore(entries[least]) { least = child }
            }
            guard least != parent else { return }
            entries.swapAt(parent, least)
            parent = least
        }
    }
}
