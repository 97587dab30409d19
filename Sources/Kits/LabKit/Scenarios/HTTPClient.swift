import Glibc
import Model

/// Just enough HTTP for a client that says exactly what a scenario wants said.
extension LineClient {
    /// The lines of a reply's head, without their ends.
    func head() throws -> [String] {
        var lines: [String] = []
        while true {
            let line = try line().trimmedLines
            if line.isEmpty { return lines }
            lines.append(line)
        }
    }

    /// The body of the next reply, by its Content-Length or, where told so, in chunks.
    func reply(chunked: Bool = false) throws -> [UInt8] {
        let head = try head()
        if !chunked {
            let field = head.first { $0.lowercased().hasPrefix("content-length:") }
            guard let length = field.flatMap({ Int($0.split(separator: " ").last ?? "") }) else {
                throw LabError.failed("no Content-Length in \(head)")
            }
            return try readBody(bytes: length)
        }
        var body: [UInt8] = []
        while let size = Int(try line().trimmedLines, radix: 16), size > 0 {
            body += try readBody(bytes: size)
            _ = try line()
        }
        _ = try line()
        return body
    }

    func readBody(bytes count: Int, timeout seconds: Double = 30) throws -> [UInt8] {
        let deadline = Deadline(seconds: seconds)
        var body = Array(pending.prefix(count))
        pending.removeFirst(body.count)
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        body.reserveCapacity(count)
        while body.count < count {
            guard try waitReadable(deadline) else { throw LabError.timeout("\(count) bytes of a body", seconds: seconds) }
            let got = read(descriptor, &buffer, min(buffer.count, count - body.count))
            guard got > 0 else { throw LabError.failed(got == 0 ? "the server closed" : errorText(errno)) }
            body += buffer[..<got]
        }
        return body
    }

    /// Reads what is there until the connection is reset.
    func readToReset(timeout seconds: Double) throws {
        let deadline = Deadline(seconds: seconds)
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        while true {
            guard try waitReadable(deadline) else { throw LabError.timeout("an RST", seconds: seconds) }
            let got = read(descriptor, &buffer, buffer.count)
            if got > 0 { continue }
            guard got < 0, errno == ECONNRESET else { throw LabError.failed(got == 0 ? "a FIN came" : errorText(errno)) }
            return
        }
    }
}
