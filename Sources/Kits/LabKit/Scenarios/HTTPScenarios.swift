import Glibc
import Model

/// Services that are replayed as HTTP.
let httpScenarios: [Scenario] = nginxHTTP + otherServersHTTP

private let nginxHTTP: [Scenario] = [
    Scenario(
        "http-range",
        "replay: http; a 200 MB download, its server gone in the middle: only the rest is regenerated."
    ) { try download($0, server: .nginx) { try expect($0 < 100_000, "\($0) bytes were caught up") } },
    Scenario(
        "http-full",
        "The same with range_from: off: the whole reply is regenerated, what the client has is swallowed."
    ) { context in
        try download(context, server: .nginx, settings: ["range_from: off"]) {
            try expect($0 > 1_000_000, "only \($0) bytes were caught up")
        }
    },
    Scenario(
        "http-own-range",
        "A client that asked for a range itself: its range is narrowed."
    ) { context in
        try download(context, server: .nginx, range: 1_000_000...150_999_999) {
            try expect($0 < 100_000, "\($0) bytes were caught up")
        }
    },
    Scenario(
        "http-differs",
        "Another file of the same name and length on the other servers: an RST, counted as reply-differs.",
        run: { try otherFile($0, .nginx) }),
    Scenario(
        "http-keep-alive",
        "A POST that was answered, then a GET on the same connection: only the GET is asked again.",
        run: keepAlive),
    Scenario(
        "http-post",
        "A POST that is being worked on: an RST, counted as method-not-allowed; with methods: all it is answered.",
        run: post),
    Scenario(
        "http-unproven",
        "A reply without validators, half received: an RST, counted as reply-unknown.",
        run: { try unproven($0, "GET /bare/large.bin HTTP/1.1\r\nHost: a\r\n\r\n") }),
    Scenario(
        "http-gzip",
        "A reply that is compressed on the fly, half received: an RST, counted as reply-unknown.",
        run: { try unproven($0, zipped) }),
    Scenario(
        "http-upload",
        "A PUT of 8 MB with Expect: 100-continue, its server gone in the middle: asked again, and answered."
    ) { try upload($0, []) },
    Scenario(
        "http-upload-chunked",
        "The same in chunks."
    ) { try upload($0, ["--header", "Transfer-Encoding: chunked"]) },
    Scenario(
        "http-nginx-copies",
        "Copies with other inodes and nanoseconds: nginx's tags agree, and the download goes on."
    ) { try copies($0, .nginx, nanoseconds, agree: true) },
    Scenario(
        "http-apache-copies",
        "The same with Apache, whose tags hold microseconds: an RST, counted as reply-differs."
    ) { try copies($0, .apache, nanoseconds, agree: false) },
    Scenario(
        "http-lighttpd-copies",
        "Copies with other inodes and equal times: lighttpd's tags differ; an RST, counted as reply-differs."
    ) { try copies($0, .lighttpd, { _ in 0 }, agree: false) },
    Scenario(
        "http-caddy-copies",
        "Copies with other inodes and nanoseconds: Caddy's tags agree, and the download goes on."
    ) { try copies($0, .caddy, nanoseconds, agree: true) },
    Scenario(
        "http-caddy-dates",
        "Copies that are seconds apart: Caddy's tags differ; an RST, counted as reply-differs."
    ) { try copies($0, .caddy, { $0 * 1_000_000_000 }, agree: false) },
]

private let zipped = "GET /zipped/large.bin HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"

/// Copies of one second, so many nanoseconds behind it.
@Sendable private func nanoseconds(_ index: Int) -> Int { (index + 1) * 100_000_000 }

