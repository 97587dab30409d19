import CContract
import Configuration
import Model
import Wire

/// How far a flow is, as the director's table has it.
enum FlowPhase: Hashable, Sendable {
    case handshake, established, closing, udp

    init(_ key: baton_flow_key, _ flow: baton_flow) {
        if key.protocol == TransportProtocol.udp.number {
            self = .udp
        } else if flow.flags & UInt8(BATON_FLOW_CLOSING.rawValue) != 0 {
            self = .closing
        } else {
            self = flow.flags & UInt8(BATON_FLOW_ESTABLISHED.rawValue) != 0 ? .established : .handshake
        }
    }

    /// The state of IPVS that is most like it.
    var name: String {
        switch self {
        case .handshake: "SYN_RECV"
        case .established: "ESTABLISHED"
        case .closing: "FIN_WAIT"
        case .udp: "UDP"
        }
    }
}

/// The idle time-outs of one service.
struct FlowTimeouts: Hashable, Sendable {
    var timeouts: Configuration.DirectorConfiguration.Timeouts
    var reset: Bool

    init(_ timeouts: Configuration.DirectorConfiguration.Timeouts) {
        self.timeouts = timeouts
        reset = false
    }

    init(_ service: Configuration.DirectorConfiguration.Service) {
        timeouts = service.timeouts
        reset = service.resetOnTimeout
    }

    func limit(of phase: FlowPhase) -> Interval {
        switch phase {
        case .handshake: timeouts.handshake
        case .established: timeouts.tcp
        case .closing: timeouts.tcpfin
        case .udp: timeouts.udp
        }
    }

    /// The data plane notes the time of a frame to within a second: a flow is never taken for idle too soon.
    static let slack = Interval.seconds(1)

    /// Whether a flow has been idle for longer than it may be.
    func isOver(_ phase: FlowPhase, lastSeen: UInt64, now: Instant) -> Bool {
        let seen = Instant(nanoseconds: lastSeen)
        guard seen < now else { return false }
        return now - seen >= limit(of: phase) + Self.slack
    }

    /// The shortest of the four: how often the table must be looked at.
    var shortest: Interval { [timeouts.tcp, timeouts.tcpfin, timeouts.udp, timeouts.handshake].min() ?? .seconds(60) }
}
