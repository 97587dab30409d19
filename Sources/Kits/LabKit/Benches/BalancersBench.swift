import Glibc
import Model

/// Requests and downloads through Baton, beside a connection straight to a back-end and other balancers, by turns in one
/// lab.
///
/// The others run on a machine of their own (`web4`, whose agent is stopped), for the director's link has settings that XDP
/// on a virtual cable needs and that would slow a proxy down. On one machine with few cores all share them: the ratios count.
public struct BalancersBench: Sendable, Codable {
    /// One way from the client to the web servers.
    public struct Way: Sendable, Codable {
        public var name: String
        /// Medians.
        public var requestsPerSecond: Double
        public var downloadBytesPerSecond: Double
        /// Of each round: the noise.
        public var requests: [Double]
        public var downloads: [Double]

        enum CodingKeys: String, CodingKey {
            case name, requests, downloads
            case requestsPerSecond = "requests_per_second", downloadBytesPerSecond = "download_bytes_per_second"
        }
    }

    public var ways: [Way]
    /// Baton's median by that of each other way; of the rounds' own ratios, so that what slows a round down slows both.
    public var requestsRatio: [String: Double]
    public var downloadsRatio: [String: Double]
    /// Ways that this machine cannot go, and why.
    public var missing: [String: String]

    enum CodingKeys: String, CodingKey {
        case ways, missing
        case requestsRatio = "requests_ratio", downloadsRatio = "downloads_ratio"
    }

    public var lines: [String] {
        var lines = ["way           requests/s   download MB/s   Baton's ratio: requests, downloads"]
        for way in ways {
            let ratios = [requestsRatio[way.name], downloadsRatio[way.name]].map { $0.map { "\(rounded($0, 2))" } ?? "-" }
            lines.append(
                "\(way.name): \(rounded(way.requestsPerSecond, 0))   \(rounded(way.downloadBytesPerSecond / 1e6, 0))   "
                    + ratios.joined(separator: ", "))
        }
        for (name, why) in missing.sorted(by: { $0.key < $1.key }) { lines.append("\(name): not measured: \(why)") }
        return lines
    }

    public static func run(_ context: ScenarioContext, rounds: Int, seconds: Double) throws -> BalancersBench {
        for (program, package) in [("wrk", "wrk"), ("haproxy", "haproxy"), ("nft", "nftables")]
        where !Requirements.isOnPath(program) {
            throw LabError.missing("\(program) is not installed", remedy: "run: apt-get install \(package)")
        }
        var options = LabOptions()
        options.backends = 4
        options.weights = [1, 1, 1, 0]
        options.fileSize = 200_000_000
        options.clientReceiveBuffer = 32 << 20
        return try context.withLab(options) { lab in
            try lab.publish("/small.bin", size: 1000, seed: 2)
            var rivals = Rivals(lab)
            try rivals.start()
            var measured = rivals.ways.map { Measured(name: $0.name, target: $0.target) }
            for round in 0..<rounds {
                context.console.line("round \(round + 1) of \(rounds)")
                // Another one begins each round.
                for place in measured.indices {
                    let index = (place + round) % measured.count
                    try measured[index].measure(lab, seconds: seconds)
                }
            }
            return report(measured, rivals.missing)
        }
    }

    private static func report(_ measured: [Measured], _ missing: [String: String]) -> BalancersBench {
        let baton = measured.first { $0.name == "baton" }
        var bench = BalancersBench(ways: [], requestsRatio: [:], downloadsRatio: [:], missing: missing)
        for way in measured {
            bench.ways.append(
                Way(
                    name: way.name, requestsPerSecond: median(way.requests), downloadBytesPerSecond: median(way.downloads),
                    requests: way.requests, downloads: way.downloads))
            guard let baton, way.name != "baton" else { continue }
            bench.requestsRatio[way.name] = median(zip(baton.requests, way.requests).map { $0 / $1 })
            bench.downloadsRatio[way.name] = median(zip(baton.downloads, way.downloads).map { $0 / $1 })
        }
        return bench
    }

    private static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        return sorted.isEmpty ? 0 : sorted[sorted.count / 2]
    }
}

/// A way while it is measured.
private struct Measured {
    var name: String
    var target: String
    var requests: [Double] = []
    var downloads: [Double] = []

    init(name: String, target: String) {
        self.name = name
        self.target = target
    }

