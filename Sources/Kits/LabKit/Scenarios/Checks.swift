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
