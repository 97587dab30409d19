import Glibc
import LinuxBase

/// The network namespace of this process.
public enum NetworkNamespace {
    /// Its inode, which is how the kernel's own structures number it (`struct ns_common`).
    public static func ownInode() throws(LinuxError) -> UInt32 {
        var status = stat()
        _ = try systemCall("examine", "/proc/self/ns/net") { stat("/proc/self/ns/net", &status) }
        return UInt32(truncatingIfNeeded: status.st_ino)
    }
}
