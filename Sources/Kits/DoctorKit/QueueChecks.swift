import LinuxNetwork

/// What holds frames back behind the lease: the kernel asks whether a server may speak before it queues a frame, not when
/// the frame leaves. docs/design/0002-lease.md
enum QueueChecks {
    /// They let frames wait by design, and heartbeats with them.
    static let shapers: Set<String> = ["tbf", "htb", "hfsc", "cbs", "netem", "taprio", "etf", "plug"]

    static func judge(interface: String, kinds: [String]) -> [Finding] {
        let found = Set(kinds).intersection(shapers).sorted()
        guard !found.isEmpty else { return Finding.ok("queues", "no queue of \(interface) holds frames back") }
        return [
            Finding(
                "queues", .warning,
                "the queueing discipline \(found.joined(separator: ", ")) of \(interface) lets frames wait: they may leave "
                    + "after this server has lost its connections to a backup, and heartbeats come late",
                remedy: "shape the traffic elsewhere, at the router for example; here fq_codel or noqueue")
        ]
    }

    static func run(interface: NetworkInterface) throws -> [Finding] {
        judge(interface: interface.name, kinds: try AddressManager().queueDisciplines(of: interface.index))
    }
}
