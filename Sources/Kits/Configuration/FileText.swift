import Glibc

/// Reads small files whole, with the errno of what failed.
enum FileText {
    /// Bytes of the largest configuration file that is read: far above any real one, far below a danger to memory.
    static let limit = 1 << 20

    /// The bytes of a configuration file.
    static func read(_ path: String, remedy: String) throws(ConfigurationError) -> [UInt8] {
        let failure = { (problem: String, remedy: String?) in
            ConfigurationError([Diagnostic(file: path, problem: problem, remedy: remedy)])
        }
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else {
            let code = errno
            throw failure("cannot be opened: \(errorText(code))", code == ENOENT ? remedy : nil)
        }
        defer { close(file) }
        switch readAll(file, limit: limit) {
        case .bytes(let bytes): return bytes
        case .tooLarge: throw failure("is larger than 1 MiB, the most that is read", nil)
        case .failed(let code): throw failure("cannot be read: \(errorText(code))", nil)
        }
    }

    enum Content {
        case bytes([UInt8])
        case tooLarge
        case failed(Int32)
    }

    /// Everything from an open file up to a limit; EINTR is retried.
    static func readAll(_ file: Int32, limit: Int) -> Content {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = Glibc.read(file, &chunk, chunk.count)
            if count < 0 {
                if errno == EINTR { continue }
                return .failed(errno)
            }
            if count == 0 { return .bytes(bytes) }
            bytes += chunk[..<count]
            if bytes.count > limit { return .tooLarge }
        }
    }

    /// The text of an errno, with its number: `No such file or directory (errno 2)`.
    static func errorText(_ code: Int32) -> String {
        "\(String(cString: strerror(code))) (errno \(code))"
    }
}

/// The network interfaces of this machine (of this network namespace), for the check of a configuration.
public enum MachineInterfaces {
    /// Their names, sorted; nil when the kernel does not tell them.
    public static func names() -> [String]? {
        guard let list = if_nameindex() else { return nil }
        defer { if_freenameindex(list) }
        var names: [String] = []
        var entry = list
        while entry.pointee.if_index != 0, let name = entry.pointee.if_name {
            names.append(String(cString: name))
            entry += 1
        }
        return names.sorted()
    }
}
