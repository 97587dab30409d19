import Clibbpf
import Glibc

/// The file system that pins live in. Pins are what lets traffic outlive the daemon.
public enum BPFFileSystem {
    /// Where the kernel's own mount point is.
    public static let usualRoot = "/sys/fs/bpf"

    public static func contains(_ path: String) -> Bool {
        baton_is_bpffs(path) == 1
    }

    /// Makes a folder for pins (mode 0700), mounting a BPF file system where there is none.
    ///
    /// A folder below `/sys/fs/bpf` gets the mount there; any other folder outside a BPF file system becomes a mount
    /// point itself. Names below the mount must hold no dot (kernel/bpf/inode.c, bpf_lookup).
    /// - Returns: the mount point if one was mounted now, for the caller to take away again if that is wanted.
    @discardableResult
    public static func prepare(folder: String) throws(BPFError) -> String? {
        var mounted: String?
        if !contains(nearestExisting(folder)) {
            let point = folder.hasPrefix(usualRoot + "/") ? usualRoot : folder
            try makeFolders(point)
            guard baton_mount_bpffs(point) == 0 else {
                throw BPFError.latest("mount a BPF file system on", point)
            }
            mounted = point
        }
        try makeFolders(folder)
        return mounted
    }

    /// Removes everything pinned in a folder, and the folder; a folder that is not there is fine.
    ///
    /// Traffic that only the pins kept going stops.
    public static func remove(folder: String) throws(BPFError) {
        guard let names = entries(of: folder) else { return }
        guard contains(folder) else {
            throw BPFError(
                operation: "remove the pins in", subject: folder, code: 0, cause: "it is not in a BPF file system")
        }
        for name in names {
            let path = folder + "/" + name
            if unlink(path) == 0 || errno == ENOENT { continue }
            // What an exchange of layouts that was interrupted has left (`LayoutExchange`).
            guard errno == EISDIR || errno == EPERM else { throw BPFError.latest("remove the pin", path) }
            try remove(folder: path)
        }
        // A mount point stays: EBUSY.
        guard rmdir(folder) == 0 || errno == ENOENT || errno == EBUSY else {
            throw BPFError.latest("remove the folder", folder)
        }
    }

    /// Takes away what `prepare` mounted.
    public static func unmount(_ point: String) throws(BPFError) {
        guard umount2(point, Int32(MNT_DETACH)) == 0 else { throw BPFError.latest("unmount", point) }
    }

    private static func nearestExisting(_ path: String) -> String {
        var path = path
        while access(path, F_OK) != 0, let slash = path.lastIndex(of: "/"), slash > path.startIndex {
            path = String(path[..<slash])
        }
        return access(path, F_OK) == 0 ? path : "/"
    }

    private static func makeFolders(_ path: String) throws(BPFError) {
        var end = path.startIndex
        while end < path.endIndex {
            end = path[path.index(after: end)...].firstIndex(of: "/") ?? path.endIndex
            let part = String(path[..<end])
            guard mkdir(part, 0o700) == 0 || errno == EEXIST else { throw BPFError.latest("make the folder", part) }
        }
    }

    static func entries(of folder: String) -> [String]? {
        guard let stream = opendir(folder) else { return nil }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            // The kernel's own `maps.debug` and `progs.debug`, "." and ".."; no pin has a dot in its name.
            if !name.contains(".") { names.append(name) }
        }
        return names
    }
}
