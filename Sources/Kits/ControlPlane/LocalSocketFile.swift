import Glibc

/// The file of a unix socket: made with the right mode, and removed only when it is ours.
struct LocalSocketFile {
    let path: String
    private let device: dev_t
    private let inode: ino_t

    /// Binds and listens at a path.
    ///
    /// The parent directory is made (mode 0755) when it is missing. A socket file that a dead process left is replaced;
    /// one where somebody listens, or anything that is no socket, is left alone and is an error.
    /// - Parameter mode: The mode of the file, which it has from its first moment on.
    static func listen(path: String, mode: mode_t) throws(SocketError) -> (file: LocalSocketFile, descriptor: CInt) {
        try makeParents(of: path)
        try removeStale(path)
        let descriptor = try makeSocket(path)
        // On Linux, bind gives the file the mode that the socket has, so nobody can come in before a chmod.
        guard fchmod(descriptor, mode) == 0 else { throw failure("set the mode of", path, closing: descriptor) }
        let bound = withAddress(path) { bind(descriptor, $0, $1) }
        guard let bound, bound == 0 else { throw failure("bind", path, closing: descriptor) }
        var status = stat()
        guard chmod(path, mode) == 0, lstat(path, &status) == 0, Glibc.listen(descriptor, 64) == 0 else {
            throw failure("listen at", path, closing: descriptor)
        }
        return (LocalSocketFile(path: path, device: status.st_dev, inode: status.st_ino), descriptor)
    }

    /// Removes the file, unless another one stands in its place by now.
    func remove() {
        var status = stat()
        guard lstat(path, &status) == 0, status.st_dev == device, status.st_ino == inode else { return }
        unlink(path)
    }

    // MARK: Steps

    private static func makeParents(of path: String) throws(SocketError) {
        var end = path.startIndex
        while let slash = path[end...].firstIndex(of: "/") {
            let directory = String(path[..<slash])
            end = path.index(after: slash)
            if directory.isEmpty || mkdir(directory, 0o755) == 0 || errno == EEXIST { continue }
            let code = errno
            throw SocketError("cannot make the directory \(directory): \(errorText(code))", code: code)
        }
    }

    private static func removeStale(_ path: String) throws(SocketError) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw SocketError("\(path) exists and is no socket; remove it or name another path", code: EEXIST)
        }
        let probe = try makeSocket(path)
        defer { close(probe) }
        let connected = withAddress(path) { connect(probe, $0, $1) }
        // Only a refusal says that nobody listens; a full queue (EAGAIN) says that somebody does.
        guard connected != 0, errno == ECONNREFUSED else {
            throw SocketError(
                "\(path): another process listens there; is the daemon running already?", code: EADDRINUSE)
        }
        guard unlink(path) == 0 else {
            let code = errno
            throw SocketError("cannot remove the stale socket \(path): \(errorText(code))", code: code)
        }
    }

    private static func makeSocket(_ path: String) throws(SocketError) -> CInt {
        guard path.utf8.count <= pathLimit, !path.isEmpty else {
            throw SocketError("\(path): a socket's path has 1 to \(pathLimit) bytes", code: ENAMETOOLONG)
        }
        let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(AF_UNIX, type, 0)
        guard descriptor >= 0 else {
            let code = errno
            throw SocketError("\(path): cannot make a socket: \(errorText(code))", code: code)
        }
        return descriptor
    }

    private static func failure(_ action: String, _ path: String, closing descriptor: CInt) -> SocketError {
        let code = errno
        close(descriptor)
        return SocketError("cannot \(action) the socket \(path): \(errorText(code))", code: code)
    }

    /// Bytes of the longest path: `sun_path` with its closing zero.
    static let pathLimit = MemoryLayout<sockaddr_un>.size - MemoryLayout<sa_family_t>.size - 1

    /// Calls `body` with the path as a socket address; nil when it is too long.
    static func withAddress<R>(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R? {
        guard path.utf8.count <= pathLimit else { return nil }
        var address = sockaddr_un()
        withUnsafeMutableBytes(of: &address) { bytes in
            bytes.storeBytes(of: sa_family_t(AF_UNIX), as: sa_family_t.self)
            for (index, byte) in path.utf8.enumerated() { bytes[MemoryLayout<sa_family_t>.size + index] = byte }
        }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size)
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }
}
