/// A table for people: columns as wide as their longest text.
struct TextTable {
    private var rows: [[String]]

    init(_ titles: String...) { rows = [titles] }

    mutating func add(_ cells: String...) { rows.append(cells) }

    /// Prints the table behind an empty line; nothing when it has no rows.
    func show() {
        guard rows.count > 1 else { return }
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        print()
        for row in rows {
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
            print(cells.joined(separator: "  "))
        }
    }
}

/// Numbers with a fixed count of decimals, without Foundation's formatters.
enum Decimals {
    static func text(_ value: Double, _ places: Int) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return "\(value)" }
        let scale = (0..<places).reduce(1.0) { product, _ in product * 10 }
        let scaled = (value * scale).rounded()
        let whole = Int64(scaled / scale)
        guard places > 0 else { return "\(Int64(scaled))" }
        let fraction = String(Int64(scaled.magnitude) % Int64(scale))
        return "\(whole)." + String(repeating: "0", count: places - fraction.count) + fraction
    }
}
