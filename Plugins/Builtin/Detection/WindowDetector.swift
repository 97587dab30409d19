import Model
import ModuleInterfaces

/// A sender that is silent for the window has failed ([Z] II-C).
public struct WindowDetector: FailureDetector {
    private let window: Interval
    private var last: Instant

    public init(_ parameters: DetectorParameters) {
        window = parameters.window
        last = parameters.start
    }

    public mutating func heartbeat(at now: Instant) { last = max(last, now) }

    public func suspects(at now: Instant) -> Bool { now >= deadline }

    public var deadline: Instant { last + window }

    static let descriptor = ModuleDescriptor<DetectorFactory>(
        name: "window",
        version: BuiltinModules.version,
        summary: "silence for the length of the window",
        make: { WindowDetector($0) }
    )
}
