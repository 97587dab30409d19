import AdminProtocol

/// The parts of `batonctl status` about checks and bounds.
enum HealthTables {
    static func show(_ status: DirectorStatus) {
        if !status.checks.isEmpty {
            var table = TextTable("CHECK", "SERVICE", "BACK-END", "TARGET", "STATE", "FOR", "PASSED", "FAILED", "LAST", "WHY")
            for check in status.checks {
                table.add(
                    check.kind, check.service, check.backend, check.target, check.state,
                    "\(Decimals.text(check.sinceS, 0)) s", "\(check.passed)", "\(check.failed)",
                    check.lastMs.map { "\(Decimals.text($0, 1)) ms" } ?? "-", check.failure ?? "-"
                )
            }
            table.show()
        }
        let shown = status.limits.filter {
            $0.rate != nil || $0.refusedByAll > 0 || !$0.full.isEmpty || $0.sorry != nil
        }
        guard !shown.isEmpty else { return }
        var table = TextTable("SERVICE", "NEW FLOWS/S", "BURST", "REFUSED", "BY ALL'S LIMIT", "FULL", "SORRY")
        for limit in shown {
            table.add(
                limit.service, limit.rate.map { "\($0)" } ?? "-", limit.burst.map { "\($0)" } ?? "-",
                "\(limit.refusedByService)", "\(limit.refusedByAll)",
                limit.full.isEmpty ? "-" : limit.full.joined(separator: ","), limit.sorry ?? "-"
            )
        }
        table.show()
    }
}
