import CLinux
import Glibc

/// Packet filters of others on a back-end. The director's frames never reach a filter: XDP comes first.
enum FilterChecks {
    /// What stands in `nft list ruleset`, apart from Baton's own table.
    static func judge(ruleset: String, own: String) -> [Finding] {
        var found: [Finding] = []
        var table = ""
        var chain = ""
        for line in ruleset.split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == "\t" }.map(String.init)
            if words.first == "table", words.count >= 3 {
                table = words[1] + " " + words[2]
                chain = ""
            }
            if words.first == "chain", words.count >= 2 { chain = words[1] }
            guard !chain.isEmpty, table.split(separator: " ").last.map(String.init) != own else { continue }
            let place = "chain \(chain) of the nftables table \(table)"
            if let hook = words.firstIndex(of: "hook"), words.contains("policy"), words.contains("drop;"),
                hook + 1 < words.count, words[hook + 1] != "forward"
            {
                found.append(
                    Finding(
                        "filter", .warning, "\(place) drops what it does not know (\(words[hook + 1]))",
                        remedy: "accept the services' ports there, UDP \(heartbeats) and TCP \(control), and what comes from "
                            + "the agent's TUN device"))
            }
            guard words.contains("ct"), words.contains("drop") || words.contains("reject") else { continue }
            found.append(
                Finding(
                    "filter", .fatal,
                    "\(place) drops by connection tracking (\(line.trimming)): a connection that is taken over begins in the "
                        + "middle, and would be dropped",
                    remedy: "exempt the VIPs: `notrack` for them in prerouting and output, or accept them before this rule"))
        }
        return found
    }

    private static let heartbeats = 7401
    private static let control = 7400

    static func run(table own: String) -> [Finding] {
        var found: [Finding] = []
        if let names = readText("/proc/net/ip_tables_names")?.trimmed, !names.isEmpty {
            found.append(
                Finding(
                    "filter", .warning, "old iptables are in use here (\(names.split(separator: "\n").joined(separator: ", ")))",
                    remedy: "see `iptables-legacy-save` for rules that drop what they do not know"))
        }
        guard let ruleset = output(["nft", "list", "ruleset"]) else {
            return found + [
                Finding(
                    "filter", .warning, "the rules of other packet filters could not be listed",
                    remedy: "run it as root, with the package nftables installed")
            ]
        }
        found += judge(ruleset: ruleset, own: own)
        return found.isEmpty ? Finding.ok("filter", "no other packet filter is in the way") : found
    }

    /// What a program prints; nil when it fails or is not there.
    private static func output(_ words: [String]) -> String? {
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var text = [CChar](repeating: 0, count: 1 << 20)
        var status: Int32 = 0
        let count = clinux_output(&arguments, &text, text.count, &status)
        guard count >= 0, status == 0 else { return nil }
        return String(decoding: text.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

extension Substring {
    /// Without white space at both ends.
    var trimming: String { String(self.drop { $0 == " " || $0 == "\t" }).trimmed }
}
