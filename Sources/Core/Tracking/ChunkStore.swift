import Model

/// Memory for journals: chunks of a fixed size in slabs that are allocated once and never given back.
///
/// Nothing is allocated for a packet except, now and then, a slab of 1 MiB; the bound holds for all journals together.
/// It knows chunks, not whose they are.
struct ChunkStore: ~Copyable {
    static let chunkBytes = 1024
    private static let chunksPerSlab = 1024
    static let none = UInt32.max
    /// Entries of a chunk that lists other chunks.
    static let entries = chunkBytes / 4

    private var slabs: [UnsafeMutableRawPointer] = []
    /// Of a free chunk: the next free one.
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

    /// A chunk with whatever its last user left in it; nil when the bound is reached.
    mutating func allocate() -> UInt32? {
        guard chunksInUse < chunkLimit else { return nil }
        if freeHead == ChunkStore.none { addSlab() }
        let chunk = freeHead
        freeHead = next[Int(chunk)]
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

    mutating func free(_ chunk: UInt32) {
        next[Int(chunk)] = freeHead
        freeHead = chunk
        chunksInUse -= 1
    }

    /// The bytes of a chunk, valid as long as the store.
    func bytes(_ chunk: UInt32) -> UnsafeMutableRawPointer {
        let (slab, place) = Int(chunk).quotientAndRemainder(dividingBy: ChunkStore.chunksPerSlab)
        return slabs[slab] + place * ChunkStore.chunkBytes
    }

    // MARK: Chunks that list chunks

    mutating func allocateList() -> UInt32? {
        guard let list = allocate() else { return nil }
        let words = bytes(list).bindMemory(to: UInt32.self, capacity: ChunkStore.entries)
        words.update(repeating: ChunkStore.none, count: ChunkStore.entries)
        return list
    }

    func entry(_ list: UInt32, _ index: Int) -> UInt32 {
        precondition(index >= 0 && index < ChunkStore.entries)
        return bytes(list).load(fromByteOffset: index * 4, as: UInt32.self)
    }

    mutating func setEntry(_ list: UInt32, _ index: Int, _ chunk: UInt32) {
        precondition(index >= 0 && index < ChunkStore.entries)
        bytes(list).storeBytes(of: chunk, toByteOffset: index * 4, as: UInt32.self)
    }

    /// Traps when the free list does not hold exactly what is not in use.
    func checkInvariants() {
        var free = 0
        var chunk = freeHead
        while chunk != ChunkStore.none, free <= next.count {
            free += 1
            chunk = next[Int(chunk)]
        }
        precondition(
            free == next.count - chunksInUse,
            "\(free) chunks are free of \(next.count), \(chunksInUse) in use"
        )
    }
}

/// Where the chunks of one journal are: the first directly, the others through lists of 256, so that any place is
/// reached in three steps and a journal of one chunk, as most are, takes no more than that.
struct ChunkMap {
    /// Chunk 0.
    private var first = ChunkStore.none
    /// Lists chunks 1...256.
    private var list = ChunkStore.none
    /// Lists further lists.
    private var root = ChunkStore.none
    /// One more than the highest chunk number in use.
    private(set) var extent: UInt32 = 0

    /// No journal can be longer.
    static let byteLimit = (1 + ChunkStore.entries + ChunkStore.entries * ChunkStore.entries) * ChunkStore.chunkBytes

    var isEmpty: Bool { extent == 0 && list == ChunkStore.none && root == ChunkStore.none }

    /// The chunk with this number; nil when nothing was written there.
    func chunk(_ number: Int, in store: borrowing ChunkStore) -> UInt32? {
        if number == 0 { return first == ChunkStore.none ? nil : first }
        let (block, entry) = (number - 1).quotientAndRemainder(dividingBy: ChunkStore.entries)
        var list = self.list
        if block > 0 {
            guard root != ChunkStore.none, block <= ChunkStore.entries else { return nil }
            list = store.entry(root, block - 1)
        }
        guard list != ChunkStore.none else { return nil }
        let chunk = store.entry(list, entry)
        return chunk == ChunkStore.none ? nil : chunk
    }

    /// The chunk with this number, made if need be; nil when the store is full.
    mutating func demand(_ number: Int, in store: inout ChunkStore) -> UInt32? {
        if let chunk = chunk(number, in: store) { return chunk }
        if number == 0 {
            guard let chunk = store.allocate() else { return nil }
            first = chunk
            extent = max(extent, 1)
            return chunk
        }
        let (block, entry) = (number - 1).quotientAndRemainder(dividingBy: ChunkStore.entries)
        guard let list = demandList(block, in: &store), let chunk = store.allocate() else { return nil }
        store.setEntry(list, entry, chunk)
        extent = max(extent, UInt32(number) + 1)
        return chunk
    }

    private mutating func demandList(_ block: Int, in store: inout ChunkStore) -> UInt32? {
        if block == 0 {
            if list == ChunkStore.none {
                guard let new = store.allocateList() else { return nil }
                list = new
            }
            return list
        }
        guard block <= ChunkStore.entries else { return nil }
        if root == ChunkStore.none {
            guard let new = store.allocateList() else { return nil }
            root = new
        }
        let known = store.entry(root, block - 1)
        if known != ChunkStore.none { return known }
        guard let new = store.allocateList() else { return nil }
        store.setEntry(root, block - 1, new)
        return new
    }

    /// Frees the first chunks; the others move up. All chunks below `extent` must be there.
    mutating func removeFirst(_ count: Int, in store: inout ChunkStore) {
        let count = min(count, Int(extent))
        for number in 0..<count {
            if let chunk = chunk(number, in: store) { store.free(chunk) }
        }
        for number in 0..<Int(extent) {
            let moved = number + count < Int(extent) ? chunk(number + count, in: store) : nil
            set(number, moved ?? ChunkStore.none, in: &store)
        }
        extent -= UInt32(count)
        if extent <= 1 { releaseLists(to: &store) }
    }

    /// Writes a place whose list is there.
    private mutating func set(_ number: Int, _ chunk: UInt32, in store: inout ChunkStore) {
        if number == 0 {
            first = chunk
            return
        }
        let (block, entry) = (number - 1).quotientAndRemainder(dividingBy: ChunkStore.entries)
        let list = block == 0 ? self.list : root == ChunkStore.none ? ChunkStore.none : store.entry(root, block - 1)
        if list != ChunkStore.none { store.setEntry(list, entry, chunk) }
    }

    private mutating func releaseLists(to store: inout ChunkStore) {
        if root != ChunkStore.none {
            for block in 0..<ChunkStore.entries {
                let list = store.entry(root, block)
                if list != ChunkStore.none { store.free(list) }
            }
            store.free(root)
        }
        if list != ChunkStore.none { store.free(list) }
        root = ChunkStore.none
        list = ChunkStore.none
    }

    mutating func release(to store: inout ChunkStore) {
        for number in 0..<Int(extent) {
            if let chunk = chunk(number, in: store) { store.free(chunk) }
        }
        releaseLists(to: &store)
        self = ChunkMap()
    }

    /// Chunks held, lists included.
    func count(in store: borrowing ChunkStore) -> Int {
        var count = 0
        for number in 0..<Int(extent) where chunk(number, in: store) != nil { count += 1 }
        if list != ChunkStore.none { count += 1 }
        guard root != ChunkStore.none else { return count }
        count += 1
        for block in 0..<ChunkStore.entries where store.entry(root, block) != ChunkStore.none { count += 1 }
        return count
    }
}
