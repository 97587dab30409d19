import Crypto
import Glibc

/// A file that every web server of a lab serves with the same bytes, size and modification time.
public struct PublishedFile: Codable, Sendable, Equatable {
    /// The path in the URL, `/large.bin`.
    public var path: String
    public var size: Int
    /// SHA-256 in lower-case hexadecimal.
    public var sha256: String
}

extension PublishedFile {
    /// Writes `size` pseudo-random bytes (SplitMix64 from the seed) and returns what they are.
    static func create(at file: String, path: String, size: Int, seed: UInt64) throws -> PublishedFile {
        unlink(file)
        let descriptor = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw LabError.system(file, code: errno) }
        defer { close(descriptor) }
        var hash = SHA256()
        var state = seed
        var left = size
        var words = [UInt64](repeating: 0, count: 1 << 17)
        while left > 0 {
            try Interrupts.check()
            fill(&words, &state)
            let count = min(left, words.count * 8)
            try words.withUnsafeBytes { all in
                let part = UnsafeRawBufferPointer(rebasing: all[..<count])
                hash.update(bufferPointer: part)
                try writeAll(descriptor, part, file)
            }
            left -= count
        }
        // A fixed time, so that ETag and Last-Modified are the same in every lab and on every server.
        var times = [timespec(tv_sec: 1_700_000_000, tv_nsec: 0), timespec(tv_sec: 1_700_000_000, tv_nsec: 0)]
        futimens(descriptor, &times)
        return PublishedFile(path: path, size: size, sha256: hexadecimal(hash.finalize()))
    }

    /// SplitMix64 (Steele, Lea, Flood 2014), little-endian words.
    private static func fill(_ words: inout [UInt64], _ state: inout UInt64) {
        var current = state
        words.withUnsafeMutableBufferPointer { words in
            var index = 0
            while index < words.count {
                current &+= 0x9e37_79b9_7f4a_7c15
                var word = current
                word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
                word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
                words[index] = (word ^ (word >> 31)).littleEndian
                index &+= 1
            }
        }
        state = current
    }
}

func writeAll(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, _ place: String) throws {
    var rest = bytes
    while !rest.isEmpty {
        let count = write(descriptor, rest.baseAddress, rest.count)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { throw LabError.system(place, code: errno) }
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
}

func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}
