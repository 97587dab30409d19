/// Ranges of bytes that lie beyond a gap, of all connections: sorted chains in one bounded array.
struct RangeStore: ~Copyable {
    static let none = UInt32.max

    struct Node {
        var start: UInt32
        var end: UInt32
        var next: UInt32
    }

    private(set) var nodes: [Node] = []
    private var free = RangeStore.none
    let capacity: Int
    private(set) var used = 0

    init(capacity: Int) {
        self.capacity = max(1, capacity)
    }

    subscript(_ node: UInt32) -> Node {
        get { nodes[Int(node)] }
        set { nodes[Int(node)] = newValue }
    }

    private mutating func take(_ node: Node) -> UInt32? {
        guard used < capacity else { return nil }
        used += 1
        if free == RangeStore.none {
            nodes.append(node)
            return UInt32(nodes.count - 1)
        }
        let place = free
        free = nodes[Int(place)].next
        nodes[Int(place)] = node
        return place
    }

    private mutating func give(_ node: UInt32) {
        nodes[Int(node)].next = free
        free = node
        used -= 1
    }

    mutating func releaseAll(_ head: inout UInt32) {
        while head != RangeStore.none { removeFirst(&head) }
    }

    mutating func removeFirst(_ head: inout UInt32) {
        let first = head
        head = nodes[Int(first)].next
        give(first)
    }

    func length(_ head: UInt32) -> Int {
        var count = 0
        var node = head
        while node != RangeStore.none {
            count += 1
            node = nodes[Int(node)].next
        }
        return count
    }

    /// Adds `start..<end` to the chain and joins what touches; false when a bound is reached (the chain is unchanged).
    mutating func insert(_ start: UInt32, _ end: UInt32, _ head: inout UInt32, limit: Int) -> Bool {
        var previous = RangeStore.none
        var node = head
        while node != RangeStore.none, nodes[Int(node)].end < start {
            previous = node
            node = nodes[Int(node)].next
        }
        if node != RangeStore.none, nodes[Int(node)].start <= end {
            nodes[Int(node)].start = min(nodes[Int(node)].start, start)
            nodes[Int(node)].end = max(nodes[Int(node)].end, end)
            joinFollowers(of: node)
            return true
        }
        guard length(head) < limit, let new = take(Node(start: start, end: end, next: node)) else { return false }
        if previous == RangeStore.none { head = new } else { nodes[Int(previous)].next = new }
        return true
    }

    private mutating func joinFollowers(of node: UInt32) {
        while true {
            let follower = nodes[Int(node)].next
            guard follower != RangeStore.none, nodes[Int(follower)].start <= nodes[Int(node)].end else { return }
            nodes[Int(node)].end = max(nodes[Int(node)].end, nodes[Int(follower)].end)
            nodes[Int(node)].next = nodes[Int(follower)].next
            give(follower)
        }
    }
}
