import Model

extension DirectorConfiguration {
    /// `timeouts`: how long a flow may be idle, by how far it is; ipvsadm(8) calls them so. A flow is idle while its client
    /// sends nothing.
    public struct Timeouts: Hashable, Sendable {
        /// `tcp`: an established connection. Duration 2s...720h; default 1h.
        public var tcp: Interval
        /// `tcpfin`: one whose client has sent FIN or RST. Duration 2s...24h; default 2m.
        public var tcpfin: Interval
        /// `udp`: a flow of UDP; the datagram after that opens a new one. Duration 2s...24h; default 5m.
        public var udp: Interval
        /// `handshake`: a SYN that nothing has followed. Duration 2s...10m; default 1m.
        public var handshake: Interval

        public init(
            tcp: Interval = .seconds(3600), tcpfin: Interval = .seconds(120), udp: Interval = .seconds(300),
            handshake: Interval = .seconds(60)
        ) {
            self.tcp = tcp
            self.tcpfin = tcpfin
            self.udp = udp
            self.handshake = handshake
        }
    }
}

extension DirectorConfiguration.Timeouts {
    static let keys = "tcp, tcpfin, udp and handshake"

    init(section: Section) {
        self.init()
        let least = Interval.seconds(2)
        tcp = section.value("tcp", .duration(in: least ... .seconds(2_592_000)), default: tcp)
        tcpfin = section.value("tcpfin", .duration(in: least ... .seconds(86_400)), default: tcpfin)
        udp = section.value("udp", .duration(in: least ... .seconds(86_400)), default: udp)
        handshake = section.value("handshake", .duration(in: least ... .seconds(600)), default: handshake)
    }
}
