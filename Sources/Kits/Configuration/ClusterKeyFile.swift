import Glibc

/// What a cluster key's file holds: the secret that a cluster's daemons share. The control plane derives its keys from
/// these bytes.
///
/// Its bytes are shown by no description and no mirror.
public struct ClusterKeyFile: Sendable {
    /// The secret: 32 bytes at least.
    public let bytes: [UInt8]

    /// Bytes that a key must have: the output of SHA-256, below which HMAC-SHA-256 loses strength (RFC 2104 3).
    public static let minimumBytes = 32

    /// Bytes of the largest key file that is read.
    static let fileLimit = 4096

    /// A key from its bytes; nil when there are fewer than 32, or all of them are the same.
    public init?(bytes: [UInt8]) {
        guard bytes.count >= ClusterKeyFile.minimumBytes, bytes.contains(where: { $0 != bytes[0] }) else { return nil }
        self.bytes = bytes
    }

    /// Reads a key file: 64 or more hexadecimal digits, with white space anywhere, or 32 or more raw bytes.
    ///
    /// Symbolic links are followed; the checks are made on the file that was opened, so nobody can exchange it in
    /// between. The file must be a regular file that belongs to root or to the user of this process and gives no
    /// permission to group or others.
    ///
    /// - Throws: what is wrong with the file and what to do about it; never a byte of it.
    public static func load(_ path: String) throws(ConfigurationError) -> ClusterKeyFile {
        // O_NONBLOCK: opening a FIFO must not wait for a writer.
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else {
            let code = errno
            throw failure(
                path,
                "the cluster key cannot be opened: \(FileText.errorText(code))",
                code == ENOENT ? creation(path) : nil
            )
        }
        defer { close(file) }
        try checkStatus(of: file, path)
        switch FileText.readAll(file, limit: fileLimit) {
        case .failed(let code):
            throw failure(path, "the cluster key cannot be read: \(FileText.errorText(code))", nil)
        case .tooLarge:
            throw failure(path, "the cluster key is larger than \(fileLimit) bytes", creation(path))
        case .bytes(let content):
            return try parse(content, path)
        }
    }

    private static func checkStatus(of file: Int32, _ path: String) throws(ConfigurationError) {
        var status = stat()
        guard fstat(file, &status) == 0 else {
            throw failure(path, "the cluster key cannot be examined: \(FileText.errorText(errno))", nil)
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw failure(path, "the cluster key is not a regular file", creation(path))
        }
        let user = geteuid()
        guard status.st_uid == 0 || status.st_uid == user else {
            throw failure(
                path,
                "the cluster key belongs to user \(status.st_uid), who could change it",
                "give it to root: chown root \(shellWord(path))"
            )
        }
        let permissions = status.st_mode & 0o777
        guard permissions & 0o077 == 0 else {
            throw failure(
                path,
                "the cluster key has the permissions \(String(permissions, radix: 8)): group or others may use it",
                "take that away: chmod 600 \(shellWord(path)), and make a new key if others may have read it"
            )
        }
    }

    /// The key in a file's content.
    ///
    /// What consists of hexadecimal digits and white space alone is always taken for digits: 40 digits are 20 bytes
    /// of secret, not 40.
    static func parse(_ content: [UInt8], _ path: String) throws(ConfigurationError) -> ClusterKeyFile {
        let bytes: [UInt8]
        if let digits = hexDigits(content) {
            guard digits.count.isMultiple(of: 2) else {
                throw failure(
                    path,
                    "the cluster key has an odd number of hexadecimal digits (\(digits.count))",
                    creation(path)
                )
            }
            bytes = stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
        } else {
            bytes = content
        }
        guard bytes.count >= minimumBytes else {
            throw failure(
                path,
                "the cluster key has \(bytes.count) bytes, less than \(minimumBytes)",
                creation(path)
            )
        }
        guard let key = ClusterKeyFile(bytes: bytes) else {
            throw failure(path, "the cluster key is one byte, repeated", creation(path))
        }
        return key
    }

    /// The digits of a text of nothing but hexadecimal digits and white space; nil for anything else.
    private static func hexDigits(_ content: [UInt8]) -> [UInt8]? {
        var digits: [UInt8] = []
        for byte in content {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digits.append(byte - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digits.append(byte - UInt8(ascii: "a") + 10)
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digits.append(byte - UInt8(ascii: "A") + 10)
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"), UInt8(ascii: "\n"): continue
            default: return nil
            }
        }
        return digits
    }

    // MARK: Words

    private static func failure(_ path: String, _ problem: String, _ remedy: String?) -> ConfigurationError {
        ConfigurationError([Diagnostic(file: path, problem: problem, remedy: remedy)])
    }

    /// The commands that make a new key.
    static func creation(_ path: String) -> String {
        let file = shellWord(path)
        return "make one, the same for all machines of the cluster: "
            + "(umask 077; head -c 32 /dev/urandom | od -An -v -tx1 > \(file)); chmod 600 \(file)"
    }

    /// A path as a word of a shell's command line.
    private static func shellWord(_ path: String) -> String {
        let isPlain = path.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
            case UInt8(ascii: "0")...UInt8(ascii: "9"): true
            default: "/._-+:@".utf8.contains(byte)
            }
        }
        guard !isPlain else { return path }
        return "'" + path.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    }
}

extension ClusterKeyFile: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// How long it is; never what it is.
    public var description: String { "cluster key of \(bytes.count) bytes" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
