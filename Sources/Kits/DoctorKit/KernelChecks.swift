import CLinux
import Glibc
import LinuxBPF
import LinuxNetwork

/// What the kernel must be able to do, asked of its types (BTF), never of its version.
enum KernelChecks {
    /// A function of the kernel, and what needs it.
    struct Need: Sendable {
        var function: String
        var purpose: String
    }

    static let director = [
        Need(function: "tcx_link_attach", purpose: "the copies of the forwarding `duplicate` (tcx links)"),
        Need(function: "bpf_loop", purpose: "dispatch by load (bpf_loop)"),
        Need(function: "bpf_xdp_get_buff_len", purpose: "frames in several buffers (XDP frags)"),
    ]
    static let agent = [
        Need(function: "bpf_sk_assign_tcp_reqsk", purpose: "adoption of connections"),
        Need(function: "inet_sk_state_store", purpose: "the guard of applications that a signal ends"),
    ]

    /// - Parameter has: whether the kernel has a function.
    static func features(_ needs: [Need], has: (String) throws -> Bool) rethrows -> [Finding] {
        let missing = try needs.filter { try !has($0.function) }
        guard !missing.isEmpty else { return Finding.ok("kernel", "the kernel has all that is needed") }
        return missing.map {
            Finding(
                "kernel", .fatal, "this kernel's BTF has no function \($0.function), which \($0.purpose) needs",
                remedy: "run Linux 6.12 or later with CONFIG_DEBUG_INFO_BTF and CONFIG_SYN_COOKIES")
        }
    }

    static func features(_ needs: [Need]) throws -> [Finding] {
        guard access("/sys/kernel/btf/vmlinux", R_OK) == 0 else {
            return [
                Finding(
                    "kernel", .fatal, "this kernel does not tell its types: /sys/kernel/btf/vmlinux is not there",
                    remedy: "run a kernel with CONFIG_DEBUG_INFO_BTF")
            ]
        }
        return try features(needs) { try KernelBTF.hasFunction($0) }
    }

    static func tun() -> [Finding] {
        guard access("/dev/net/tun", F_OK) != 0 else { return Finding.ok("tun", "/dev/net/tun is there") }
        return [
            Finding(
                "tun", .fatal, "there is no /dev/net/tun, through which connections are adopted",
                remedy: "mknod /dev/net/tun c 10 200, or a kernel with CONFIG_TUN")
        ]
    }
}

/// The clock that leases are counted by.
enum ClockCheck {
    /// Parts per million by which CLOCK_MONOTONIC is made to run off its source.
    ///
    /// - Parameters:
    ///   - frequency: as adjtimex(2) has it, with 16 binary places.
    ///   - tick: microseconds; 10,000 is none off (at 100 Hz).
    static func deviation(frequency: Int64, tick: Int64) -> Double {
        Double(frequency) / 65536 + Double(tick - 10_000) * 100
    }

    /// Promises are kept 1/64 longer than leases (15,625 ppm), which two clocks share.
    static func judge(deviation: Double, source: String) -> [Finding] {
        let off = Int(deviation.magnitude.rounded())
        if deviation.magnitude > 7_500 {
            return [
                Finding(
                    "clock", .fatal,
                    "CLOCK_MONOTONIC is slewed by \(off) ppm; leases of two machines may differ by 15,625 ppm at most",
                    remedy: "put the tick back to 10000 (adjtimex --tick 10000) and let a clock daemon slew by less")
            ]
        }
        if ["jiffies", "refined-jiffies"].contains(source) {
            return [
                Finding(
                    "clock", .warning, "the clock source \(source) moves in whole ticks, and may lose some",
                    remedy: "choose another one of /sys/devices/system/clocksource/clocksource0/available_clocksource")
            ]
        }
        if deviation.magnitude > 1_000 {
            return [
                Finding(
                    "clock", .warning, "CLOCK_MONOTONIC is slewed by \(off) ppm, which uses up the leases' margin of 15,625",
                    remedy: "see what the clock daemon is doing: chronyc tracking, or ntpq -c rv")
            ]
        }
        return Finding.ok(
            "clock", "CLOCK_MONOTONIC (\(source)) is \(off) ppm off, of 15,625 allowed; the time of day (CLOCK_REALTIME) does "
                + "not matter")
    }

    static func run() throws -> [Finding] {
        var frequency: Int64 = 0
        var tick: Int64 = 0
        guard clinux_clock_rate(&frequency, &tick) == 0 else { throw Failed("adjtimex: errno \(errno)") }
        let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
        let source = readText(path)?.trimmed ?? "unknown"
        return judge(deviation: deviation(frequency: frequency, tick: tick), source: source)
    }
}

/// A step of a check that failed.
struct Failed: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// The beginning of a small text file; nil when it cannot be read.
func readText(_ path: String) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var buffer = [UInt8](repeating: 0, count: 65536)
    let count = read(file, &buffer, buffer.count)
    return count >= 0 ? String(decoding: buffer.prefix(count), as: UTF8.self) : nil
}

extension String {
    var trimmed: String {
        var text = Substring(self)
        while let last = text.last, last == "\n" || last == " " { text.removeLast() }
        return String(text.drop { $0 == " " })
    }
}
