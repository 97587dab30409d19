#if canImport(Glibc)
import Glibc
#endif

/// What a person asks of the simulation by the environment.
enum TestEnvironment {
    static var trace: Bool { value("BATON_TRACE") != nil }

    static func seeds(_ usual: Range<UInt64>) -> Range<UInt64> {
        let bounds = (value("BATON_SEEDS") ?? "").split(separator: "-").compactMap { UInt64($0) }
        guard let first = bounds.first else { return usual }
        return first..<(bounds.count > 1 ? max(first, bounds[1]) + 1 : first + 1)
    }

    private static func value(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }
    }
}
