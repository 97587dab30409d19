import Configuration
import Glibc
import LinuxBPF
import Model
import Testing

@testable import DoctorKit
@testable import LinuxNetwork

/// What the doctor says of each thing that may be wrong, where the machine need not be broken for it. The rest is broken
/// for real in the scenario `doctor`.
@Suite struct DoctorTests {
    // MARK: Kernel and clock

    @Test func aMissingFunctionIsNamed() {
        let found = KernelChecks.features(KernelChecks.agent) { $0 != "bpf_sk_assign_tcp_reqsk" }
        #expect(found.map(\.result) == [.fatal])
        #expect(found[0].text.contains("bpf_sk_assign_tcp_reqsk") && found[0].text.contains("adoption"))
        #expect(KernelChecks.features(KernelChecks.director) { _ in true }.map(\.result) == [.ok])
    }

    @Test func thisKernelHasWhatIsNeeded() throws {
        try #require(geteuid() == 0, "run it as root")
        #expect(try KernelChecks.features(KernelChecks.agent).map(\.result) == [.ok])
        #expect(try KernelChecks.features(KernelChecks.director).map(\.result) == [.ok])
    }

    @Test(arguments: [
        (0, 10_000, "tsc", Finding.Result.ok), (65536 * 500, 10_000, "kvm-clock", .ok), (0, 10_011, "tsc", .warning),
        (0, 9_989, "tsc", .warning), (0, 10_080, "tsc", .fatal), (0, 10_000, "jiffies", .warning),
    ] as [(Int64, Int64, String, Finding.Result)])
    func theClock(_ frequency: Int64, _ tick: Int64, _ source: String, _ result: Finding.Result) {
        let deviation = ClockCheck.deviation(frequency: frequency, tick: tick)
        let found = ClockCheck.judge(deviation: deviation, source: source)
        #expect(found.map(\.result) == [result])
        if result == .ok { #expect(found[0].text.contains("CLOCK_REALTIME) does not matter")) }
    }

    // MARK: Settings

    private static let healthy: [String: Int] = [
        "net/ipv4/tcp_syncookies": 1, "net/ipv4/tcp_timestamps": 1, "net/ipv4/tcp_sack": 1,
        "net/ipv4/tcp_window_scaling": 1, "net/ipv4/conf/all/rp_filter": 0, "net/ipv4/conf/eth0/rp_filter": 0,
        "net/ipv4/conf/baton0/rp_filter": 0, "net/ipv4/conf/all/arp_ignore": 1, "net/ipv4/conf/eth0/arp_ignore": 0,
        "net/ipv4/conf/all/arp_announce": 0, "net/ipv4/conf/eth0/arp_announce": 2,
        "net/ipv4/conf/all/drop_unicast_in_l2_multicast": 0, "net/ipv4/conf/eth0/drop_unicast_in_l2_multicast": 0,
    ]

    private func sysctls(_ changes: [String: Int?], hasVIPs: Bool = true) -> [Finding] {
        var values = Self.healthy
        for (name, value) in changes { values[name] = value }
        return SysctlChecks { values[$0] }.agent(interface: "eth0", tun: "baton0", hasVIPs: hasVIPs)
    }

    @Test(arguments: [
        ("net/ipv4/tcp_syncookies", 0, "tcp_syncookies"), ("net/ipv4/tcp_timestamps", 0, "timestamps"),
        ("net/ipv4/tcp_sack", 0, "selective"), ("net/ipv4/tcp_window_scaling", 0, "window scaling"),
        ("net/ipv4/conf/all/arp_ignore", 0, "arp_ignore"), ("net/ipv4/conf/eth0/arp_announce", 1, "arp_announce"),
        ("net/ipv4/conf/baton0/rp_filter", 1, "baton0.rp_filter"),
        ("net/ipv4/conf/eth0/drop_unicast_in_l2_multicast", 1, "drop_unicast"),
    ]) func aSettingThatStopsATakeOver(_ name: String, _ value: Int, _ word: String) {
        let found = sysctls([name: value])
        #expect(found.map(\.result) == [.fatal] && found[0].text.contains(word), "\(found)")
        #expect(found[0].remedy?.contains("sysctl -w") == true)
    }

    @Test func settingsThatAreWell() {
        #expect(sysctls([:]).map(\.result) == [.ok])
        // A loose reverse path is well; a strict one for everybody stops adoptions, and is a warning for the LAN.
        #expect(sysctls(["net/ipv4/conf/all/rp_filter": 2]).map(\.result) == [.ok])
        #expect(sysctls(["net/ipv4/conf/all/rp_filter": 1]).map(\.result) == [.fatal, .warning])
        // Without VIPs nobody has to be silent, and without the device nothing comes in by it.
        #expect(sysctls(["net/ipv4/conf/all/arp_ignore": 0], hasVIPs: false).map(\.result) == [.ok])
        #expect(sysctls(["net/ipv4/conf/baton0/rp_filter": Int?.none, "net/ipv4/conf/all/rp_filter": 2]).map(\.result) == [.ok])
    }

    // MARK: Listeners, offloads, filters

    @Test func anMPTCPListener() {
        let vip = IPAddress(ipv4: 0x0a00_0001)
        let listener = Listener(
            endpoint: Endpoint(address: IPAddress(ipv4: 0), port: 80), backlog: 1, queued: 0, isMPTCP: true,
            acceptsIPv4: true, acceptsIPv6: false)
        #expect(ListenerChecks.judge([listener], vips: [vip]).map(\.result) == [.fatal])
        #expect(ListenerChecks.judge([listener], vips: []).map(\.result) == [.warning])
        var other = listener
        other.endpoint.address = IPAddress(ipv4: 0x7f00_0001)
        var plain = listener
        plain.isMPTCP = false
        #expect(ListenerChecks.judge([other, plain], vips: [vip]).map(\.result) == [.ok])
    }

    @Test func queues() {
        let usual = QueueChecks.judge(interface: "eth0", kinds: ["mq", "fq_codel", "clsact"])
        #expect(usual.map(\.result) == [.ok])
        let shaped = QueueChecks.judge(interface: "eth0", kinds: ["tbf", "clsact"])
        #expect(shaped.map(\.result) == [.warning] && shaped[0].text.contains("tbf of eth0"))
    }

    @Test func offloads() {
        let judge = { OffloadChecks.judge(interface: "eth0", lro: $0, gro: $1, mode: $2) as [Finding] }
        #expect(judge(true, true, .native).map(\.result) == [.fatal])
        #expect(judge(false, true, .generic).map(\.result) == [.fatal])
        #expect(judge(false, true, .native).map(\.result) == [.ok])
        #expect(judge(nil, nil, nil).map(\.result) == [.ok])
    }

    @Test func filtersOfOthers() {
        let ruleset = """
            table netdev baton {
            \tchain ingress {
            \t\ttype filter hook ingress device "eth0" priority filter; policy drop;
            \t}
            }
            table inet firewall {
            \tchain input {
            \t\ttype filter hook input priority filter; policy drop;
            \t\tct state established,related accept
            \t\tct state invalid counter drop
            \t}
            \tchain forward {
            \t\ttype filter hook forward priority filter; policy drop;
            \t}
            }
            """
        let found = FilterChecks.judge(ruleset: ruleset, own: "baton")
        #expect(found.map(\.result) == [.warning, .fatal], "\(found)")
        #expect(found[1].text.contains("ct state invalid") && found[1].text.contains("inet firewall"))
        #expect(FilterChecks.judge(ruleset: ruleset, own: "firewall").map(\.result) == [.warning])
        #expect(FilterChecks.judge(ruleset: "", own: "baton").isEmpty)
    }

    // MARK: LAN

    @Test func whoAnswersForAVIP() {
        let (vip, director) = (IPAddress(ipv4: 0x0a00_0001), IPAddress(ipv4: 0x0a00_0002))
        let (chief, thief, own) = (MACAddress(rawValue: 2), MACAddress(rawValue: 3), MACAddress(rawValue: 4))
        let judge = { LANChecks.judge([vip], director: director, own: own, $0) }
        #expect(judge([vip: [chief], director: [chief]]).map(\.result) == [.ok])
        #expect(judge([vip: [chief, thief], director: [chief]]).map(\.text).first?.contains("\(thief)") == true)
        #expect(judge([director: [chief]]).first?.text.contains("nobody answers") == true)
        #expect(judge([vip: [chief]]).first?.text.contains("director") == true)
    }

    @Test func mtuAndGroups() {
        let peer = LANChecks.Peer(name: "web1", address: IPAddress(ipv4: 1), group: SlotID(rawValue: 1).group)
        var stranger = peer
        stranger.group = nil
        #expect(LANChecks.judge(peer, mtu: 1500, small: true, full: true, group: true).isEmpty)
        #expect(LANChecks.judge(peer, mtu: 1500, small: true, full: false, group: true).map(\.check) == ["mtu"])
        #expect(LANChecks.judge(peer, mtu: 1500, small: true, full: true, group: false).map(\.result) == [.fatal])
        #expect(LANChecks.judge(stranger, mtu: 1500, small: true, full: true, group: false).map(\.result) == [.warning])
        #expect(LANChecks.judge(peer, mtu: 1500, small: false, full: false, group: false).map(\.check) == ["lan"])
    }

    @Test func checksumOfRFC1071() {
        // The example of RFC 1071 section 3: the sum is ddf2.
        #expect(Probes.checksum([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]) == ~0xddf2)
        #expect(Probes.checksum([0xff]) == 0x00ff)
    }

    @Test func aCheckThatFailsIsAWarning() {
        let found = Check("arp") { throw Failed("no socket") }.findings()
        #expect(found.map(\.result) == [.warning] && found[0].text.contains("no socket"))
    }
}
