import Clibbpf
import Glibc

extension BPFMap {
    /// A part of a hash map's entries, and the place behind it.
    ///
    /// Entries that programs add or remove meanwhile may be missed; each comes at most once.
    /// - Parameters:
    ///   - place: what the part before gave as `next`; nil: from the beginning.
    ///   - capacity: entries, more only where the kernel keeps more than that in one bucket.
    /// - Returns: `next` is nil behind the last part.
    public func part(
        after place: UInt64?, capacity: Int
    ) throws(BPFError) -> (entries: [(key: Key, value: Value)], next: UInt64?) {
        var capacity = max(min(capacity, maxEntries), 1)
        while true {
            let keys = UnsafeMutablePointer<Key>.allocate(capacity: capacity)
            let values = UnsafeMutablePointer<Value>.allocate(capacity: capacity)
            defer {
                keys.deallocate()
                values.deallocate()
            }
            // For hash maps it is the number of a bucket, in 32 bits.
            var from = place ?? 0
            var next: UInt64 = 0
            var count = UInt32(capacity)
            let code = withUnsafeMutablePointer(to: &from) { from in
                withUnsafeMutablePointer(to: &next) { next in
                    bpf_map_lookup_batch(descriptor.number, place == nil ? nil : from, next, keys, values, &count, nil)
                }
            }
            let failure = code == 0 ? 0 : errno
            if failure == ENOSPC, capacity < maxEntries {
                capacity = min(capacity * 4, maxEntries)
                continue
            }
            guard failure == 0 || failure == ENOENT else {
                throw BPFError.latest("list", "map \(name)", code: failure)
            }
            let entries = (0..<Int(count)).map { (key: keys[$0], value: values[$0]) }
            return (entries, failure == ENOENT ? nil : next)
        }
    }
}
