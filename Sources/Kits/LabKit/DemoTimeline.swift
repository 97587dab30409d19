import Model

/// The demonstration's story as a person reads it.
struct DemoTimeline {
    let report: DemoReport

    /// Each event with its instant, in order of time.
    private var events: [(instant: UInt64, text: String)] {
        var list: [(UInt64, String)] = [(report.failureNs, "\(report.victim): \(how)")]
        func add(_ instant: UInt64?, _ text: String) {
            if let instant { list.append((instant, text)) }
        }
        if let takeover = report.takeover {
            let backup = takeover.backup
            add(takeover.detectedNs, "detection   the director misses \(takeover.victim)")
            add(takeover.orderedNs, "order       \(backup) is to take over")
            add(takeover.probeFirstNs, "probe       \(backup) asks the clients what they have")
            add(takeover.adoptedFirstNs, "adoption    \(backup)'s nginx has the first connection")
            add(takeover.firstReplyNs, "catch-up    nginx replies again; what the clients have is swallowed")
            add(takeover.firstNewByteNs, "new byte    the first one that a client did not have leaves \(backup)")
            add(takeover.settledNs, "settled     \(backup) owns the slot")
        }
        return list.sorted { $0.0 < $1.0 }
    }

    private var how: String { KillMode(rawValue: report.how)?.meaning ?? report.how }

    var lines: [String] {
        var lines = ["", "        time   what happened"]
        for event in events {
            let offset = Double(Int64(bitPattern: event.instant &- report.failureNs)) / 1e6
            lines.append(padded(rounded(offset, 3), 9, right: true) + " ms  " + event.text)
        }
        if report.takeover == nil { lines.append("            -  the director reports no take-over") }
        lines.append("")
        lines += facts
        lines.append("")
        lines += report.passed ? ["right: the same connection, another server, every byte"] : complaints
        return lines
    }

    private var facts: [String] {
        var lines: [String] = []
        func add(_ name: String, _ text: String) { lines.append("  " + padded(name, 16) + text) }
        add("served before", serverText(\.before))
        add("served after", serverText(\.after))
        if let takeover = report.takeover {
            add(
                "connections",
                "\(takeover.connections) on \(takeover.victim), \(takeover.adopted) adopted" + resets(takeover))
            if takeover.caughtUpBytes > 0 { add("caught up", byteText(takeover.caughtUpBytes)) }
        }
        let hit = report.hit
        if !hit.isEmpty {
            let arrivals = hit.compactMap(\.arrivalStallMs)
            // curl's rate limit makes pauses of its own; what the failure cost shows at the client's TCP.
            add("client's stall", stallText(arrivals.isEmpty ? hit.map(\.stallMs) : arrivals) + " without a new byte")
            if !arrivals.isEmpty { add("", stallText(hit.map(\.stallMs)) + " longest pause of curl, its own pacing included") }
        }
        let others = report.clients.filter { $0.before != report.victim }
        if !others.isEmpty {
            add("the others", "\(others.count) downloads, " + stallText(others.map(\.stallMs)) + " without a byte")
        }
        add("file", "\(report.size) bytes")
        add("SHA-256", report.sha256 + "  on the servers")
        let sums = Set(report.clients.map(\.sha256)).sorted()
        for sum in sums {
            let count = report.clients.count { $0.sha256 == sum }
            add(
                "",
                sum
                    + (report.clients.count == 1
                        ? "  at the client" : "  at \(count) of \(report.clients.count) clients"))
        }
        return lines
    }

    private var complaints: [String] { report.complaints.prefix(10).map { "wrong: " + $0 } }

    private func resets(_ takeover: TakeoverReport) -> String {
        takeover.reset.filter { $0.value > 0 }.sorted { $0.key < $1.key }.map { ", \($0.value) reset (\($0.key))" }
            .joined()
    }

    private func serverText(_ server: KeyPath<DemoReport.Client, String?>) -> String {
        let names = report.hit.map { $0[keyPath: server] ?? "nobody seen" }
        return Set(names).sorted().map { name in
            report.clients.count == 1 ? name : "\(name) (\(names.count { $0 == name }))"
        }.joined(separator: ", ")
    }

    private func stallText(_ stalls: [Double]) -> String {
        let sorted = stalls.sorted()
        guard let last = sorted.last, sorted.count > 1 else { return rounded(sorted.last ?? 0, 1) + " ms" }
        return rounded(sorted[sorted.count / 2], 1) + " ms (median), " + rounded(last, 1) + " ms (longest)"
    }
}
