import Clibbpf
import Glibc

/// What the kernel says about a map.
public struct BPFMapShape: Equatable, Sendable, CustomStringConvertible {
    /// `enum bpf_map_type`.
    public var type: UInt32
    public var keyBytes: UInt32
    public var valueBytes: UInt32
    public var maxEntries: UInt32

    public var description: String {
        "type \(type), key of \(keyBytes) bytes, value of \(valueBytes) bytes, \(maxEntries) entries"
    }

    init(of map: Descriptor, subject: String) throws(BPFError) {
        var info = bpf_map_info()
        var size = UInt32(MemoryLayout<bpf_map_info>.size)
        guard bpf_obj_get_info_by_fd(map.number, &info, &size) == 0 else { throw BPFError.latest("ask about", subject) }
        self.type = info.type
        self.keyBytes = info.key_size
        self.valueBytes = info.value_size
        self.maxEntries = info.max_entries
    }
}

/// Whether a put may make a new entry or change an old one.
public enum BPFPutMode: UInt64, Sendable {
    case any = 0
    case onlyNew = 1
    case onlyExisting = 2
}

/// A map of fixed keys and values; both are the structures of contract.h, or integers.
///
/// Any thread may use it; each call is one system call (0.3 to 1 us). The kernel makes each put and delete atomic
/// against the programs in hash maps; an array's value is copied in place, so that a program may see half of it.
public struct BPFMap<Key: BitwiseCopyable, Value: BitwiseCopyable>: Sendable {
    public let name: String
    public let maxEntries: Int
    let descriptor: Descriptor

    /// - Throws: when the kernel's key or value has another size than `Key` or `Value`.
    init(descriptor: Descriptor, name: String) throws(BPFError) {
        let shape = try BPFMapShape(of: descriptor, subject: "map \(name)")
        guard shape.keyBytes == MemoryLayout<Key>.size, shape.valueBytes == MemoryLayout<Value>.size else {
            throw BPFError(
                operation: "use", subject: "map \(name)", code: 0,
                cause: "it has \(shape), not \(MemoryLayout<Key>.size) and \(MemoryLayout<Value>.size) bytes"
            )
        }
        self.descriptor = descriptor
        self.name = name
        self.maxEntries = Int(shape.maxEntries)
    }

    /// Opens a pinned map; nil when nothing is pinned there.
    public static func pinned(at path: String) throws(BPFError) -> BPFMap? {
        guard let descriptor = try Descriptor.pinned(at: path) else { return nil }
        return try BPFMap(descriptor: descriptor, name: path)
    }

    /// Pins it, so that it outlives the process.
    public func pin(at path: String) throws(BPFError) {
        try descriptor.pin(at: path)
    }

    /// The value of a key; nil when there is none.
    public func get(_ key: Key) throws(BPFError) -> Value? {
        try withUnsafeTemporaryValue { (value: UnsafeMutablePointer<Value>) throws(BPFError) -> Value? in
            let code = withUnsafePointer(to: key) { bpf_map_lookup_elem(descriptor.number, $0, value) }
            if code == 0 { return value.pointee }
            if errno == ENOENT { return nil }
            throw BPFError.latest("read", "map \(name)")
        }
    }

    /// - Returns: false when `mode` forbade it.
    @discardableResult
    public func put(_ key: Key, _ value: Value, mode: BPFPutMode = .any) throws(BPFError) -> Bool {
        let code = withUnsafePointer(to: key) { key in
            withUnsafePointer(to: value) { bpf_map_update_elem(descriptor.number, key, $0, mode.rawValue) }
        }
        if code == 0 { return true }
        if mode != .any, errno == EEXIST || errno == ENOENT { return false }
        let full = errno == E2BIG
        throw BPFError.latest("write", "map \(name)", remedy: full ? "it is full: \(maxEntries) entries" : nil)
    }

    /// - Returns: false when the key was not there.
    @discardableResult
    public func delete(_ key: Key) throws(BPFError) -> Bool {
        let code = withUnsafePointer(to: key) { bpf_map_delete_elem(descriptor.number, $0) }
        if code == 0 { return true }
        if errno == ENOENT { return false }
        throw BPFError.latest("delete from", "map \(name)")
    }

    /// Calls `body` with each entry, about 100 ns each. Entries that the programs add or remove meanwhile may be
    /// missed; a hash map's entry comes at most once.
    ///
    /// - Complexity: one system call for each 4,096 entries.
    public func forEach(_ body: (Key, Value) throws(BPFError) -> Void) throws(BPFError) {
        var capacity = min(4096, max(maxEntries, 1))
        var keys = UnsafeMutablePointer<Key>.allocate(capacity: capacity)
        var values = UnsafeMutablePointer<Value>.allocate(capacity: capacity)
        defer {
            keys.deallocate()
            values.deallocate()
        }
        // The kernel's place: a key for arrays, the number of a bucket for hash maps.
        let place = UnsafeMutableRawPointer.allocate(byteCount: max(MemoryLayout<Key>.size, 8), alignment: 8)
        defer { place.deallocate() }
        var started = false
        while true {
            var count = UInt32(capacity)
            let code = bpf_map_lookup_batch(
                descriptor.number, started ? place : nil, place, keys, values, &count, nil)
            let failure = code == 0 ? 0 : errno
            if failure == ENOSPC, capacity < maxEntries {
                // One bucket holds more than fits.
                capacity = min(capacity * 4, maxEntries)
                keys.deallocate()
                values.deallocate()
                keys = .allocate(capacity: capacity)
                values = .allocate(capacity: capacity)
                continue
            }
            guard failure == 0 || failure == ENOENT else {
                throw BPFError.latest("list", "map \(name)", code: failure)
            }
            for index in 0..<Int(count) { try body(keys[index], values[index]) }
            if failure == ENOENT { return }
            started = true
        }
    }

