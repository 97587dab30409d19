import Model

/// The client bytes of one connection: one part without a gap, and pieces beyond one, in place. Places count from
/// IRS + 1, those of chunks and pieces from `base`.
struct Journal {
    /// The end of the contiguous bytes.
    private(set) var length: UInt64
    /// What was before is forgotten.
    private(set) var base: UInt64
    private var chunks = ChunkMap()
    /// The pieces beyond the gap, in the tracker's `RangeStore`.
    private var pieces = RangeStore.none

    /// What became of bytes that were to be kept.
    enum Outcome {
        /// All are in; so many of them were new.
        case kept(new: Int)
        /// Bytes that came again differ from those that came first.
        case conflict
        /// A bound of the chunk store is reached.
        case full
        /// There are more gaps than may be kept.
        case tooManyGaps
    }

    /// - Parameter start: the place of its first byte; what is before is not needed.
    init(at start: UInt64 = 0) {
        length = start
        base = start
    }

    var hasPieces: Bool { pieces != RangeStore.none }

    /// The end of all bytes held, those beyond gaps included.
    func end(in ranges: borrowing RangeStore) -> UInt64 {
        var end = length
        var node = pieces
        while node != RangeStore.none {
            end = base + UInt64(ranges[node].end)
            node = ranges[node].next
        }
        return end
    }

    /// Where the first gap ends; nil when nothing is held beyond the contiguous part.
    func gapEnd(in ranges: borrowing RangeStore) -> UInt64? {
        hasPieces ? base + UInt64(ranges[pieces].start) : nil
    }

    /// Keeps bytes; the first ones for a place win.
    ///
    /// - Parameter gapLimit: pieces beyond a gap that this journal may have.
    mutating func keep(
        _ bytes: UnsafeRawBufferPointer,
        at start: Int,
        store: inout ChunkStore,
        ranges: inout RangeStore,
        gapLimit: Int
    ) -> Outcome {
        // What is forgotten can come again; nobody can say any more whether it is the same.
        let known = min(max(Int(base) - start, 0), bytes.count)
        guard known < bytes.count else { return .kept(new: 0) }
        let bytes = UnsafeRawBufferPointer(rebasing: bytes[known...])
        let start = start + known - Int(base)
        let end = start + bytes.count
        var at = start
        var new = 0
        while at < end {
            let run = run(from: at, to: end, ranges)
            let part = UnsafeRawBufferPointer(rebasing: bytes[at - start..<run.stop - start])
            if run.isHeld {
                guard agrees(part, at: at, store) else { return .conflict }
            } else {
                guard write(part, at: at, &store) else { return .full }
                new += part.count
            }
            at = run.stop
        }
        return note(start, end, &ranges, gapLimit) ? .kept(new: new) : .tooManyGaps
    }

    /// Whether the byte at `start` is held, and how far that goes on.
    private func run(from start: Int, to end: Int, _ ranges: borrowing RangeStore) -> (isHeld: Bool, stop: Int) {
        let held = Int(length - base)
        if start < held { return (true, min(held, end)) }
        var node = pieces
        while node != RangeStore.none {
            let range = ranges[node]
            if start < Int(range.start) { return (false, min(end, Int(range.start))) }
            if start < Int(range.end) { return (true, min(end, Int(range.end))) }
            node = range.next
        }
        return (false, end)
    }

    private mutating func note(_ start: Int, _ end: Int, _ ranges: inout RangeStore, _ gapLimit: Int) -> Bool {
        guard start <= Int(length - base) else {
            return ranges.insert(UInt32(start), UInt32(end), &pieces, limit: gapLimit)
        }
        length = max(length, base + UInt64(end))
        while pieces != RangeStore.none, base + UInt64(ranges[pieces].start) <= length {
            length = max(length, base + UInt64(ranges[pieces].end))
            ranges.removeFirst(&pieces)
        }
        return true
    }

