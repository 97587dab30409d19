import Glibc
import Model

/// A statement that a scenario is about: throws `LabError.failed` with the text when it does not hold.
func expect(_ holds: Bool, _ text: @autoclosure () -> String) throws {
    if !holds { throw LabError.failed(text()) }
}

extension Lab {
    /// The back-end whose kernel has the connection of a client's port. Throws when none has.
    func server(ofClientPort port: UInt16) throws -> String {
        var found: String?
        try waitUntil("a back-end with the connection of port \(port)", timeout: 5, every: 10) {
            found = try servers(ofClientPorts: [port])[port]?.first
            return found != nil
        }
        guard let found else { throw LabError.failed("no back-end has the connection of port \(port)") }
        return found
    }

    /// The back-end of each client's connection, as the director's flow table has it.
    func owners(of clients: [LineClient]) throws -> [String] { try owners(ofClientPorts: clients.map(\.localPort)) }

    func owners(ofClientPorts ports: [UInt16]) throws -> [String] {
        var owners: [String] = []
        try waitUntil("the flows of \(ports.count) connections", timeout: 2, every: 20) {
            let flows = try directorFlows()["flows"]?.array ?? []
            owners = ports.compactMap { port in
                let name = "\(LabPlan.clientAddress):\(port)"
                return flows.first { $0["client"]?.string == name }?["owner"]?.string
            }
            return owners.count == ports.count
        }
        return owners
    }

    /// Runs a server of a scenario's own on back-ends, and waits until it listens.
    func startServer(on nodes: [String], role: String, port: UInt16, _ command: [String]) throws {
        for node in nodes { try start(node, role: role, command) }
        for node in nodes {
            try waitUntil("\(role) on \(node)", timeout: 5) {
                try KernelSockets.listening(inNamespace: plan.namespacePath(node)).contains(port)
            }
        }
    }

    /// Puts a server block into nginx's configuration, in the place of the one before; nil: without one.
    func setServerBlock(_ node: String, _ block: String?) throws {
        let path = try server(node).prefix + "/nginx.conf"
        guard let text = readFile(path), let end = text.lastIndex(of: "}") else {
            throw LabError.failed("\(path) is not what the lab wrote")
        }
        let mark = "    # of the scenario\n"
        let parts = text.split(separator: mark, omittingEmptySubsequences: false)
        let rest = parts.count > 1 ? parts[0] : text[..<end]
        try writeFile(path, rest + (block.map { mark + $0 } ?? "") + "}\n")
        try expect(try signal(node, role: "nginx", SIGHUP), "nginx was not running on \(node)")
    }

    /// The director's report of a take-over, once its connections are decided.
    func settledTakeover(
        of victim: String,
        after instant: Instant,
        timeout seconds: Double = 10,
        every milliseconds: Int32 = 20
    ) throws -> TakeoverReport {
        var report: TakeoverReport?
        try waitUntil("the director's report of \(victim)'s take-over", timeout: seconds, every: milliseconds) {
            let all = try takeovers(of: victim, after: instant)
            report = all.max { $0.connections < $1.connections }
            return !all.isEmpty && all.allSatisfy { $0.settledNs != nil }
        }
        guard let report else { throw LabError.failed("the director reports no take-over of \(victim)") }
        return report
    }

    /// Waits until curl is connected and has some bytes of a reply; returns its port.
    func connected(_ download: Download, bytes: Int = 1, timeout seconds: Double = 20) throws -> UInt16 {
        try waitUntil("\(bytes) bytes of a download", timeout: seconds) {
            if download.isFinished, download.localPort == nil {
                let result = try download.result(timeout: 5)
                throw LabError.failed("curl ended with status \(result.exitCode): \(result.error)")
            }
            return download.localPort != nil && download.bytes >= bytes
        }
        guard let port = download.localPort else { throw LabError.failed("curl has no port") }
        return port
    }
}

extension TakeoverReport {
    /// The figures that every scenario with a take-over gives.
    func figures(failure: Instant) -> Figures {
        var figures: Figures = [
            "connections": .integer(Int64(connections)), "adopted": .integer(Int64(adopted)),
            "reset": .object(reset.mapValues { .integer(Int64($0)) }),
        ]
        func add(_ name: String, _ instant: UInt64?) {
            guard let instant else { return }
            figures[name] = .number(Double(Int64(bitPattern: instant &- failure.nanoseconds)) / 1e6)
        }
        add("detected_ms", detectedNs)
        add("adopted_first_ms", adoptedFirstNs)
        add("first_new_byte_ms", firstNewByteNs)
        add("settled_ms", settledNs)
        return figures
    }
}