private let otherServersHTTP: [Scenario] =
    [WebServerKind.apache, .lighttpd, .caddy].flatMap { (kind: WebServerKind) -> [Scenario] in
        [
            Scenario(
                "http-\(kind.rawValue)",
                "replay: http with \(kind.rawValue): a 200 MB download, its server gone: only the rest is regenerated."
            ) { try download($0, server: kind) { try expect($0 < 100_000, "\($0) bytes were caught up") } },
            Scenario(
                "http-\(kind.rawValue)-full",
                "The same with range_from: off."
            ) { context in
                try download(context, server: kind, settings: ["range_from: off"]) {
                    try expect($0 > 1_000_000, "only \($0) bytes were caught up")
                }
            },
            Scenario(
                "http-\(kind.rawValue)-differs",
                "Another file of the same name and length: an RST, counted as reply-differs."
            ) { try otherFile($0, kind) },
        ]
    } + [WebServerKind.apache, .caddy].map { kind in
        Scenario(
            "http-\(kind.rawValue)-gzip",
            "A reply that \(kind.rawValue) compresses on the fly, half received: an RST, counted as reply-unknown."
        ) { try unproven($0, zipped, kind, encoding: "gzip") }
    } + [
        Scenario(
            "http-apache-countdown",
            "Apache counts its Keep-Alive header down, so that a later reply's head is shorter: the body is aligned.",
            run: countdown)
    ]

private func options(_ server: WebServerKind, _ settings: [String] = []) -> LabOptions {
    var options = LabOptions()
    options.replay = "http"
    options.serviceSettings = settings
    options.server = server
    return options
}

/// A limited download whose server's cable is cut, and what was caught up.
private func download(
    _ context: ScenarioContext,
    server: WebServerKind,
    settings: [String] = [],
    range: ClosedRange<Int>? = nil,
    _ check: (Int) throws -> Void
) throws -> Figures {
    try context.withLab(options(server, settings)) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        var request = Download.Request(rate: 20_000_000)
        if let range { request.options = ["--range", "\(range.lowerBound)-\(range.upperBound)"] }
        let download = try Download(lab: lab, request)
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 50_000_000)
        let victim = try lab.server(ofClientPort: port)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut with \(byteText(download.bytes)) done")
        let result = try download.result(timeout: 60)
        let report = try lab.finishedTakeover(of: victim, after: failure)
        var figures = report.figures(failure: failure)
        figures["caught_up_bytes"] = .integer(Int64(report.caughtUpBytes))
        if let range {
            try expect(result.bytes == range.count, "\(result.bytes) bytes of \(range.count); \(result.error)")
            try expect(result.sha256 == lab.hash(of: range), "another SHA-256")
        } else {
            try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes, \(result.sha256); \(result.error)")
        }
        try expect(report.adopted == 1, "reset: \(report.reset)")
        try check(report.caughtUpBytes)
        return figures
    }
}

extension Lab {
    /// The report once the catch-up is over: only then it says how much was caught up.
    fileprivate func finishedTakeover(of victim: String, after instant: Instant) throws -> TakeoverReport {
        var report = try settledTakeover(of: victim, after: instant)
        try? waitUntil("the end of the catch-up", timeout: 5, every: 20) {
            report = try settledTakeover(of: victim, after: instant)
            return report.caughtUpBytes > 0
        }
        return report
    }

    func hash(of range: ClosedRange<Int>) throws -> String {
        let path = try webRoot() + "/store/large.bin"
        let command = "tail -c +\(range.lowerBound + 1) \(path) | head -c \(range.count) | sha256sum"
        return String(try require(["sh", "-c", command], timeout: 20).prefix(64))
    }

    /// Waits for the take-over, and that the client's connection was reset with this cause.
    fileprivate func expectReset(_ victim: String, _ failure: Instant, _ cause: String) throws -> Figures {
        let report = try settledTakeover(of: victim, after: failure)
        var counted = report
        try? waitUntil("the reset", timeout: 5, every: 20) {
            counted = try settledTakeover(of: victim, after: failure)
            return counted.reset[cause] == 1
        }
        try expect(
            counted.reset[cause] == 1,
            "reset by cause: \(counted.reset), of \(counted.connections) connections \(counted.adopted) adopted")
        return counted.figures(failure: failure)
    }
}

