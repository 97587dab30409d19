import Model

/// Reads `checks` of a service.
enum DirectorCheckReading {
    static let limit = 8

    static func read(_ entry: Section) -> [DirectorConfiguration.Check] {
        guard entry.has("checks") else { return [] }
        return entry.list("checks", isRequired: false, limit: limit, keys: CheckReading.keys) { entry in
            DirectorConfiguration.Check(entry: entry, kind: entry.required("kind", .choice(of: "a kind of check")))
        }
    }
}

extension DirectorConfiguration.Rate {
    /// `rate` and `burst` of a section; nil where there is no rate.
    static func read(_ section: Section, default usual: DirectorConfiguration.Rate?) -> DirectorConfiguration.Rate? {
        let range = 1...10_000_000
        let rate: Int?
        if section.has("rate") {
            rate = section.optional("rate", .rate(in: range)) ?? nil
        } else {
            rate = usual?.rate
        }
        let burst = section.optional("burst", .integer(in: range))
        if burst != nil, rate == nil {
            section.reader.report(
                section.child("burst"), "there is no rate that it could exceed", expected: "\"rate\" beside it")
        }
        return rate.map { DirectorConfiguration.Rate(rate: $0, burst: burst) }
    }
}

extension DirectorConfiguration.Backend {
    /// `upper_threshold` and `lower_threshold`.
    mutating func readThresholds(_ entry: Section) {
        upperThreshold = entry.value("upper_threshold", .integer(in: 0...1_000_000_000), default: 0)
        let lower = entry.optional("lower_threshold", .integer(in: 0...1_000_000_000))
        lowerThreshold = lower ?? 0
        guard let lower, lower >= max(upperThreshold, 1) else { return }
        entry.reader.report(
            entry.child("lower_threshold"),
            upperThreshold == 0 ? "there is no upper threshold" : "\(lower) is not below the upper one, \(upperThreshold)",
            expected: upperThreshold == 0 ? "\"upper_threshold\" beside it" : "less than \(upperThreshold)"
        )
    }
}

extension Reader {
    /// `sorry` must name a back-end.
    func checkSorry(_ services: [DirectorConfiguration.Service], _ backends: [DirectorConfiguration.Backend]) {
        let names = backends.map(\.name)
        for (index, service) in services.enumerated() {
            guard let sorry = service.sorry, !names.contains(sorry) else { continue }
            report(
                "services[\(index)].sorry", "there is no back-end \(quoted(sorry))", expected: alternatives(names),
                remedy: suggestion(for: sorry, among: names))
        }
    }
}

// MARK: Kinds of values

extension ValueKind where Value == Int? {
    /// A number a second, or `off`.
    fileprivate static func rate(in range: ClosedRange<Int>) -> ValueKind<Int?> {
        let number = ValueKind<Int>.integer(in: range)
        return ValueKind(expected: "\(number.expected), or off") { scalar in
            // YAML 1.1 has `off` for false.
            if ["off", "false"].contains(scalar.text) { return .value(nil) }
            switch number.read(scalar) {
            case .value(let value): return .value(value)
            case .fault(let problem, let remedy): return .fault(problem, remedy: remedy)
            }
        }
    }
}
