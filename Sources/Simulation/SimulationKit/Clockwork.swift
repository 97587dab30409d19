import Model

/// Simulated true time in nanoseconds; no machine can read it.
@usableFromInline typealias TrueTime = UInt64

/// A host's monotonic clock: an offset of its own, and a rate that is wrong by some parts per million.
struct HostClock {
    var offset: UInt64
    var drift: Int64

    func local(_ time: TrueTime) -> Instant {
        let error = Int64(time) / 1_000_000 * drift + Int64(time) % 1_000_000 * drift / 1_000_000
        return Instant(nanoseconds: UInt64(Int64(offset) + Int64(time) + error))
    }

    /// The first true time, not before `earliest`, at which the clock shows at least `instant`.
    func time(_ instant: Instant, notBefore earliest: TrueTime) -> TrueTime {
        if instant <= local(earliest) { return earliest }
        let ahead = Int64(instant.nanoseconds &- offset)
        var time = max(earliest, UInt64(max(0, ahead - ahead / 1_000_000 * drift - abs(drift) * 4)))
        while local(time) < instant { time += 1 + (instant - local(time)).nanoseconds.magnitude }
        return time
    }
}

/// A heap of events by time, then by the order in which they were put in.
///
/// Inlinable, because the tests of the machines alone have a queue of other events.
@usableFromInline struct EventQueue<Event> {
    @usableFromInline var heap: [Entry] = []
    @usableFromInline var order: UInt64 = 0

    @usableFromInline struct Entry {
        @usableFromInline var time: TrueTime
        @usableFromInline var order: UInt64
        @usableFromInline var event: Event

        @inlinable init(time: TrueTime, order: UInt64, event: Event) {
            self.time = time
            self.order = order
            self.event = event
        }
    }

    @inlinable init() {}

    @inlinable mutating func push(_ event: Event, at time: TrueTime) {
        order += 1
        heap.append(Entry(time: time, order: order, event: event))
        var child = heap.count - 1
        while child > 0, precedes(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    @inlinable mutating func pop() -> (time: TrueTime, event: Event)? {
        guard let last = heap.popLast() else { return nil }
        guard let first = heap.first else { return (last.time, last.event) }
        heap[0] = last
        sink()
        return (first.time, first.event)
    }

    @inlinable mutating func sink() {
        var parent = 0
        while true {
            var least = parent
            for child in 2 * parent + 1...2 * parent + 2 where child < heap.count && precedes(child, least) {
                least = child
            }
            if least == parent { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }

    @inlinable func precedes(_ left: Int, _ right: Int) -> Bool {
        heap[left].time == heap[right].time
            ? heap[left].order < heap[right].order : heap[left].time < heap[right].time
    }
}

/// SplitMix64; integers only.
struct SimulationRandom {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        return Self.mix(state)
    }

    static func mix(_ value: UInt64) -> UInt64 {
        var word = value
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }

    mutating func number(_ range: ClosedRange<Int>) -> Int {
        range.lowerBound + Int(next() % UInt64(range.upperBound - range.lowerBound + 1))
    }

    mutating func chance(_ part: Int, in whole: Int) -> Bool { part > 0 && number(1...whole) <= part }

    /// Nanoseconds, from microseconds.
    mutating func microseconds(_ range: ClosedRange<Int>) -> UInt64 {
        UInt64(number(range.lowerBound * 1000...range.upperBound * 1000))
    }

    mutating func pick<Element>(_ elements: [Element]) -> Element { elements[number(0...elements.count - 1)] }

    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
    }
}
