import Model

/// The end of a wait on the monotonic clock.
struct Deadline: Sendable {
    var instant: Instant

    static let never = Deadline(instant: .never)

    init(instant: Instant) { self.instant = instant }
    init(seconds: Double) { self.init(instant: .now() + Interval(nanoseconds: Int64(seconds * 1e9))) }

    var isOver: Bool { Instant.now() >= instant }

    /// What is left, for poll(2): at least 1 while time is left.
    func pollMilliseconds(atMost limit: Int32) -> Int32 {
        guard instant != .never else { return limit }
        let left = (instant - .now()).nanoseconds
        return left <= 0 ? 0 : min(limit, Int32(clamping: left / 1_000_000 + 1))
    }
}

/// Waits until a condition holds, looking at it again and again.
///
/// Throws `LabError.timeout` naming `what`, `.interrupted`, or what the condition throws.
public func waitUntil(
    _ what: String,
    timeout seconds: Double,
    every milliseconds: Int32 = 5,
    _ condition: () throws -> Bool
) throws {
    let deadline = Deadline(seconds: seconds)
    while true {
        try Interrupts.check()
        if try condition() { return }
        if deadline.isOver { throw LabError.timeout(what, seconds: seconds) }
        pause(milliseconds: milliseconds)
    }
}
