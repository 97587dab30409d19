import CLinux
import Glibc
import Model

/// An open file descriptor, closed with its last reference.
///
/// There is no `close()`: a descriptor closed while another thread uses it may already be another file's number.
public final class FileDescriptor: Sendable {
    public let rawValue: Int32

    /// Takes over a descriptor that is open.
    public init(owning rawValue: Int32) {
        self.rawValue = rawValue
    }

    deinit {
        close(rawValue)
    }

    /// Waits until there is something to read; nil waits for ever. False: the time is up.
    ///
    /// Blocks the calling thread.
    public func waitReadable(timeout: Interval?) throws(LinuxError) -> Bool {
        try systemCall("wait for descriptor", "\(rawValue)") {
            clinux_wait_readable(rawValue, max(timeout?.nanoseconds ?? -1, -1))
        } > 0
    }
}

/// Whether this process may do what Baton does.
public enum Privilege {
    /// Throws a clear sentence unless the process runs as root.
    public static func requireRoot(for purpose: String) throws(LinuxError) {
        guard geteuid() == 0 else {
            throw LinuxError(purpose, "", errno: EPERM, remedy: "run it as root (user 0), not as user \(geteuid())")
        }
    }
}
