import Glibc
import Model

/// Why a request to a daemon got no answer.
public struct AdminClientError: Error, CustomStringConvertible, Equatable {
    public enum Code: Sendable, Equatable {
        /// There is no socket, or nobody listens at it.
        case notRunning
        /// The socket is there, but this user may not use it.
        case notPermitted
        /// No whole answer within the time-out.
        case timedOut
        /// The daemon ended the connection within its answer.
        case cutOff
        /// The daemon answered with an error.
        case refused
        /// The answer is not what was expected.
        case malformed
        /// Another failure of the socket.
        case failed
    }

    public let code: Code
    public let description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}

/// Asks a daemon over its admin socket; blocking, for command-line tools.
public struct AdminClient: Sendable {
    /// Bytes of the longest answer.
    public static let answerLimit = 1 << 30

    private let path: String
    private let daemon: String
    private let timeout: Interval

    /// - Parameters:
    ///   - daemon: The name of the program that should listen there, for error texts.
    ///   - timeout: For the whole of a request and its answer.
    public init(path: String, daemon: String = "baton-director", timeout: Interval = .seconds(5)) {
        self.path = path
        self.daemon = daemon
        self.timeout = timeout
    }

    /// Sends a request and waits for its answer.
    ///
    /// - Returns: The answer, a JSON document without a line end.
    public func request(_ request: AdminRequest) throws(AdminClientError) -> [UInt8] {
        let deadline = monotonicNanoseconds() + max(timeout.nanoseconds, 0)
        let descriptor = try connect(deadline: deadline)
        defer { close(descriptor) }
        do {
            try send(try AdminJSON.encode(request) + [UInt8(ascii: "\n")], to: descriptor, deadline: deadline)
            return try receiveLine(from: descriptor, deadline: deadline)
        } catch let error as AdminClientError {
            throw error
        } catch {
            throw AdminClientError(.failed, "the request cannot be encoded: \(error)")
        }
    }

    /// Sends a request and decodes its answer.
    public func request<Answer: Decodable>(
        _ request: AdminRequest,
        as type: Answer.Type
    ) throws(AdminClientError) -> Answer {
        let bytes = try self.request(request)
        if let failure = try? AdminJSON.decode(AdminFailure.self, from: bytes) {
            throw AdminClientError(.refused, "\(daemon): \(failure.error)")
        }
        do {
            return try AdminJSON.decode(type, from: bytes)
        } catch {
            throw AdminClientError(
                .malformed,
                "\(daemon) answered \(request.command) with something else than expected (another version?): \(error)"
            )
        }
    }

    // MARK: Steps

    private func connect(deadline: Int64) throws(AdminClientError) -> CInt {
        let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(AF_UNIX, type, 0)
        guard descriptor >= 0 else { throw AdminClientError(.failed, "\(path): \(errorText(errno))") }
        while true {
            let result = LocalSocketFile.withAddress(path) { Glibc.connect(descriptor, $0, $1) }
            if result == 0 { return descriptor }
            let code = result == nil ? ENAMETOOLONG : errno
            // EAGAIN: the daemon's queue is full. A unix socket says nothing when there is room again.
            if code == EAGAIN || code == EINTR, monotonicNanoseconds() < deadline {
                usleep(5_000)
                continue
            }
            close(descriptor)
            throw connectError(code)
        }
    }

    private func connectError(_ code: CInt) -> AdminClientError {
        switch code {
        case ENOENT: AdminClientError(.notRunning, "no socket at \(path): is \(daemon) running?")
        case ECONNREFUSED: AdminClientError(.notRunning, "nobody listens at \(path): is \(daemon) running?")
        case EACCES, EPERM: AdminClientError(.notPermitted, "\(path): not permitted; run it as root")
        case EAGAIN, EINTR: AdminClientError(.timedOut, "\(path): \(daemon) does not take the connection")
        default: AdminClientError(.failed, "\(path): \(errorText(code))")
        }
    }

    private func send(_ bytes: [UInt8], to descriptor: CInt, deadline: Int64) throws(AdminClientError) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress.map { $0 + sent }, $0.count - sent, CInt(MSG_NOSIGNAL))
            }
            if count > 0 {
                sent += count
            } else if errno == EAGAIN {
                try wait(for: CInt(POLLOUT), descriptor, deadline)
            } else if errno == EPIPE || errno == ECONNRESET {
                // The answer may say why; it is still to be read.
                return
            } else if errno != EINTR {
                throw AdminClientError(.failed, "\(path): \(errorText(errno))")
            }
        }
    }

    private func receiveLine(from descriptor: CInt, deadline: Int64) throws(AdminClientError) -> [UInt8] {
        var line: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while line.count <= AdminClient.answerLimit {
            let count = chunk.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, 0) }
            if count > 0 {
                let part = chunk[..<count]
                guard let end = part.firstIndex(of: UInt8(ascii: "\n")) else {
                    line.append(contentsOf: part)
                    continue
                }
                line.append(contentsOf: part[..<end])
                return line
            }
            if count == 0 || errno == ECONNRESET {
                throw AdminClientError(.cutOff, "\(path): \(daemon) ended the connection before its answer was whole")
            }
            if errno == EAGAIN {
                try wait(for: CInt(POLLIN), descriptor, deadline)
            } else if errno != EINTR {
                throw AdminClientError(.failed, "\(path): \(errorText(errno))")
            }
        }
        throw AdminClientError(
            .malformed, "\(path): \(daemon) answered with more than \(AdminClient.answerLimit) bytes")
    }

    private func wait(for events: CInt, _ descriptor: CInt, _ deadline: Int64) throws(AdminClientError) {
        while true {
            let left = deadline - monotonicNanoseconds()
            guard left > 0 else {
                let seconds = Double(timeout.nanoseconds) / 1e9
                throw AdminClientError(.timedOut, "\(path): no answer from \(daemon) within \(seconds) s")
            }
            var entry = pollfd(fd: descriptor, events: Int16(truncatingIfNeeded: events), revents: 0)
            if poll(&entry, 1, CInt(clamping: left / 1_000_000 + 1)) > 0 { return }
        }
    }
}

private func monotonicNanoseconds() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}
