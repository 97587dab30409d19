import Model

/// Memory for journals: chunks of a fixed size in slabs that are allocated once and never given back.
///
/// A journal is a chain of chunks. Nothing is allocated for a packet except, now and then, a slab of 1 MiB; the bound
/// holds for all journals together. Not a collection: it knows chunks, not whose they are.
struct ChunkStore: ~Copyable {
    static let chunkBytes = 1024
    private static let chunksPerSlab = 1024
    static let none = UInt32.max

    private var slabs: [UnsafeMutableRawPointer] = []
    private var next: [UInt32] = []
    private var freeHead = ChunkStore.none
    private let chunkLimit: Int
    private(set) var chunksInUse = 0

    init(byteLimit: Int) {
        chunkLimit = max(byteLimit / ChunkStore.chunkBytes, 1)
    }

    deinit {
        for slab in slabs { slab.deallocate() }
    }

    /// A chunk at the end of nothing; nil when the bound is reached.
    mutating func allocate() -> UInt32? {
        guard chunksInUse < chunkLimit else { return nil }
        if freeHead == ChunkStore.none { addSlab() }
        let chunk = freeHead
        freeHead = next[Int(chunk)]
        next[Int(chunk)] = ChunkStore.none
        chunksInUse += 1
        return chunk
    }

    private mutating func addSlab() {
        let bytes = ChunkStore.chunkBytes * ChunkStore.chunksPerSlab
        slabs.append(UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 16))
        let first = next.count
        for index in first..<first + ChunkStore.chunksPerSlab {
            let isLast = index == first + ChunkStore.chunksPerSlab - 1
            next.append(isLast ? ChunkStore.none : UInt32(index + 1))
        }
        freeHead = UInt32(first)
    }

    func following(_ chunk: UInt32) -> UInt32 { next[Int(chunk)] }

    mutating func link(_ chunk: UInt32, to following: UInt32) { next[Int(chunk)] = following }

    /// The bytes of a chunk, valid as long as the store.
    func bytes(_ chunk: UInt32) -> UnsafeMutableRawPointer {
        let (slab, place) = Int(chunk).quotientAndRemainder(dividingBy: ChunkStore.chunksPerSlab)
        return slabs[slab] + place * ChunkStore.chunkBytes
    }

    /// Gives a whole chain back.
    mutating func free(chain head: UInt32) {
        var chunk = head
        while chunk != ChunkStore.none {
            let following = next[Int(chunk)]
            next[Int(chunk)] = freeHead
            freeHead = chunk
            chunksInUse -= 1
            chunk = following
        }
    }
}

/// The client bytes of one connection, contiguous from IRS + 1.
struct Journal {
    var head = ChunkStore.none
    var tail = ChunkStore.none
    var length: UInt64 = 0

    /// Appends bytes; false when there was no room for all of them (those that fitted are in).
    mutating func append(_ bytes: UnsafeRawBufferPointer, to store: inout ChunkStore) -> Bool {
        var taken = 0
        while taken < bytes.count {
            let used = Int(length % UInt64(ChunkStore.chunkBytes))
            if used == 0 {
                guard let chunk = store.allocate() else { return false }
                if head == ChunkStore.none { head = chunk } else { store.link(tail, to: chunk) }
                tail = chunk
            }
            let count = min(ChunkStore.chunkBytes - used, bytes.count - taken)
            let source = UnsafeRawBufferPointer(rebasing: bytes[taken..<taken + count])
            (store.bytes(tail) + used).copyMemory(from: source.baseAddress ?? UnsafeRawPointer(store.bytes(tail)), byteCount: count)
            taken += count
            length += UInt64(count)
        }
        return true
    }

    /// Calls the body with the stored bytes of a range, piece by piece; the range must be within the journal.
    func visit(_ range: Range<UInt64>, in store: borrowing ChunkStore, _ body: (UnsafeRawBufferPointer) -> Void) {
        var chunk = head
        var start: UInt64 = 0
        while chunk != ChunkStore.none, start < range.upperBound {
            let end = start + UInt64(ChunkStore.chunkBytes)
            let from = max(start, range.lowerBound)
            let to = min(end, range.upperBound, length)
            if from < to {
                body(UnsafeRawBufferPointer(start: store.bytes(chunk) + Int(from - start), count: Int(to - from)))
            }
            start = end
            chunk = store.following(chunk)
        }
    }

    mutating func release(to store: inout ChunkStore) {
        store.free(chain: head)
        self = Journal()
    }
}