private func otherFile(_ context: ScenarioContext, _ kind: WebServerKind) throws -> Figures {
    try context.withLab(options(kind)) { lab in
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 20_000_000)
        let victim = try lab.server(ofClientPort: port)
        for node in lab.plan.webNodes where node != victim {
            let path = try lab.webDirectory(node) + "/large.bin"
            unlink(path)
            try require(["sh", "-c", "head -c 200000000 /dev/zero > \(path)"], timeout: 20)
        }
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut; the others have another file by now")
        let result = try download.result(timeout: 30)
        try expect([18, 56].contains(result.exitCode), "curl ended with \(result.exitCode) \(result.error)")
        let figures = try lab.expectReset(victim, failure, "reply-differs")
        // Not one byte of the other file, which is all zeros.
        guard let file = lab.file() else { throw LabError.failed("no file") }
        try expect(result.bytes < file.size, "the whole file came")
        try expect(result.sha256 == lab.hash(of: 0...result.bytes - 1), "bytes of another reply came")
        return figures
    }
}

private func keepAlive(_ context: ScenarioContext) throws -> Figures {
    try context.withLab(options(.nginx)) { lab in
        let client = try LineClient(lab: lab, port: LabPlan.port)
        try client.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        _ = try client.reply(chunked: true)
        try client.send("GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=0-99\r\n\r\n")
        let first = try client.reply()
        try expect(first.count == 100, "\(first.count) bytes of the second reply")
        try client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        pause(milliseconds: 300)
        let victim = try lab.server(ofClientPort: client.localPort)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut while it thinks about a third request")
        let reply = try client.reply(chunked: true)
        try expect(String(decoding: reply, as: UTF8.self) == "an answer that took a second\n", "a wrong reply")
        let report = try lab.settledTakeover(of: victim, after: failure)
        try expect(report.adopted == 1 && report.caughtUpBytes == 0, "\(report)")
        return report.figures(failure: failure)
    }
}

private func post(_ context: ScenarioContext) throws -> Figures {
    let request = "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    var figures = try context.withLab(options(.nginx)) { lab in
        let client = try LineClient(lab: lab, port: LabPlan.port)
        try client.send(request)
        pause(milliseconds: 300)
        let victim = try lab.server(ofClientPort: client.localPort)
        let failure = try lab.kill(victim, how: .link)
        let ended = try client.waitForReset(timeout: 3)
        var figures = try lab.expectReset(victim, failure, "method-not-allowed")
        figures["reset_ms"] = .number((ended - failure).milliseconds)
        return figures
    }
    try context.withLab(options(.nginx, ["methods: all"])) { lab in
        let client = try LineClient(lab: lab, port: LabPlan.port)
        try client.send(request)
        pause(milliseconds: 300)
        let victim = try lab.server(ofClientPort: client.localPort)
        let failure = try lab.kill(victim, how: .link)
        let reply = try client.reply(chunked: true)
        try expect(String(decoding: reply, as: UTF8.self) == "an answer that took a second\n", "a wrong reply")
        let report = try lab.settledTakeover(of: victim, after: failure)
        figures["adopted_with_all"] = .integer(Int64(report.adopted))
    }
    return figures
}

private func unproven(
    _ context: ScenarioContext, _ request: String, _ server: WebServerKind = .nginx, encoding: String? = nil
) throws -> Figures {
    try context.withLab(options(server)) { lab in
        let client = try LineClient(lab: lab, port: LabPlan.port)
        try client.send(request)
        let head = try client.head()
        if let encoding {
            let isEncoded = head.contains { $0.lowercased() == "content-encoding: \(encoding)" }
            try expect(isEncoded, "the reply is not compressed: \(head)")
        }
        _ = try client.readBody(bytes: 2_000_000)
        let victim = try lab.server(ofClientPort: client.localPort)
        let failure = try lab.kill(victim, how: .link)
        try client.readToReset(timeout: 5)
        return try lab.expectReset(victim, failure, "reply-unknown")
    }
}