    mutating func measure(_ lab: Lab, seconds: Double) throws {
        // wrk takes whole seconds.
        let time = "\(max(1, Int(seconds.rounded(.up))))s"
        let wrk = try lab.run(
            in: "client",
            command: ["wrk", "--threads", "1", "--connections", "32", "--duration", time, "http://\(target)/small.bin"],
            timeout: 90)
        guard wrk.status.isSuccess, !wrk.output.contains("Socket errors"), !wrk.output.contains("Non-2xx"),
            let line = wrk.output.split(separator: "\n").first(where: { $0.hasPrefix("Requests/sec:") }),
            let rate = line.split(separator: " ").last.flatMap({ Double($0) })
        else { throw LabError.failed("wrk through \(name): \((wrk.output + wrk.errors).trimmedLines)") }
        requests.append(rate)
        let curl = try lab.run(
            in: "client",
            command: [
                "curl", "--silent", "--show-error", "--fail", "--output", "/dev/null", "--write-out",
                "%{size_download} %{speed_download}", "http://\(target)/large.bin",
            ], timeout: 90)
        let numbers = curl.output.split(separator: " ").compactMap { Double($0) }
        guard curl.status.isSuccess, numbers.count == 2, Int(numbers[0]) == lab.options.fileSize else {
            throw LabError.failed("curl through \(name): \(curl.errors.trimmedLines)")
        }
        downloads.append(numbers[1])
    }
}

/// The other balancers, each at a port of its own, in front of the same three web servers.
private struct Rivals {
    let lab: Lab
    var ways: [(name: String, target: String)] = []
    var missing: [String: String] = [:]
    private let host = "web4"

    init(_ lab: Lab) { self.lab = lab }

    private var servers: [String] {
        lab.plan.webNodes.filter { $0 != host }.compactMap { lab.plan.address(of: $0)?.description }
    }

    mutating func start() throws {
        // Names for closures, which must not hold `self` while it changes.
        let host = host
        guard let own = lab.plan.address(of: host), let first = servers.first else {
            throw LabError.failed("the lab has no \(host)")
        }
        ways = [("baton", lab.target), ("direct", first)]
        try lab.signal(host, role: "agent", SIGTERM)
        try waitUntil("the end of \(host)'s agent", timeout: 10) { (try? lab.agentStatus(host)) == nil }
        let directory = lab.plan.directory + "/" + host
        try writeFile(directory + "/haproxy.cfg", haproxy)
        try attempt("haproxy", own, 8081) {
            try $0.start(host, role: "haproxy", ["haproxy", "-db", "-f", directory + "/haproxy.cfg"])
        }
        try writeFile(directory + "/stream.conf", stream(directory))
        try attempt("nginx-stream", own, 8082) {
            guard fileExists(Rivals.streamModule) else {
                throw LabError.missing(
                    "\(Rivals.streamModule) is missing", remedy: "run: apt-get install libnginx-mod-stream")
            }
            try $0.start(
                host, role: "stream",
                ["nginx", "-p", directory, "-c", directory + "/stream.conf", "-e", directory + "/stream.log"])
        }
        try writeFile(directory + "/dnat.nft", dnat)
        try attempt("nftables", own, 8083) {
            try $0.setKernel(host, ["net.ipv4.ip_forward=1"])
            let result = try $0.run(in: host, command: ["nft", "-f", directory + "/dnat.nft"])
            guard result.status.isSuccess else { throw LabError.failed(result.errors.trimmedLines) }
        }
    }

    /// Starts one and waits until a request comes back through it.
    private mutating func attempt(
        _ name: String, _ own: IPAddress, _ port: UInt16, _ start: (Lab) throws -> Void
    ) throws {
        let target = "\(own):\(port)"
        do {
            try start(lab)
            try waitUntil("a reply through \(name)", timeout: 5, every: 50) {
                let url = "http://\(target)/small.bin"
                let command = ["curl", "--silent", "--fail", "--max-time", "1", "--output", "/dev/null", url]
                return try lab.run(in: "client", command: command).status.isSuccess
            }
            ways.append((name, target))
        } catch LabError.interrupted {
            throw LabError.interrupted
        } catch {
            missing[name] = "\(error)"
        }
    }

    private static let streamModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

    private var haproxy: String {
        let lines = servers.enumerated().map { "    server s\($0) \($1):80" }
        return """
            global
                maxconn 5000
                nbthread 2
            defaults
                mode tcp
                timeout connect 5s
                timeout client 60s
                timeout server 60s
            listen web
                bind :8081
                balance roundrobin
            \(lines.joined(separator: "\n"))

            """
    }

    private func stream(_ directory: String) -> String {
        """
        load_module \(Rivals.streamModule);
        user www-data;
        daemon off;
        worker_processes 2;
        worker_rlimit_nofile 65536;
        pid \(directory)/stream.pid;
        events { worker_connections 16384; }
        stream {
            upstream web { \(servers.map { "server \($0):80;" }.joined(separator: " ")) }
            server {
                listen 8082;
                proxy_pass web;
            }
        }

        """
    }

    private var dnat: String {
        let places = servers.enumerated().map { "\($0) : \($1) . 80" }.joined(separator: ", ")
        return """
            table ip rivals {
                chain prerouting {
                    type nat hook prerouting priority -100;
                    tcp dport 8083 dnat ip to numgen inc mod \(servers.count) map { \(places) }
                }
                chain postrouting {
                    type nat hook postrouting priority 100;
                    ip daddr { \(servers.joined(separator: ", ")) } masquerade
                }
            }

            """
    }
}
