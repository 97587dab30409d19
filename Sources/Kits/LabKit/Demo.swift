import Glibc
import Model

/// The main job, shown: downloads through the director, the server of one dies, another goes on.
public struct Demo: Sendable {
    public struct Options: Sendable {
        public var how = KillMode.link
        public var clients = 1
        public var size = 200_000_000
        /// Bytes each second of each client.
        public var rate = 25_000_000
        /// The part of the file that has arrived when the server fails.
        public var failAt = 0.4
        /// How long a frozen server stays frozen at most, in seconds: it is thawed when half of the rest of the
        /// download should have come, so that it wakes up while the client is still being served.
        public var freezeSeconds = 5.0
        /// What curl asks for; nil: `/large.bin` of the lab's virtual address.
        public var url: String?

        public init() {}
    }

    public let options: Options
    private let console: Console

    public init(options: Options, console: Console) throws {
        guard (1...200).contains(options.clients) else {
            throw LabError.invalid("--clients \(options.clients): from 1 to 200")
        }
        guard options.size >= 1_000_000 else { throw LabError.invalid("--size: at least 1 MB, to have a middle") }
        guard options.rate >= 100_000 else { throw LabError.invalid("--rate: at least 100 kB each second") }
        guard options.failAt > 0, options.failAt < 1 else { throw LabError.invalid("--at: above 0 % and below 100 %") }
        self.options = options
        self.console = console
    }

    /// Runs in a lab that is up. Throws when it could not be run; what went wrong in it stands in the report.
    public func run(in lab: Lab) throws -> DemoReport {
        guard let file = lab.file(), file.size == options.size else {
            throw LabError.state("the lab's /large.bin is not of \(byteText(options.size))")
        }
        var request = Download.Request(rate: options.rate)
        if let url = options.url { request.url = url }
        // A hung connection must end the demonstration too.
        let patience = Double(options.size) / Double(options.rate) * 2 + 30
        request.options = ["--max-time", rounded(patience, 0), "--connect-timeout", "10"]
        var downloads: [Download] = []
        defer { for download in downloads { download.cancel() } }
        for _ in 0..<options.clients { downloads.append(try Download(lab: lab, request)) }

        let ports = try waitForPorts(downloads)
        let before = try lab.servers(ofClientPorts: Set(ports)).compactMapValues(\.first)
        guard let victim = before[ports[0]] else {
            throw LabError.failed("no back-end's kernel has the download's connection; is the director forwarding?")
        }
        console.line("served by \(Set(before.values).sorted().joined(separator: ", ")); the victim will be \(victim)")
        try follow(downloads) { Double($0) >= Double(file.size) * options.failAt }
        let bytes = downloads[0].bytes
        let failure = try lab.kill(victim, how: options.how)
        console.event("\(victim): \(options.how.meaning), \(byteText(bytes)) of \(byteText(file.size)) have arrived")
        let after = try watch(lab, downloads, ports, before, victim, failure)
        let results = try downloads.map { try $0.result(timeout: patience) }
        console.endProgress()
        return try makeReport(lab, file, victim, failure, bytes, zip3(results, ports, before, after))
    }

    private func waitForPorts(_ downloads: [Download]) throws -> [UInt16] {
        try waitUntil("curl's connections", timeout: 15, every: 2) {
            for download in downloads where download.isFinished && download.localPort == nil {
                let result = try download.result(timeout: 5)
                throw LabError.failed("curl ended with status \(result.exitCode): \(result.error)")
            }
            return downloads.allSatisfy { $0.localPort != nil && $0.bytes > 0 }
        }
        return downloads.compactMap(\.localPort)
    }

    /// Shows progress until a condition on the first download's bytes holds, or all have ended.
    private func follow(_ downloads: [Download], until done: (Int) -> Bool) throws {
        while !done(downloads[0].bytes), !downloads.allSatisfy(\.isFinished) {
            try Interrupts.check()
            show(downloads)
            pause(milliseconds: 10)
        }
    }

    private func show(_ downloads: [Download]) {
        let total = downloads.reduce(0) { $0 + $1.bytes }
        console.progress("download", done: total, of: options.size * downloads.count)
    }

    /// Follows the downloads to their end and notes who serves them after the failure, by the kernels' own lists.
    private func watch(
        _ lab: Lab, _ downloads: [Download], _ ports: [UInt16], _ before: [UInt16: String], _ victim: String,
        _ failure: Instant
    ) throws -> [UInt16: String] {
        var after: [UInt16: String] = [:]
        let hit = Set(ports.filter { before[$0] == victim })
        let others = lab.plan.webNodes.filter { $0 != victim }
        var frozen = options.how == .freeze
        let rest = Double(options.size) * (1 - options.failAt) / Double(options.rate)
        let thawAfter = min(options.freezeSeconds, rest / 2) * 1000
        var nextLook = Instant.now()
        while !downloads.allSatisfy(\.isFinished) {
            try Interrupts.check()
            show(downloads)
            if frozen, (Instant.now() - failure).milliseconds >= thawAfter {
                frozen = false
                try lab.thaw(victim)
                console.event("\(victim): thawed")
            }
            if after.count < hit.count, Instant.now() >= nextLook {
                nextLook = .now() + .milliseconds(50)
                for (port, nodes) in try lab.servers(ofClientPorts: hit, among: others) { after[port] = nodes.first }
            }
            pause(milliseconds: 10)
        }
        show(downloads)
        return after
    }

    private func makeReport(
        _ lab: Lab, _ file: PublishedFile, _ victim: String, _ failure: Instant, _ bytes: Int,
        _ outcomes: [(DownloadResult, String?, String?)]
    ) throws -> DemoReport {
        let takeover = try? lab.takeover(of: victim, after: failure)
        let newByte = Instant(nanoseconds: takeover?.firstNewByteNs ?? failure.nanoseconds + 1_000_000_000)
        var report = DemoReport(
            how: options.how.rawValue, victim: victim, backup: takeover?.backup, failureNs: failure.nanoseconds,
            bytesAtFailure: bytes, size: file.size, sha256: file.sha256, takeover: takeover, clients: [], complaints: []
        )
        report.clients = outcomes.map { result, before, after in
            DemoReport.Client(
                before: before, after: before == victim ? after : before, bytes: result.bytes, sha256: result.sha256,
                right: result.matches(file), stallMs: result.stall(after: failure),
                arrivalStallMs: result.longestArrivalGap == nil ? nil : 
                    result.arrivalStall(across: failure, until: newByte),
                error: result.error)
        }
        report.judge()
        return report
    }

    private func zip3(
        _ results: [DownloadResult], _ ports: [UInt16], _ before: [UInt16: String], _ after: [UInt16: String]
    ) -> [(DownloadResult, String?, String?)] {
        zip(results, ports).map { ($0, before[$1], after[$1]) }
    }

    /// The timeline of a report, line by line.
    public static func timeline(_ report: DemoReport) -> [String] { DemoTimeline(report: report).lines }
}
