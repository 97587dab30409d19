import CLab
import Glibc
import Model
import Synchronization

/// A UDP server in every web node: it answers with the node's name.
final class DatagramServers: Sendable {
    private let stopped = Atomic(false)
    private let running: Atomic<Int>

    init(lab: Lab, port: UInt16) throws {
        running = Atomic(0)
        let vip = LabPlan.virtualAddress.ipv4 ?? 0
        for node in lab.plan.webNodes {
            let socket = try inNetworkNamespace(lab.plan.namespacePath(node)) {
                let socket = clab_udp_server(vip, port)
                guard socket >= 0 else { throw LabError.system("UDP server on \(node)", code: -socket) }
                return socket
            }
            running.add(1, ordering: .relaxed)
            startThread { [self] in
                let name = Array(node.utf8)
                // An error that ICMP has told of a former answer comes from here; the next datagram is answered all the same.
                while !stopped.load(ordering: .relaxed) { _ = clab_udp_answer(socket, name, name.count, 50) }
                close(socket)
                running.subtract(1, ordering: .releasing)
            }
        }
    }

    /// Returns when all sockets are closed.
    func stop() {
        stopped.store(true, ordering: .relaxed)
        while running.load(ordering: .acquiring) > 0 { pause(milliseconds: 5) }
    }
}

/// A UDP socket of the client's namespace.
final class DatagramClient {
    private let descriptor: Int32

    init(lab: Lab, port: UInt16) throws {
        let vip = LabPlan.virtualAddress.ipv4 ?? 0
        descriptor = try inNetworkNamespace(lab.plan.namespacePath("client")) {
            let socket = clab_udp_connect(vip, port)
            guard socket >= 0 else { throw LabError.system("UDP socket", code: -socket) }
            return socket
        }
    }

    deinit { close(descriptor) }

    /// Sends a datagram and returns the answer. Throws when none comes within two seconds.
    func ask(bytes: Int) throws -> String {
        guard let answer = try tryToAsk(bytes: bytes, milliseconds: 2000) else {
            throw LabError.timeout("an answer to a datagram of \(bytes) bytes", seconds: 2)
        }
        return answer
    }

    /// Asks again and again, each tenth of a second.
    func askUntilAnswered(seconds: Double) throws -> String {
        let deadline = Deadline(seconds: seconds)
        while !deadline.isOver {
            if let answer = try tryToAsk(bytes: 10, milliseconds: 100) { return answer }
        }
        throw LabError.timeout("an answer to any datagram", seconds: seconds)
    }

    private func tryToAsk(bytes: Int, milliseconds: Int32) throws -> String? {
        try Interrupts.check()
        let question = [UInt8](repeating: 63, count: bytes)
        guard send(descriptor, question, question.count, Int32(MSG_NOSIGNAL)) == question.count else { return nil }
        var watch = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&watch, 1, milliseconds) > 0 else { return nil }
        var answer = [UInt8](repeating: 0, count: 256)
        let count = recv(descriptor, &answer, answer.count, 0)
        return count > 0 ? String(decoding: answer[..<count], as: UTF8.self) : nil
    }
}
