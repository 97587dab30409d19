import Glibc
import Model

/// The kernel's sentence for an error number.
func errorText(_ code: Int32) -> String {
    guard let text = strerror(code) else { return "error \(code)" }
    return String(cString: text)
}

/// A decimal number with a fixed count of places, the same in every locale.
func rounded(_ value: Double, _ places: Int) -> String {
    guard value.isFinite, value.magnitude < 1e15 else { return "-" }
    var scale = 1.0
    for _ in 0..<places { scale *= 10 }
    let units = UInt64((value.magnitude * scale).rounded())
    let whole = units / UInt64(scale)
    let sign = value < 0 && units > 0 ? "-" : ""
    guard places > 0 else { return sign + String(whole) }
    let fraction = String(units % UInt64(scale))
    return sign + String(whole) + "." + String(repeating: "0", count: places - fraction.count) + fraction
}

/// Text in a field of a given width.
func padded(_ text: String, _ width: Int, right: Bool = false) -> String {
    let space = String(repeating: " ", count: max(0, width - text.count))
    return right ? space + text : text + space
}

/// Bytes as people write them: decimal units.
func byteText(_ bytes: Int) -> String {
    if bytes >= 1_000_000_000 { return rounded(Double(bytes) / 1e9, 2) + " GB" }
    if bytes >= 1_000_000 { return rounded(Double(bytes) / 1e6, 1) + " MB" }
    if bytes >= 1_000 { return rounded(Double(bytes) / 1e3, 1) + " kB" }
    return "\(bytes) B"
}

extension Instant {
    /// CLOCK_MONOTONIC now: the clock of the daemons and of the kernel's eBPF programs on this machine.
    public static func now() -> Instant {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Instant(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
    }
}

/// Sleeps; returns early when a signal asks for the end.
func pause(milliseconds: Int32) {
    _ = poll(nil, 0, milliseconds)
}
