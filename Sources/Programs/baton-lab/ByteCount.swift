import ArgumentParser

/// A count of bytes on the command line: `200MB`, `64KiB`, `1GB`, or a bare number.
struct ByteCount: ExpressibleByArgument, Sendable {
    var bytes: Int

    init(_ bytes: Int) { self.bytes = bytes }

    private static let units: [(String, Int)] = [
        ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000),
        ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("B", 1),
    ]

    init?(argument: String) {
        let unit = ByteCount.units.first { argument.hasSuffix($0.0) }
        let digits = argument.dropLast(unit?.0.count ?? 0)
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (48...57).contains($0) }), let count = Int(digits) else {
            return nil
        }
        let (bytes, overflow) = count.multipliedReportingOverflow(by: unit?.1 ?? 1)
        guard !overflow else { return nil }
        self.bytes = bytes
    }

    var defaultValueDescription: String {
        bytes % 1_000_000 == 0 ? "\(bytes / 1_000_000)MB" : String(bytes)
    }
}