    /// All entries, in the kernel's order.
    public func entries() throws(BPFError) -> [(key: Key, value: Value)] {
        var all: [(key: Key, value: Value)] = []
        try forEach { key, value in all.append((key, value)) }
        return all
    }

    /// Bytes of kernel memory that the map takes, as the kernel accounts it (fdinfo, `memlock`).
    public func memoryBytes() throws(BPFError) -> Int {
        let path = "/proc/self/fdinfo/\(descriptor.number)"
        guard let file = fopen(path, "re") else { throw BPFError.latest("open", path) }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, Int32(line.count), file) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let words = text.split { $0 == ":" || $0 == "\t" || $0 == " " || $0 == "\n" }
            if words.first == "memlock", words.count == 2, let bytes = Int(words[1]) { return bytes }
        }
        throw BPFError(operation: "find the size of", subject: "map \(name)", code: 0, cause: "\(path) does not say")
    }

    private func withUnsafeTemporaryValue<T>(
        _ body: (UnsafeMutablePointer<Value>) throws(BPFError) -> T
    ) throws(BPFError) -> T {
        let value = UnsafeMutablePointer<Value>.allocate(capacity: 1)
        defer { value.deallocate() }
        return try body(value)
    }
}

extension BPFMap where Key == UInt32 {
    /// Writes consecutive elements of an array map with one system call; a program may see some of them new, some old.
    public func putAll(_ values: [Value], from start: UInt32 = 0) throws(BPFError) {
        guard !values.isEmpty else { return }
        let keys = [UInt32](start..<start + UInt32(values.count))
        var count = UInt32(values.count)
        let code = keys.withUnsafeBytes { keys in
            values.withUnsafeBytes { values in
                bpf_map_update_batch(descriptor.number, keys.baseAddress, values.baseAddress, &count, nil)
            }
        }
        guard code == 0 else { throw BPFError.latest("write \(values.count) elements of", "map \(name)") }
    }
}

/// A map with one value for each possible CPU; values consist of 64-bit counters.
public struct BPFCounters: Sendable {
    public let name: String
    /// Counters in one element.
    public let width: Int
    let descriptor: Descriptor
    private let processors: Int

    init(descriptor: Descriptor, name: String) throws(BPFError) {
        let shape = try BPFMapShape(of: descriptor, subject: "map \(name)")
        let perCPU = [BPF_MAP_TYPE_PERCPU_ARRAY.rawValue, BPF_MAP_TYPE_PERCPU_HASH.rawValue]
        guard perCPU.contains(shape.type), shape.keyBytes == 4, shape.valueBytes % 8 == 0 else {
            throw BPFError(
                operation: "use", subject: "map \(name)", code: 0,
                cause: "it has \(shape), not a 32-bit key and 64-bit counters for each CPU"
            )
        }
        let processors = libbpf_num_possible_cpus()
        guard processors > 0 else { throw BPFError.latest("count the CPUs for", "map \(name)", code: -processors) }
        self.descriptor = descriptor
        self.name = name
        self.width = Int(shape.valueBytes / 8)
        self.processors = Int(processors)
    }

    /// Opens a pinned map; nil when nothing is pinned there.
    public static func pinned(at path: String) throws(BPFError) -> BPFCounters? {
        guard let descriptor = try Descriptor.pinned(at: path) else { return nil }
        return try BPFCounters(descriptor: descriptor, name: path)
    }

    /// The counters of one element, each the sum over all CPUs; they wrap at 64 bits.
    public func sum(_ key: UInt32 = 0) throws(BPFError) -> [UInt64] {
        var words = [UInt64](repeating: 0, count: width * processors)
        let code = withUnsafePointer(to: key) { key in
            words.withUnsafeMutableBytes { bpf_map_lookup_elem(descriptor.number, key, $0.baseAddress) }
        }
        guard code == 0 else { throw BPFError.latest("read", "map \(name)") }
        return (0..<width).map { counter in
            (0..<processors).reduce(UInt64(0)) { $0 &+ words[$1 * width + counter] }
        }
    }

    /// Sets one element's counters to zero on all CPUs; what programs count meanwhile may be lost.
    public func reset(_ key: UInt32 = 0) throws(BPFError) {
        let words = [UInt64](repeating: 0, count: width * processors)
        let code = withUnsafePointer(to: key) { key in
            words.withUnsafeBytes { bpf_map_update_elem(descriptor.number, key, $0.baseAddress, 0) }
        }
        guard code == 0 else { throw BPFError.latest("write", "map \(name)") }
    }
}
