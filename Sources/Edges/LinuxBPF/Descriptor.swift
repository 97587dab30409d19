import Clibbpf
import Glibc

/// A file descriptor of the kernel's eBPF objects, closed with its last user.
///
/// Any thread may use it: the number never changes, and what it stands for is the kernel's to guard.
final class Descriptor: Sendable {
    let number: Int32

    /// Takes the number over.
    init(owning number: Int32) {
        self.number = number
    }

    /// A copy of a number that someone else closes.
    init(copying number: Int32, subject: String) throws(BPFError) {
        let copy = fcntl(number, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw BPFError.latest("copy the descriptor of", subject) }
        self.number = copy
    }

    /// What is pinned at a path; nil when nothing is.
    static func pinned(at path: String) throws(BPFError) -> Descriptor? {
        let number = bpf_obj_get(path)
        if number >= 0 { return Descriptor(owning: number) }
        if errno == ENOENT { return nil }
        throw BPFError.latest("open the pinned object", path)
    }

    /// Pins it; whatever stood at the path before must be gone.
    func pin(at path: String) throws(BPFError) {
        guard bpf_obj_pin(number, path) == 0 else {
            let code = errno
            throw BPFError.latest(
                "pin", path, code: code,
                remedy: code == EEXIST
                    ? "something is pinned there already"
                    : "the folder must lie in a BPF file system, and the name must not hold a dot"
            )
        }
    }

    deinit {
        close(number)
    }
}
