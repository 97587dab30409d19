/// One download, its server gone at 5 %, 50 % and 95 %, in each of the four ways.
let takeoverScenarios: [Scenario] = KillMode.allCases.map { how in
    Scenario(
        "takeover-\(how.rawValue)",
        "A 200 MB download whose server fails (\(how.meaning)) at 5 %, 50 % and 95 %: right SHA-256 each time."
    ) { context in
        var figures: Figures = [:]
        for percent in [5, 50, 95] {
            context.console.line("\(how.meaning) at \(percent) %")
            var options = Demo.Options()
            options.how = how
            options.failAt = Double(percent) / 100
            let report = try context.withLab { try Demo(options: options, console: context.console).run(in: $0) }
            guard report.passed else {
                throw LabError.failed("at \(percent) %: \(report.complaints.joined(separator: "; "))")
            }
            figures["stall_ms_at_\(percent)"] = .number(report.hit.map(\.stallMs).max() ?? 0)
            figures["arrival_stall_ms_at_\(percent)"] = .number(report.hit.compactMap(\.arrivalStallMs).max() ?? 0)
        }
        return figures
    }
}
