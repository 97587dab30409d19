import LinuxNetwork
import Model

/// Listeners that cannot adopt.
enum ListenerChecks {
    /// - Parameter vips: of this machine; empty when the agent does not run.
    static func judge(_ listeners: [Listener], vips: [IPAddress]) -> [Finding] {
        let concerned = listeners.filter { listener in
            listener.isMPTCP
                && (vips.isEmpty
                    || vips.contains { listener.accepts(Endpoint(address: $0, port: listener.endpoint.port)) })
        }
        guard !concerned.isEmpty else { return Finding.ok("mptcp", "no listener for the VIPs is an MPTCP one") }
        return Set(concerned.map(\.endpoint)).sorted { "\($0)" < "\($1)" }.map {
            Finding(
                "mptcp", vips.isEmpty ? .warning : .fatal,
                "the listener at \($0) is an MPTCP one, for which the kernel adopts no connection",
                remedy: "let the application listen for plain TCP (Go: GODEBUG=multipathtcp=0; nginx: no `multipath`), or "
                    + "sysctl -w net.mptcp.enabled=0 before it starts")
        }
    }

    static func run(vips: [IPAddress]) throws -> [Finding] { judge(try SocketTable().listeners(), vips: vips) }
}
