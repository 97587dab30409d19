import Glibc
import Model
import Synchronization

/// Prints what goes on: steps, a progress line that redraws itself on a terminal, events.
///
/// Writes to standard error when standard output is to carry JSON.
public final class Console: Sendable {
    private struct State {
        var onProgressLine = false
        var lastPercent = -1
        var lastDraw = Instant(nanoseconds: 0)
        var samples: [(instant: Instant, bytes: Int)] = []
        /// What was said and is not to be seen yet; nil: it is seen at once.
        var held: [UInt8]?
    }

    private let descriptor: Int32
    private let isTerminal: Bool
    private let quiet: Bool
    private let state: Mutex<State>

    /// - Parameter held: keep what is said until `release`, for work beside other work.
    public init(json: Bool = false, quiet: Bool = false, held: Bool = false) {
        descriptor = json ? 2 : 1
        isTerminal = !held && isatty(descriptor) == 1
        self.quiet = quiet
        state = Mutex(State(held: held ? [] : nil))
    }

    /// Shows what was held, and from now on everything at once.
    public func release() {
        let held = state.withLock { state in
            defer { state.held = nil }
            return state.held ?? []
        }
        held.withUnsafeBytes { try? writeAll(descriptor, $0, "console") }
    }

    public func line(_ text: String) {
        endProgress()
        put(text + "\n")
    }

    /// Something that happened, made to stand out.
    public func event(_ text: String) { line("\n  >>> " + text + "\n") }

    public func progress(_ name: String, done: Int, of total: Int) {
        guard total > 0 else { return }
        let percent = min(100, done * 100 / total)
        let now = Instant.now()
        let speed: Double? = state.withLock { state in
            guard
                isTerminal
                    ? (now - state.lastDraw).milliseconds >= 100 || percent == 100
                    : percent / 10 > state.lastPercent / 10
            else { return nil }
            state.lastPercent = percent
            state.lastDraw = now
            state.samples.append((now, done))
            if state.samples.count > 10 { state.samples.removeFirst() }
            state.onProgressLine = isTerminal
            guard let first = state.samples.first, now > first.instant else { return 0 }
            return Double(done - first.bytes) / ((now - first.instant).milliseconds / 1000)
        }
        guard let speed else { return }
        let filled = percent * 30 / 100
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 30 - filled)
        let text =
            "\(name) [\(bar)] \(padded(String(percent), 3, right: true)) %  \(byteText(done)) of \(byteText(total))"
            + (speed > 0 ? ", \(byteText(Int(speed)))/s" : "")
        put(isTerminal ? "\r" + padded(text, 90) : text + "\n")
    }

    public func endProgress() {
        let open = state.withLock { state in
            defer { state.onProgressLine = false }
            return state.onProgressLine
        }
        if open { put("\n") }
    }

    private func put(_ text: String) {
        if quiet { return }
        let bytes = Array(text.utf8)
        let isHeld = state.withLock { state in
            state.held?.append(contentsOf: bytes)
            return state.held != nil
        }
        if isHeld { return }
        bytes.withUnsafeBytes { try? writeAll(descriptor, $0, "console") }
    }
}
