import Glibc

/// An extended regular expression as egrep(1) has them, by regcomp(3).
///
/// `@unchecked`: regexec(3) may be called from several threads.
public final class TextPattern: @unchecked Sendable {
    private let compiled: UnsafeMutablePointer<regex_t>

    /// Nil when it is none.
    public init?(_ text: String) {
        let room = UnsafeMutablePointer<regex_t>.allocate(capacity: 1)
        room.initialize(to: regex_t())
        // Only what is whole is given to `deinit`.
        guard regcomp(room, text, REG_EXTENDED) == 0 else {
            room.deallocate()
            return nil
        }
        compiled = room
    }

    deinit {
        regfree(compiled)
        compiled.deallocate()
    }

    /// Whether it matches anywhere in the bytes, zero bytes among them.
    public func matches(_ bytes: ArraySlice<UInt8>) -> Bool {
        // REG_STARTEND bounds the text, but the pointer must be one.
        let text = Array(bytes) + [0]
        return text.withUnsafeBytes { room -> Bool in
            guard let start = room.bindMemory(to: CChar.self).baseAddress else { return false }
            var match = regmatch_t(rm_so: 0, rm_eo: regoff_t(bytes.count))
            return regexec(compiled, start, 1, &match, REG_STARTEND) == 0
        }
    }
}
