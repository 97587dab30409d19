import Glibc
import Model

/// What protection costs the director: the time of its XDP program and of its daemon under requests, with the forwarding
/// `selective` beside `owner`, which tells no backup anything.
///
/// Both run by turns in one lab under one load. The time is that of the kernel's own count (`kernel.bpf_stats_enabled`)
/// and of the daemon's threads; what driver and network stack do for a frame before and after the program is the same in
/// both and not in here, so that the ratio is rather too large than too small.
public struct ProtectionBench: Sendable, Codable {
    /// Processor time of the director with protection on, by that with protection off; median over pairs of turns.
    public var ratio: Double
    /// Of each pair of turns: the noise.
    public var ratios: [Double]
    /// Medians.
    public var nanosecondsOn: Double
    public var nanosecondsOff: Double
    public var percentOfCoreOn: Double
    public var percentOfCoreOff: Double
    public var failedRequests: Int

    enum CodingKeys: String, CodingKey {
        case ratio, ratios
        case nanosecondsOn = "ns_per_frame_on"
        case nanosecondsOff = "ns_per_frame_off"
        case percentOfCoreOn = "percent_of_core_on"
        case percentOfCoreOff = "percent_of_core_off"
        case failedRequests = "failed_requests"
    }

    public var lines: [String] {
        [
            "director: protection on takes \(rounded(ratio, 3)) of the processor time of protection off"
                + " (median of \(ratios.map { rounded($0, 3) }.joined(separator: ", ")))",
            "          \(rounded(nanosecondsOn, 1)) ns a frame in the data plane beside"
                + " \(rounded(nanosecondsOff, 1)) ns, counting included;"
                + " \(rounded(percentOfCoreOn, 2)) % of a core in all beside \(rounded(percentOfCoreOff, 2)) %;"
                + " \(failedRequests) requests failed",
        ]
    }

    public static func run(_ context: ScenarioContext, rate: Int = 2000, pairs: Int = 9) throws -> ProtectionBench {
        let counting = try ProgramCounting()
        defer { counting.end() }
        var options = LabOptions()
        options.fileSize = 1_000_000
        return try context.withLab(options) { lab in
            _ = try lab.publish("/small.bin", size: 1024, seed: 3)
            guard let director = try lab.node("director").processes.first(where: { $0.role == "director" })?.process
            else { throw LabError.failed("the lab has no director") }
            var request = RequestLoad.Request()
            request.rate = rate
            let load = try RequestLoad(lab: lab, request)
            pause(milliseconds: 2000)
            var on: [Turn] = []
            var off: [Turn] = []
            for _ in 0..<pairs {
                for method in ["owner", "selective"] {
                    try lab.setForwarding(of: "web", method)
                    pause(milliseconds: 200)
                    let turn = try Turn(director, milliseconds: 2000)
                    if method == "owner" { off.append(turn) } else { on.append(turn) }
                }
            }
            let totals = try load.stop()
            let ratios = zip(on, off).map { $0.share / $1.share }
            return ProtectionBench(
                ratio: ratios.median, ratios: ratios,
                nanosecondsOn: on.map(\.nanosecondsPerFrame).median, nanosecondsOff: off.map(\.nanosecondsPerFrame).median,
                percentOfCoreOn: on.map(\.share).median, percentOfCoreOff: off.map(\.share).median,
                failedRequests: totals.failed)
        }
    }

    /// A while under one method.
    private struct Turn {
        var nanosecondsPerFrame: Double
        /// Percent of a core, data plane and daemon.
        var share: Double

        init(_ director: Int32, milliseconds: Int32) throws {
            let before = try ProgramCounting.total(of: director)
            let daemon = ThreadTime.nanoseconds(of: director)
            let begun = Instant.now()
            pause(milliseconds: milliseconds)
            let after = try ProgramCounting.total(of: director)
            let spent = Double(ThreadTime.nanoseconds(of: director) - daemon)
            let frames = after.runs - before.runs
            let nanoseconds = Double(after.nanoseconds - before.nanoseconds)
            try expect(frames > 1000, "the director's data plane ran \(frames) times only")
            nanosecondsPerFrame = nanoseconds / Double(frames)
            share = (nanoseconds + spent) * 100 / Double((Instant.now() - begun).nanoseconds)
        }
    }
}

extension [Double] {
    fileprivate var median: Double { sorted()[count / 2] }
}

/// The kernel's count of runs and run time of eBPF programs; a switch of the whole machine, put back at the end.
private struct ProgramCounting {
    private static let path = "/proc/sys/kernel/bpf_stats_enabled"
    private let former: String

    init() throws {
        former = readFile(Self.path)?.trimmedLines ?? "0"
        try Self.set("1")
    }

    func end() { try? Self.set(former) }

    private static func set(_ value: String) throws {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw LabError.system(path, code: errno) }
        defer { close(descriptor) }
        guard write(descriptor, value, value.utf8.count) > 0 else { throw LabError.system(path, code: errno) }
    }

    /// Sums over the XDP programs that a process holds (`bpf_prog_show_fdinfo`).
    static func total(of process: Int32) throws -> (runs: UInt64, nanoseconds: UInt64) {
        var seen: Set<UInt64> = []
        var total: (runs: UInt64, nanoseconds: UInt64) = (0, 0)
        for descriptor in listDirectory("/proc/\(process)/fdinfo") {
            guard let text = readFile("/proc/\(process)/fdinfo/\(descriptor)") else { continue }
            var fields: [Substring: UInt64] = [:]
            for line in text.split(separator: "\n") {
                let words = line.split { $0 == ":" || $0 == "\t" || $0 == " " }
                if words.count == 2, let value = UInt64(words[1]) { fields[words[0]] = value }
            }
            // BPF_PROG_TYPE_XDP.
            guard fields["prog_type"] == 6, let id = fields["prog_id"], seen.insert(id).inserted else { continue }
            total.runs += fields["run_cnt"] ?? 0
            total.nanoseconds += fields["run_time_ns"] ?? 0
        }
        guard !seen.isEmpty else { throw LabError.failed("the director's daemon holds no XDP program") }
        return total
    }
}
