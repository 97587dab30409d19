import CContract
import Configuration
import LinuxBPF
import Model
import Testing

@testable import DirectorKit

@Suite("Idle time-outs")
struct TimeoutTests {
    private static let limits: FlowTimeouts = {
        var service = DirectorConfiguration.Service(name: "web", address: Endpoint(address: IPAddress(ipv4: 1), port: 80))
        service.timeouts = .init(tcp: .seconds(900), tcpfin: .seconds(120), udp: .seconds(300), handshake: .seconds(60))
        return FlowTimeouts(service)
    }()

    private static func key(_ number: UInt8) -> baton_flow_key {
        baton_flow_key(client: IPAddress(ipv4: 1), clientPort: 1, service: 0, servicePort: 80, protocol: number)
    }

    @Test("which time-out counts", arguments: [
        (UInt8(6), [UInt32](), FlowPhase.handshake, Int64(60)),
        (6, [BATON_FLOW_ESTABLISHED.rawValue], .established, 900),
        (6, [BATON_FLOW_ESTABLISHED.rawValue, BATON_FLOW_CLOSING.rawValue], .closing, 120),
        (6, [BATON_FLOW_CLOSING.rawValue], .closing, 120),
        // A SYN that somebody has sent meanwhile takes no time away.
        (6, [BATON_FLOW_ESTABLISHED.rawValue, BATON_FLOW_OPENING.rawValue], .established, 900),
        (17, [BATON_FLOW_ESTABLISHED.rawValue], .udp, 300),
    ])
    func phase(number: UInt8, flags: [UInt32], phase: FlowPhase, seconds: Int64) {
        var flow = baton_flow()
        flow.flags = UInt8(flags.reduce(0, |))
        #expect(FlowPhase(Self.key(number), flow) == phase)
        #expect(Self.limits.limit(of: phase) == .seconds(seconds))
    }

    @Test("never too soon: the table's times are good to a second", arguments: [
        (UInt64(0), false), (900, false), (901, true), (3600, true),
    ])
    func over(idle: UInt64, isOver: Bool) {
        let now = Instant(nanoseconds: 10_000_000_000_000)
        let seen = now.nanoseconds - idle * 1_000_000_000
        #expect(Self.limits.isOver(.established, lastSeen: seen, now: now) == isOver)
    }

    @Test("a frame that came after the look began is not idle")
    func future() {
        #expect(!Self.limits.isOver(.handshake, lastSeen: 100, now: Instant(nanoseconds: 50)))
        #expect(Self.limits.shortest == .seconds(60))
    }
}
