import Model

/// A unit of durations or sizes: its name and how many of the base unit it is.
struct Unit {
    var name: String
    var factor: Int
}

/// Units of time, in nanoseconds, the longest first.
private let durationUnits = [
    Unit(name: "h", factor: 3_600_000_000_000), Unit(name: "m", factor: 60_000_000_000),
    Unit(name: "s", factor: 1_000_000_000), Unit(name: "ms", factor: 1_000_000), Unit(name: "us", factor: 1_000),
    Unit(name: "ns", factor: 1),
]

/// Units of size, in bytes: powers of 1024 first, which is what messages use, then powers of 1000.
private let sizeUnits = [
    Unit(name: "GiB", factor: 1 << 30), Unit(name: "MiB", factor: 1 << 20), Unit(name: "KiB", factor: 1 << 10),
    Unit(name: "B", factor: 1), Unit(name: "GB", factor: 1_000_000_000), Unit(name: "MB", factor: 1_000_000),
    Unit(name: "kB", factor: 1_000),
]

extension ValueKind where Value == Interval {
    /// A duration with its unit.
    static func duration(in range: ClosedRange<Interval>) -> ValueKind<Interval> {
        let bounds = "\(durationText(range.lowerBound)) to \(durationText(range.upperBound))"
        return ValueKind(expected: "a duration with its unit (ms, s, m, ...) from \(bounds), e.g. 10ms or 2s") {
            scalar in
            switch quantity(scalar, units: durationUnits, what: "a duration", example: "ms") {
            case .fault(let problem, let remedy): .fault(problem, remedy: remedy)
            case .value(let nanoseconds):
                range.contains(Interval(nanoseconds: Int64(nanoseconds)))
                    ? .value(Interval(nanoseconds: Int64(nanoseconds)))
                    : .fault("\(scalar.shown) is out of range")
            }
        }
    }
}

extension ValueKind where Value == Int {
    /// A size in bytes with its unit.
    static func size(in range: ClosedRange<Int>) -> ValueKind<Int> {
        let bounds = "\(sizeText(range.lowerBound)) to \(sizeText(range.upperBound))"
        return ValueKind(expected: "a size with its unit (KiB, MiB, GiB, ...) from \(bounds), e.g. 16MiB") { scalar in
            switch quantity(scalar, units: sizeUnits, what: "a size", example: "B") {
            case .fault(let problem, let remedy): .fault(problem, remedy: remedy)
            case .value(let bytes):
                range.contains(bytes) ? .value(bytes) : .fault("\(scalar.shown) is out of range")
            }
        }
    }
}

/// A number and a unit without a space between, as a count of the base unit.
private func quantity(_ scalar: ScalarText, units: [Unit], what: String, example: String) -> Reading<Int> {
    let text = scalar.text
    let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == "_") }
    let unitName = String(text[digits.endIndex...])
    guard let number = magnitude(digits) else { return .fault("\(scalar.shown) is not \(what)") }
    if unitName.isEmpty {
        return .fault("\(scalar.shown) has no unit", remedy: "write for example \(text)\(example)")
    }
    if unitName.hasPrefix(".") {
        return .fault("\(scalar.shown) has a fraction", remedy: "write a whole number of a smaller unit")
    }
    guard let unit = units.first(where: { $0.name == unitName }) else {
        if let spaced = units.first(where: { $0.name == unitName.trimmingSpaces }) {
            return .fault("\(scalar.shown) has a space in it", remedy: "write \(digits)\(spaced.name)")
        }
        return .fault("\(scalar.shown) has the unknown unit \(quoted(unitName))")
    }
    guard case .value(let count) = number else { return .fault("\(scalar.shown) is out of range") }
    let (product, overflow) = count.multipliedReportingOverflow(by: unit.factor)
    return overflow ? .fault("\(scalar.shown) is out of range") : .value(product)
}

/// A duration as the configuration writes it: the largest unit that says it in a whole number.
public func durationText(_ interval: Interval) -> String {
    quantityText(Int(interval.nanoseconds), units: durationUnits, zero: "0s")
}

/// A size as the configuration writes it: the largest binary unit that says it in a whole number.
public func sizeText(_ bytes: Int) -> String {
    quantityText(bytes, units: Array(sizeUnits.prefix(4)), zero: "0B")
}

private func quantityText(_ count: Int, units: [Unit], zero: String) -> String {
    guard count != 0, let unit = units.first(where: { count.isMultiple(of: $0.factor) }) else { return zero }
    return "\(count / unit.factor)\(unit.name)"
}

extension String {
    /// Without the spaces at its beginning.
    fileprivate var trimmingSpaces: String { String(drop { $0 == " " }) }
}
