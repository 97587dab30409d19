import CLab
import Glibc
import Model

/// A blocking client for protocols of lines, with a socket of the client's namespace.
final class LineClient {
    let localPort: UInt16
    let descriptor: Int32
    var pending: [UInt8] = []

    /// - Parameter own: the client's own port; nil: one that the kernel chooses.
    init(lab: Lab, port: UInt16, to host: IPAddress = LabPlan.virtualAddress, from own: UInt16? = nil) throws {
        let address = host.ipv4 ?? 0
        descriptor = try inNetworkNamespace(lab.plan.namespacePath("client")) {
            let result = own.map { clab_tcp_connect_from($0, address, port) } ?? clab_tcp_connect(address, port, 0, 0)
            guard result >= 0 else { throw LabError.system("connect", code: -result) }
            return result
        }
        localPort = clab_local_port(descriptor)
        guard try wait(for: POLLOUT, Deadline(seconds: 5)) else { throw LabError.timeout("a connection", seconds: 5) }
    }

    deinit { close(descriptor) }

    func send(_ text: String) throws {
        try Array(text.utf8).withUnsafeBytes { try writeAll(descriptor, $0, "the client's socket") }
    }

    /// The next line with its end. Throws when none comes within five seconds, or the connection ends.
    func line() throws -> String {
        let deadline = Deadline(seconds: 5)
        while true {
            if let end = pending.firstIndex(of: 10) {
                defer { pending.removeFirst(end + 1) }
                return String(decoding: pending[...end], as: UTF8.self)
            }
            guard try waitReadable(deadline) else { throw LabError.timeout("a line from the server", seconds: 5) }
            var buffer = [UInt8](repeating: 0, count: 4096)
            let count = read(descriptor, &buffer, buffer.count)
            guard count > 0 else { throw LabError.failed(count == 0 ? "the server closed" : errorText(errno)) }
            pending += buffer[..<count]
        }
    }

    /// Waits for an RST; returns when it was seen. Throws when none came, or something else did.
    func waitForReset(timeout seconds: Double) throws -> Instant {
        guard try waitReadable(Deadline(seconds: seconds)) else { throw LabError.timeout("an RST", seconds: seconds) }
        let now = Instant.now()
        var byte: UInt8 = 0
        let count = read(descriptor, &byte, 1)
        guard count < 0, errno == ECONNRESET else {
            throw LabError.failed(count == 0 ? "a FIN came, not an RST" : count > 0 ? "a byte came" : errorText(errno))
        }
        return now
    }

    func waitReadable(_ deadline: Deadline) throws -> Bool { try wait(for: POLLIN, deadline) }

    private func wait(for events: Int32, _ deadline: Deadline) throws -> Bool {
        while true {
            try Interrupts.check()
            var watch = pollfd(fd: descriptor, events: Int16(events), revents: 0)
            if poll(&watch, 1, deadline.pollMilliseconds(atMost: 50)) > 0 { return true }
            if deadline.isOver { return false }
        }
    }
}
