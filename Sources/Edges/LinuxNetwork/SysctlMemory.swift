import Glibc
import LinuxBase

/// A file that remembers changed kernel settings, so that the next life of a killed process can put them back.
///
/// One line a change: name, value before, value after, separated by tabs. Belongs in /run: a restart of the machine
/// undoes the changes as well.
public struct SysctlMemory: Sendable {
    public let path: String

    public init(path: String) {
        self.path = path
    }

    /// What was remembered; nothing where there is no such file. A line that is none is left out.
    public func load() -> [SysctlChanges.Change] {
        guard let descriptor = try? systemCall("open", path, { open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) }) else {
            return []
        }
        let file = FileDescriptor(owning: descriptor)
        var buffer = [UInt8](repeating: 0, count: 16384)
        let count = max(0, read(file.rawValue, &buffer, buffer.count))
        return String(decoding: buffer[..<count], as: UTF8.self).split(separator: "\n").compactMap { line in
            let parts = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            return parts.count == 3 ? SysctlChanges.Change(name: parts[0], before: parts[1], after: parts[2]) : nil
        }
    }

    /// Replaces the file as a whole; removes it where nothing is to be remembered.
    public func save(_ changes: [SysctlChanges.Change]) throws(LinuxError) {
        guard !changes.isEmpty else {
            unlink(path)
            return
        }
        let text = changes.map { "\($0.name)\t\($0.before)\t\($0.after)\n" }.joined()
        let fresh = path + ".new"
        let flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW
        let file = FileDescriptor(owning: try systemCall("write", fresh) { open(fresh, flags, 0o600) })
        let bytes = Array(text.utf8)
        let written = try systemCall("write", fresh) { write(file.rawValue, bytes, bytes.count) }
        guard written == bytes.count else { throw LinuxError("write", fresh, errno: ENOSPC) }
        _ = try systemCall("replace", path) { rename(fresh, path) }
    }
}
