import Glibc
import Model

/// Requests of many kinds that are under way when their server dies, in one lab.
let httpRequestScenarios: [Scenario] = [
    Scenario(
        "http-requests",
        "Pipelined GETs, HEAD, HTTP/1.0, half a POST, half a chunk, an Expect, several ranges, an upgrade and a tunnel, all on "
            + "a server that dies.",
        run: requests)
]

/// Goes over to another protocol at once, whatever it is asked: then it repeats lines.
private let tunnel = """
    use Socket; $SIG{CHLD} = "IGNORE";
    socket(my $s, PF_INET, SOCK_STREAM, 0) or die; setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
    bind($s, sockaddr_in(8080, INADDR_ANY)) or die "bind: $!"; listen($s, 64) or die;
    while (1) { accept(my $c, $s) or next; next if fork; close $s; select $c; $| = 1;
    my $first = <$c>; while (<$c>) { last if /^\\r?$/; }
    print $first =~ /^CONNECT/ ? "HTTP/1.1 200 OK\\r\\n\\r\\n"
    : "HTTP/1.1 101 Switching\\r\\nUpgrade: lines\\r\\nConnection: Upgrade\\r\\n\\r\\n";
    while (<$c>) { print $_; } exit 0; }
    """

private func requests(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.replay = "http"
    options.fileSize = 40_000_000
    options.extraServices = [.init(name: "tunnel", port: 8080, replay: "http")]
    return try context.withLab(options) { lab in
        try lab.startServer(on: lab.plan.webNodes, role: "tunnel", port: 8080, ["perl", "-e", tunnel])
        try lab.waitUntilLive()
        pause(milliseconds: 1500)
        let first = try LineClient(lab: lab, port: LabPlan.port)
        let victim = try lab.server(ofClientPort: first.localPort)
        let talks = try Talks(lab, victim, first)
        try talks.begin()
        pause(milliseconds: 300)
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut with nine conversations under way")
        try talks.end()
        let report = try lab.settledTakeover(of: victim, after: failure)
        try expect(report.reset["request-not-understood"] == 2, "upgrade and tunnel: \(report.reset)")
        try expect(report.reset["reply-unknown"] == 1, "several ranges: \(report.reset)")
        try expect(report.reset["method-not-allowed"] == 1, "an Expect that was answered: \(report.reset)")
        try expect(report.adopted >= 5, "\(report.adopted) adopted: \(report.reset)")
        return report.figures(failure: failure)
    }
}

/// One client for each kind, all on the same server.
private final class Talks {
    private let pipelined, head, old, post, chunked, expecting, ranges, upgraded, tunnelled: LineClient
    private let others: [LineClient]
    private let lab: Lab
    private var body: [UInt8] = []
    private var oldBody: [UInt8] = []

    init(_ lab: Lab, _ victim: String, _ first: LineClient) throws {
        self.lab = lab
        var others: [LineClient] = []
        // Round robin: the next on the same server comes after one on each of the others.
        func client(_ port: UInt16) throws -> LineClient {
            for _ in 0..<8 {
                let client = try LineClient(lab: lab, port: port)
                if try lab.server(ofClientPort: client.localPort) == victim { return client }
                others.append(client)
            }
            throw LabError.failed("no connection went to \(victim)")
        }
        pipelined = first
        head = try client(LabPlan.port)
        old = try client(LabPlan.port)
        post = try client(LabPlan.port)
        chunked = try client(LabPlan.port)
        expecting = try client(LabPlan.port)
        ranges = try client(LabPlan.port)
        upgraded = try client(8080)
        tunnelled = try client(8080)
        self.others = others
    }

    func begin() throws {
        let get = "GET /large.bin HTTP/1.1\r\nHost: a\r\n"
        try pipelined.send(get + "Range: bytes=1000-29999999\r\n\r\n" + get + "Range: bytes=5-1000004\r\n\r\n")
        _ = try pipelined.head()
        body = try pipelined.readBody(bytes: 2_000_000)
        try head.send("HEAD /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        try old.send("GET /large.bin HTTP/1.0\r\n\r\n")
        _ = try old.head()
        oldBody = try old.readBody(bytes: 2_000_000)
        try post.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        let upload = "POST /upload HTTP/1.1\r\nHost: a\r\n"
        try chunked.send(upload + "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nl")
        try expecting.send(upload + "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        try expect(try expecting.head().first?.hasPrefix("HTTP/1.1 100") == true, "no 100 Continue")
        try expecting.send("hello")
        try ranges.send(get + "Range: bytes=0-9999999,20000000-39999999\r\n\r\n")
        _ = try ranges.head()
        _ = try ranges.readBody(bytes: 2_000_000)
        try upgraded.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n")
        try tunnelled.send("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n")
        for client in [upgraded, tunnelled] {
            _ = try client.head()
            try client.send("line\n")
            try expect(try client.line() == "line\n", "the tunnel does not repeat lines")
        }
    }

    func end() throws {
        try upgraded.readToReset(timeout: 5)
        try tunnelled.readToReset(timeout: 5)
        try ranges.readToReset(timeout: 5)
        // Its server has begun to answer: what it did with the half that it had is not known.
        try expecting.readToReset(timeout: 5)
        body += try pipelined.readBody(bytes: 29_999_000 - body.count)
        try check(body, 1000...29_999_999, "the first of two pipelined replies")
        let second = try pipelined.reply()
        try check(second, 5...1_000_004, "the second of two pipelined replies")
        try expect(try head.head().first?.hasPrefix("HTTP/1.1 200") == true, "no reply to HEAD")
        oldBody += try old.readBody(bytes: 40_000_000 - oldBody.count)
        try check(oldBody, 0...39_999_999, "the reply to HTTP/1.0")
        try post.send("hello")
        let taken = try post.reply(chunked: true)
        try expect(String(decoding: taken, as: UTF8.self) == "taken\n", "a wrong reply to half a POST")
        try chunked.send("o\r\n0\r\n\r\n")
        let chunks = try chunked.reply(chunked: true)
        try expect(String(decoding: chunks, as: UTF8.self) == "taken\n", "a wrong reply to half a chunk")
        withExtendedLifetime(others) {}
    }

    private func check(_ bytes: [UInt8], _ range: ClosedRange<Int>, _ what: String) throws {
        let path = lab.plan.directory + "/received"
        let out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        defer { close(out) }
        try bytes.withUnsafeBytes { try writeAll(out, $0, path) }
        let hash = String(try require(["sha256sum", path], timeout: 20).prefix(64))
        try expect(bytes.count == range.count, "\(bytes.count) bytes of \(what)")
        try expect(try hash == lab.hash(of: range), "\(what): another SHA-256")
    }
}
