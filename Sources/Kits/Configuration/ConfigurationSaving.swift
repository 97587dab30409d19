import Glibc

/// Writes a configuration file as a whole, or not at all.
public enum ConfigurationSaving {
    /// Puts a text in a file's place; what stood there is kept beside it as `FILE.bak`.
    ///
    /// A reader sees the former file or the new one, never a part; so it is when the power fails.
    /// - Returns: the backup's path; nil when there was no file.
    public static func write(_ text: String, to path: String) throws(ConfigurationError) -> String? {
        // A link stays one: the file that it leads to is replaced.
        let target = realPath(path) ?? path
        var former = stat()
        let exists = stat(target, &former) == 0
        let new = target + ".new"
        let backup = target + ".bak"
        unlink(new)
        let descriptor = open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure(new, "cannot be made") }
        var isDone = false
        defer { if !isDone { unlink(new) } }
        do {
            defer { close(descriptor) }
            try writeAll(Array(text.utf8), descriptor, new)
            guard fchmod(descriptor, exists ? former.st_mode & 0o777 : 0o644) == 0 else {
                throw failure(new, "cannot be given its mode")
            }
            if exists, fchown(descriptor, former.st_uid, former.st_gid) != 0 {
                throw failure(new, "cannot be given its owner")
            }
            guard fsync(descriptor) == 0 else { throw failure(new, "cannot be written") }
        }
        if exists {
            unlink(backup)
            guard link(target, backup) == 0 else { throw failure(backup, "cannot be made") }
        }
        guard rename(new, target) == 0 else { throw failure(target, "cannot be replaced") }
        isDone = true
        synchroniseDirectory(of: target)
        return exists ? backup : nil
    }

    private static func writeAll(_ bytes: [UInt8], _ descriptor: CInt, _ path: String) throws(ConfigurationError) {
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw failure(path, "cannot be written") }
            written += count
        }
    }

    private static func synchroniseDirectory(of path: String) {
        let end = path.lastIndex(of: "/") ?? path.startIndex
        let directory = open(path[..<end].isEmpty ? "/" : String(path[..<end]), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { return }
        fsync(directory)
        close(directory)
    }

    private static func realPath(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    private static func failure(_ path: String, _ problem: String) -> ConfigurationError {
        ConfigurationError([Diagnostic(file: path, problem: "\(problem): \(FileText.errorText(errno))")])
    }
}
