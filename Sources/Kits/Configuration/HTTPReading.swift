import Model

extension HTTPReplay {
    /// Reads `methods` and `range_from` of a service; they are out of place where its `replay` is not `http`.
    init(entry: Section, replay: ReplayPolicy) {
        let methods = entry.value("methods", .methods, default: .safe)
        let rangeFrom = entry.value("range_from", .rangeFrom, default: HTTPReplay.usualRangeFrom)
        self.init(methods: methods, rangeFrom: rangeFrom)
        guard replay != .http else { return }
        for key in ["methods", "range_from"] where entry.reader.places[entry.child(key)] != nil {
            entry.reader.report(
                entry.child(key),
                "\(quoted(key)) is about requests, and the replay policy is \(replay.name)",
                expected: "\"replay: http\" beside it",
                remedy: "remove it, or say \"replay: http\""
            )
        }
    }
}

extension ValueKind where Value == ReplayMethods {
    fileprivate static var methods: ValueKind<ReplayMethods> {
        let names = ReplayMethods.allCases.map(\.name)
        return ValueKind(expected: alternatives(names)) { scalar in
            if let methods = ReplayMethods.allCases.first(where: { $0.name == scalar.text }) { return .value(methods) }
            return .fault(
                "\(quoted(scalar.text)) is not a set of methods",
                remedy: suggestion(for: scalar.text, among: names)
            )
        }
    }
}

extension ValueKind where Value == UInt64? {
    /// A size in bytes, or `off`.
    fileprivate static var rangeFrom: ValueKind<UInt64?> {
        ValueKind(expected: "a size from 1kB to 1TB, e.g. 1MB, or off") { scalar in
            if scalar.text == "off" || scalar.text == "false" { return .value(nil) }
            let digits = scalar.text.prefix { $0.isNumber || $0 == "_" }
            let factors: [String: Int] = ["B": 1, "kB": 1000, "MB": 1_000_000, "GB": 1_000_000_000]
            guard case .value(let number) = magnitude(digits) else { return .fault("\(scalar.shown) is not a size") }
            guard let factor = factors[String(scalar.text.dropFirst(digits.count))] else {
                return .fault("\(scalar.shown) has no unit that is known", remedy: "write B, kB, MB or GB behind it")
            }
            let (bytes, isOver) = number.multipliedReportingOverflow(by: factor)
            guard !isOver, (1000...1_000_000_000_000).contains(bytes) else {
                return .fault("\(scalar.shown) is out of range")
            }
            return .value(UInt64(bytes))
        }
    }
}