private func upload(_ context: ScenarioContext, _ more: [String]) throws -> Figures {
    try context.withLab(options(.nginx, ["methods: idempotent"])) { lab in
        let file = lab.plan.directory + "/upload.bin"
        _ = try PublishedFile.create(at: file, path: "/upload.bin", size: 8_000_000, seed: 3)
        var request = Download.Request(url: "http://\(lab.target)/upload", rate: 2_000_000)
        request.options = ["--upload-file", file, "--header", "Expect: 100-continue", "--max-time", "60"] + more
        let download = try Download(lab: lab, request)
        defer { download.cancel() }
        try waitUntil("curl's connection", timeout: 10) { download.localPort != nil }
        guard let port = download.localPort else { throw LabError.failed("curl has no port") }
        pause(milliseconds: 2000)
        let victim = try lab.server(ofClientPort: port)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut while it takes an upload")
        let result = try download.result(timeout: 60)
        let report = try lab.settledTakeover(of: victim, after: failure)
        try expect(result.exitCode == 0 && result.httpStatus == 200, "curl: \(result.exitCode) \(result.error); \(report.reset)")
        try expect(result.bytes == "taken\n".utf8.count, "\(result.bytes) bytes of reply")
        return report.figures(failure: failure)
    }
}

/// Every server has a copy of its own, with its own inode and time of modification.
///
/// - Parameter date: of the server with this index, in nanoseconds since a common second.
private func copies(
    _ context: ScenarioContext,
    _ kind: WebServerKind,
    _ date: (Int) -> Int,
    agree: Bool
) throws -> Figures {
    try context.withLab(options(kind)) { lab in
        guard let file = lab.file() else { throw LabError.failed("no file") }
        for (index, node) in lab.plan.webNodes.enumerated() {
            let path = try lab.webDirectory(node) + "/large.bin"
            let (seconds, rest) = date(index).quotientAndRemainder(dividingBy: 1_000_000_000)
            let time = "@\(1_700_000_000 + seconds).\(String(1_000_000_000 + rest).dropFirst())"
            let copy = "cp \(path) \(path).new && touch -d \(time) \(path).new && mv \(path).new \(path)"
            try require(["sh", "-c", copy], timeout: 30)
        }
        let download = try Download(lab: lab, Download.Request(rate: 20_000_000))
        defer { download.cancel() }
        let port = try lab.connected(download, bytes: 30_000_000)
        let victim = try lab.server(ofClientPort: port)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut; each server has a copy of its own")
        let result = try download.result(timeout: 60)
        guard agree else {
            try expect([18, 56].contains(result.exitCode), "curl ended with \(result.exitCode) \(result.error)")
            context.console.line("curl ended with \(result.exitCode): \(result.error)")
            return try lab.expectReset(victim, failure, "reply-differs")
        }
        try expect(result.matches(file), "\(result.bytes) of \(file.size) bytes; \(result.error)")
        return try lab.finishedTakeover(of: victim, after: failure).figures(failure: failure)
    }
}

private func countdown(_ context: ScenarioContext) throws -> Figures {
    try context.withLab(options(.apache, ["range_from: off"])) { lab in
        let client = try LineClient(lab: lab, port: LabPlan.port)
        for _ in 0..<3 {
            try client.send("GET /large.bin HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nRange: bytes=0-999\r\n\r\n")
            _ = try client.reply()
        }
        try client.send("GET /large.bin HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        let head = try client.head()
        let counter = head.first { $0.lowercased().hasPrefix("keep-alive:") } ?? ""
        try expect(counter.contains("max=9"), "Apache does not count down: \(head)")
        var body = try client.readBody(bytes: 20_000_000)
        let victim = try lab.server(ofClientPort: client.localPort)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut in a reply with \(counter.trimmedLines)")
        body += try client.readBody(bytes: 180_000_000)
        let report = try lab.finishedTakeover(of: victim, after: failure)
        var figures = report.figures(failure: failure)
        figures["caught_up_bytes"] = .integer(Int64(report.caughtUpBytes))
        try expect(body.count == 200_000_000, "\(body.count) bytes came")
        let path = lab.plan.directory + "/received"
        let out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        try body.withUnsafeBytes { try writeAll(out, $0, path) }
        close(out)
        let hash = try require(["sha256sum", path], timeout: 20).prefix(64)
        try expect(hash == lab.file()?.sha256 ?? "", "another SHA-256")
        return figures
    }
}