    private mutating func write(_ bytes: UnsafeRawBufferPointer, at start: Int, _ store: inout ChunkStore) -> Bool {
        var done = 0
        while done < bytes.count {
            let (number, offset) = (start + done).quotientAndRemainder(dividingBy: ChunkStore.chunkBytes)
            let count = min(ChunkStore.chunkBytes - offset, bytes.count - done)
            guard let chunk = chunks.demand(number, in: &store) else { return false }
            UnsafeMutableRawBufferPointer(start: store.bytes(chunk) + offset, count: count)
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[done..<done + count]))
            done += count
        }
        return true
    }

    private func agrees(_ bytes: UnsafeRawBufferPointer, at start: Int, _ store: borrowing ChunkStore) -> Bool {
        var done = 0
        while done < bytes.count {
            let (number, offset) = (start + done).quotientAndRemainder(dividingBy: ChunkStore.chunkBytes)
            let count = min(ChunkStore.chunkBytes - offset, bytes.count - done)
            guard let chunk = chunks.chunk(number, in: store) else { return false }
            let known = UnsafeRawBufferPointer(start: store.bytes(chunk) + offset, count: count)
            guard isEqual(known, UnsafeRawBufferPointer(rebasing: bytes[done..<done + count])) else { return false }
            done += count
        }
        return true
    }

    /// Eight bytes at a time: retransmissions are what a client can make us compare.
    private func isEqual(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        var at = 0
        while at + 8 <= left.count {
            let difference =
                left.loadUnaligned(fromByteOffset: at, as: UInt64.self)
                ^ right.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            if difference != 0 { return false }
            at += 8
        }
        while at < left.count {
            if left[at] != right[at] { return false }
            at += 1
        }
        return true
    }

    /// Calls the body with the bytes of a range, piece by piece; the range must lie within the contiguous part.
    func visit(_ range: Range<UInt64>, in store: borrowing ChunkStore, _ body: (UnsafeRawBufferPointer) -> Void) {
        precondition(range.lowerBound >= base && range.upperBound <= length, "beyond the journal")
        var at = Int(range.lowerBound - base)
        let end = Int(range.upperBound - base)
        while at < end {
            let (number, offset) = at.quotientAndRemainder(dividingBy: ChunkStore.chunkBytes)
            let count = min(ChunkStore.chunkBytes - offset, end - at)
            guard let chunk = chunks.chunk(number, in: store) else {
                preconditionFailure("a contiguous journal without chunk \(number)")
            }
            body(UnsafeRawBufferPointer(start: store.bytes(chunk) + offset, count: count))
            at += count
        }
    }

    /// Gives back the whole chunks before a place. Does nothing while bytes beyond a gap are held.
    mutating func forget(before place: UInt64, store: inout ChunkStore) {
        guard place > base, place <= length, !hasPieces else { return }
        let count = Int(place - base) / ChunkStore.chunkBytes
        guard count > 0 else { return }
        chunks.removeFirst(count, in: &store)
        base += UInt64(count * ChunkStore.chunkBytes)
    }

    /// Gives the memory back; the length stays, so that RCV.NXT is still known.
    mutating func release(to store: inout ChunkStore, _ ranges: inout RangeStore) {
        chunks.release(to: &store)
        ranges.releaseAll(&pieces)
    }

    /// After `release`: the client went on to here.
    mutating func follow(to end: UInt64) { length = max(length, end) }

    func chunkCount(in store: borrowing ChunkStore) -> Int { chunks.count(in: store) }

    /// Traps when the pieces are not in order, apart, and beyond the contiguous part; returns how many there are.
    func checkInvariants(_ ranges: borrowing RangeStore) -> Int {
        var end = length
        var count = 0
        var node = pieces
        while node != RangeStore.none {
            let range = ranges[node]
            precondition(
                base + UInt64(range.start) > end && range.end > range.start,
                "pieces of a journal are out of order"
            )
            end = base + UInt64(range.end)
            count += 1
            node = range.next
        }
        return count
    }
}
