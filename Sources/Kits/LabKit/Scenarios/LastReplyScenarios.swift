import Glibc
import Model

/// Servers that die between the last ACK of a last reply and their FIN.
let lastReplyScenarios: [Scenario] =
    [WebServerKind.nginx, .apache, .lighttpd, .caddy].map { (kind: WebServerKind) in
        Scenario(
            "http-last-reply-\(kind.rawValue)",
            "The client has all of its last reply, and the server (\(kind.rawValue)) dies before its FIN: another one closes."
        ) { try lastReply($0, kind, "GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=0-999\r\nConnection: close\r\n\r\n") }
    } + [
        Scenario(
            "http-last-reply-post",
            "The same with a POST, which must not be asked again."
        ) { context in
            // A file takes no POST, and nginx says so.
            let request = "POST /large.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
            return try lastReply(context, .nginx, request)
        },
        Scenario(
            "http-last-reply-http10",
            "The same with a client of HTTP/1.0, which closes without saying so."
        ) { try lastReply($0, .apache, "GET /large.bin HTTP/1.0\r\nRange: bytes=0-999\r\n\r\n") },
    ]

private func lastReply(_ context: ScenarioContext, _ kind: WebServerKind, _ request: String) throws -> Figures {
    try Requirements.require("nft", from: "nftables")
    var options = LabOptions()
    options.replay = "http"
    options.server = kind
    return try context.withLab(options) { lab in
        let client = try LineClient(lab: lab, port: LabPlan.port)
        // Apache has no connection before its first request (TCP_DEFER_ACCEPT).
        try client.send("GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=0-9\r\n\r\n")
        _ = try client.reply()
        let victim = try lab.server(ofClientPort: client.localPort)
        // The server's FIN is lost as long as it lives.
        let rules =
            "table netdev lab { chain fin { type filter hook ingress device eth0 priority 0; "
            + "tcp flags & fin == fin tcp sport \(LabPlan.port) drop; }; }"
        try require(Topology.enter(lab.plan, "client", ["nft", rules]))
        try client.send(request)
        let body = try client.reply()
        // Longer than a delayed ACK.
        try expect(try !client.waitReadable(Deadline(seconds: 0.4)), "the end came though the FIN was to be lost")
        let failure = try lab.kill(victim, how: .link)
        context.console.event("\(victim): cable cut; the client has \(body.count) bytes of body, and no FIN")
        try require(Topology.enter(lab.plan, "client", ["nft", "delete", "table", "netdev", "lab"]))
        try expect(try client.waitReadable(Deadline(seconds: 5)), "no end within 5 s")
        let ended = Instant.now()
        var byte: UInt8 = 0
        let count = read(client.descriptor, &byte, 1)
        try expect(count == 0, count > 0 ? "a byte came behind the last reply" : errorText(errno))
        let report = try lab.settledTakeover(of: victim, after: failure)
        try expect(report.adopted == 1 && report.reset.values.allSatisfy { $0 == 0 }, "\(report)")
        var figures = report.figures(failure: failure)
        figures["end_ms"] = .number((ended - failure).milliseconds)
        return figures
    }
}
