import Clibbpf
import Glibc

/// All entries of a map as bytes, whatever they mean: keys behind one another, and values in the same order.
public struct RawEntries: Equatable, Sendable {
    public var keyBytes: Int
    public var valueBytes: Int
    public var keys: [UInt8]
    public var values: [UInt8]

    public init(keyBytes: Int, valueBytes: Int, keys: [UInt8] = [], values: [UInt8] = []) {
        self.keyBytes = keyBytes
        self.valueBytes = valueBytes
        self.keys = keys
        self.values = values
    }

    public var count: Int { keyBytes > 0 ? keys.count / keyBytes : 0 }

    /// The same keys with each value made anew.
    public func mapValues(to bytes: Int, _ change: (ArraySlice<UInt8>) -> [UInt8]) -> RawEntries {
        var result = RawEntries(keyBytes: keyBytes, valueBytes: bytes, keys: keys)
        result.values.reserveCapacity(count * bytes)
        for index in 0..<count { result.values += change(values[index * valueBytes..<(index + 1) * valueBytes]) }
        return result
    }
}

/// A map whose key and value have any size; not for per-CPU maps. Any thread may use it.
public struct RawMap: Sendable {
    public let name: String
    public let shape: BPFMapShape
    let descriptor: Descriptor

    init(descriptor: Descriptor, name: String) throws(BPFError) {
        self.descriptor = descriptor
        self.name = name
        shape = try BPFMapShape(of: descriptor, subject: "map \(name)")
    }

    /// Makes a map that nobody uses yet.
    ///
    /// - Parameter type: `enum bpf_map_type`.
    public static func create(
        _ name: String, type: UInt32, keyBytes: Int, valueBytes: Int, maxEntries: Int
    ) throws(BPFError) -> RawMap {
        let number = bpf_map_create(
            bpf_map_type(rawValue: type), name, UInt32(keyBytes), UInt32(valueBytes), UInt32(maxEntries), nil)
        guard number >= 0 else { throw BPFError.latest("make", "map \(name)") }
        return try RawMap(descriptor: Descriptor(owning: number), name: name)
    }

    /// Opens a pinned map; nil when nothing is pinned there.
    public static func pinned(at path: String) throws(BPFError) -> RawMap? {
        guard let descriptor = try Descriptor.pinned(at: path) else { return nil }
        return try RawMap(descriptor: descriptor, name: path)
    }

    /// Pins it, so that it outlives the process.
    public func pin(at path: String) throws(BPFError) {
        try descriptor.pin(at: path)
    }

    /// Every entry; those that programs add meanwhile may be missed.
    public func entries() throws(BPFError) -> RawEntries {
        let (keyBytes, valueBytes) = (Int(shape.keyBytes), Int(shape.valueBytes))
        var result = RawEntries(keyBytes: keyBytes, valueBytes: valueBytes)
        var capacity = min(4096, max(Int(shape.maxEntries), 1))
        var place = [UInt8](repeating: 0, count: max(keyBytes, 8))
        var started = false
        while true {
            var keys = [UInt8](repeating: 0, count: capacity * keyBytes)
            var values = [UInt8](repeating: 0, count: capacity * valueBytes)
            var count = UInt32(capacity)
            let former = place
            let code = place.withUnsafeMutableBytes { next in
                former.withUnsafeBytes { former in
                    keys.withUnsafeMutableBytes { keys in
                        values.withUnsafeMutableBytes { values in
                            bpf_map_lookup_batch(
                                descriptor.number, started ? UnsafeMutableRawPointer(mutating: former.baseAddress) : nil,
                                next.baseAddress, keys.baseAddress, values.baseAddress, &count, nil)
                        }
                    }
                }
            }
            let failure = code == 0 ? 0 : errno
            if failure == ENOSPC, capacity < Int(shape.maxEntries) {
                // One bucket holds more than fits; nothing of it was taken.
                capacity = min(capacity * 4, Int(shape.maxEntries))
                place = former
                continue
            }
            guard failure == 0 || failure == ENOENT else { throw BPFError.latest("list", "map \(name)", code: failure) }
            result.keys += keys.prefix(Int(count) * keyBytes)
            result.values += values.prefix(Int(count) * valueBytes)
            if failure == ENOENT { return result }
            started = true
        }
    }

    /// Writes entries, one system call each 4,096.
    ///
    /// - Parameter mode: `onlyNew` leaves those alone that are there already.
    public func put(_ entries: RawEntries, mode: BPFPutMode = .any) throws(BPFError) {
        guard entries.keyBytes == Int(shape.keyBytes), entries.valueBytes == Int(shape.valueBytes) else {
            throw BPFError(
                operation: "write", subject: "map \(name)", code: 0,
                cause: "it has \(shape), not \(entries.keyBytes) and \(entries.valueBytes) bytes")
        }
        guard mode == .any else { return try putOneByOne(entries, mode) }
        var done = 0
        while done < entries.count {
            var count = UInt32(min(4096, entries.count - done))
            let size = Int(count)
            let code = entries.keys.withUnsafeBytes { keys in
                entries.values.withUnsafeBytes { values in
                    bpf_map_update_batch(
                        descriptor.number, keys.baseAddress.map { $0 + done * entries.keyBytes },
                        values.baseAddress.map { $0 + done * entries.valueBytes }, &count, nil)
                }
            }
            guard code == 0 else { throw BPFError.latest("write \(size) entries of", "map \(name)") }
            done += size
        }
    }

    private func putOneByOne(_ entries: RawEntries, _ mode: BPFPutMode) throws(BPFError) {
        for index in 0..<entries.count {
            let code = entries.keys.withUnsafeBytes { keys in
                entries.values.withUnsafeBytes { values in
                    bpf_map_update_elem(
                        descriptor.number, keys.baseAddress.map { $0 + index * entries.keyBytes },
                        values.baseAddress.map { $0 + index * entries.valueBytes }, mode.rawValue)
                }
            }
            guard code == 0 || errno == EEXIST || errno == ENOENT else { throw BPFError.latest("write", "map \(name)") }
        }
    }
}
