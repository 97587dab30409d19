import Glibc

/// Runs a program and waits for it; its messages go to this tool's own standard error.
func spawn(_ program: String, _ arguments: [String]) throws(EmbedError) {
    let words = [program] + arguments
    var pointers: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
    defer { for pointer in pointers { free(pointer) } }
    pointers.append(nil)
    var process: pid_t = 0
    let code = posix_spawn(&process, program, nil, nil, &pointers, environ)
    guard code == 0 else { throw EmbedError("cannot start \(program): \(String(cString: strerror(code)))") }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0 {
        guard errno == EINTR else { throw EmbedError("cannot wait for \(program)") }
    }
    guard status == 0 else {
        throw EmbedError("failed (wait status \(status)): \(words.joined(separator: " "))")
    }
}

func readFile(_ path: String) throws(EmbedError) -> [UInt8] {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw EmbedError("cannot open \(path): \(String(cString: strerror(errno)))") }
    defer { close(file) }
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 65536)
    while true {
        let count = read(file, &part, part.count)
        guard count >= 0 else { throw EmbedError("cannot read \(path): \(String(cString: strerror(errno)))") }
        if count == 0 { return bytes }
        bytes += part[..<count]
    }
}

func writeFile(_ path: String, _ bytes: [UInt8]) throws(EmbedError) {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw EmbedError("cannot create \(path): \(String(cString: strerror(errno)))") }
    defer { close(file) }
    guard write(bytes, to: file) else { throw EmbedError("cannot write \(path): \(String(cString: strerror(errno)))") }
}

/// Writes all bytes; false with errno set when that fails.
@discardableResult
func write(_ bytes: [UInt8], to file: Int32) -> Bool {
    bytes.withUnsafeBytes { buffer in
        var done = 0
        while done < buffer.count {
            let count = Glibc.write(file, buffer.baseAddress?.advanced(by: done), buffer.count - done)
            if count < 0 { return false }
            done += count
        }
        return true
    }
}

/// RFC 4648 section 4, with padding.
func base64(_ bytes: [UInt8]) -> String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var text: [UInt8] = []
    text.reserveCapacity((bytes.count + 2) / 3 * 4)
    for start in stride(from: 0, to: bytes.count, by: 3) {
        let group = bytes[start..<min(start + 3, bytes.count)]
        let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - group.count))
        for place in 0..<4 {
            let digit = alphabet[Int(bits >> UInt32(18 - 6 * place) & 63)]
            text.append(place <= group.count ? digit : UInt8(ascii: "="))
        }
    }
    return String(decoding: text, as: UTF8.self)
}
