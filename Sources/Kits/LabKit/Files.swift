import Glibc

/// The whole text of a small file; nil when it cannot be read. Reads /proc files too, whose size is given as 0.
func readFile(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16384)
    while true {
        let count = read(descriptor, &buffer, buffer.count)
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { return nil }
        if count == 0 { return String(decoding: bytes, as: UTF8.self) }
        bytes += buffer[..<count]
    }
}

func readLink(_ path: String) -> String? {
    var buffer = [CChar](repeating: 0, count: 256)
    let count = readlink(path, &buffer, buffer.count)
    return count < 0 ? nil : String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// The names in a directory without `.` and `..`, sorted; empty when it cannot be read.
func listDirectory(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
}

func fileExists(_ path: String) -> Bool { access(path, F_OK) == 0 }

/// Makes a directory and those above it.
func makeDirectory(_ path: String, mode: mode_t = 0o755) throws {
    var built = ""
    for part in path.split(separator: "/") {
        built += "/" + part
        if mkdir(built, mode) != 0, errno != EEXIST { throw LabError.system(built, code: errno) }
    }
}

/// Replaces a file in one step: readers see the old text or the new, never a part.
func writeFile(_ path: String, _ text: String, mode: mode_t = 0o644) throws {
    let temporary = path + ".new"
    unlink(temporary)
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw LabError.system(temporary, code: errno) }
    defer { close(descriptor) }
    fchmod(descriptor, mode)
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
        let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { throw LabError.system(temporary, code: errno) }
        bytes = bytes.dropFirst(count)
    }
    guard rename(temporary, path) == 0 else { throw LabError.system(path, code: errno) }
}

/// Removes a directory with all in it; never follows a link, never leaves the file system it starts on.
func removeTree(_ path: String) throws {
    var start = stat()
    guard lstat(path, &start) == 0 else {
        if errno == ENOENT { return }
        throw LabError.system(path, code: errno)
    }
    try removeTree(path, device: start.st_dev)
}

private func removeTree(_ path: String, device: dev_t) throws {
    var information = stat()
    guard lstat(path, &information) == 0 else { return }
    guard information.st_mode & S_IFMT == S_IFDIR else {
        guard unlink(path) == 0 || errno == ENOENT else { throw LabError.system(path, code: errno) }
        return
    }
    guard information.st_dev == device else {
        throw LabError.state("\(path) is a mount point still; unmount it, then run `baton-lab down` again")
    }
    for name in listDirectory(path) { try removeTree(path + "/" + name, device: device) }
    guard rmdir(path) == 0 || errno == ENOENT else { throw LabError.system(path, code: errno) }
}

/// Mount points at or below a path, deepest first (`/proc/self/mountinfo`, field 5).
func mountPoints(below path: String) -> [String] {
    (readFile("/proc/self/mountinfo") ?? "").split(separator: "\n").compactMap { line in
        let fields = line.split(separator: " ")
        guard fields.count > 4 else { return nil }
        let point = String(fields[4])
        return point == path || point.hasPrefix(path + "/") ? point : nil
    }.sorted { $0.count > $1.count }
}

/// Bytes that root may still write to the file system of a directory.
func freeBytes(_ path: String) -> Int {
    var information = statvfs()
    guard statvfs(path, &information) == 0 else { return 0 }
    return Int(information.f_bavail) * Int(information.f_frsize)
}
