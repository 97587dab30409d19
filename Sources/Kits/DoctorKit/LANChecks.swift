import LinuxNetwork
import Model

/// What the LAN does: who answers for the VIPs, whether full frames pass, whether groups are flooded.
struct LANChecks {
    let probes: Probes

    // MARK: ARP

    /// On the director: nobody else may answer for a VIP.
    func vipsAreOurs(_ vips: [IPAddress]) throws -> [Finding] {
        let answers = try probes.owners(of: vips, anonymous: true)
        let own = Set(probes.interface.addresses.map(\.address))
        var found: [Finding] = []
        for vip in vips {
            for mac in (answers[vip] ?? []).sorted(by: { $0.rawValue < $1.rawValue }) where mac != probes.interface.address {
                found.append(
                    Finding(
                        "arp", .fatal, "\(mac) answers ARP for the VIP \(vip), which is this director's",
                        remedy: "on a back-end set arp_ignore=1 and arp_announce=2 (the agent does); another machine must "
                            + "give the address up"))
            }
            if !own.contains(vip) {
                found.append(
                    Finding(
                        "arp", .warning, "the VIP \(vip) is not on \(probes.interface.name): nobody answers ARP for it",
                        remedy: "start baton-director, which puts it there"))
            }
        }
        return found.isEmpty ? Finding.ok("arp", "nobody else answers for the VIPs") : found
    }

    /// On a back-end: the director alone answers.
    func directorAnswers(for vips: [IPAddress], director: IPAddress) throws -> [Finding] {
        let answers = try probes.owners(of: vips + [director])
        return Self.judge(vips, director: director, own: probes.interface.address, answers)
    }

    static func judge(
        _ vips: [IPAddress], director: IPAddress, own: MACAddress, _ answers: [IPAddress: Set<MACAddress>]
    ) -> [Finding] {
        guard let chief = answers[director]?.first else {
            return [
                Finding(
                    "arp", .fatal, "the director \(director) does not answer ARP",
                    remedy: "see whether it is up, and on this LAN: direct routing does not cross routers")
            ]
        }
        var found: [Finding] = []
        for vip in vips {
            let macs = answers[vip] ?? []
            if macs.isEmpty {
                found.append(
                    Finding(
                        "arp", .fatal, "nobody answers ARP for the VIP \(vip): clients cannot reach it",
                        remedy: "see whether baton-director runs, and has the address on its interface"))
            }
            for mac in macs.sorted(by: { $0.rawValue < $1.rawValue }) where mac != chief {
                found.append(
                    Finding(
                        "arp", .fatal, "\(mac) answers ARP for the VIP \(vip), beside or instead of the director (\(chief))",
                        remedy: "set arp_ignore=1 and arp_announce=2 there, as the agent does on a back-end"))
            }
        }
        return found.isEmpty ? Finding.ok("arp", "the director alone answers for the VIPs") : found
    }

    // MARK: MTU

    /// A machine of the LAN, by the name that people know.
    struct Peer {
        var name: String
        var address: IPAddress
        /// The group that it listens to now; nil: not known.
        var group: MACAddress?
    }

    /// Whether full frames reach each, and whether frames to its group do. One run of each kind of frame.
    func reach(_ peers: [Peer], groups: Bool) throws -> [Finding] {
        let macs = try probes.owners(of: peers.map(\.address))
        var echoes: [Probes.Echo] = []
        var known: [(peer: Peer, small: Int, full: Int, group: Int?)] = []
        var found: [Finding] = []
        for peer in peers {
            guard let mac = macs[peer.address]?.first else {
                found.append(
                    Finding(
                        "lan", .fatal, "\(peer.name) (\(peer.address)) does not answer ARP",
                        remedy: "see whether it is up, and on this LAN: direct routing does not cross routers"))
                continue
            }
            let first = echoes.count
            echoes.append(.init(address: peer.address, mac: mac))
            echoes.append(.init(address: peer.address, mac: mac, size: probes.interface.mtu))
            if groups { echoes.append(.init(address: peer.address, mac: peer.group ?? Self.unusedGroup)) }
            known.append((peer, first, first + 1, groups ? first + 2 : nil))
        }
        let answered = try probes.answered(echoes)
        for entry in known {
            found += Self.judge(
                entry.peer, mtu: probes.interface.mtu, small: answered.contains(entry.small),
                full: answered.contains(entry.full), group: entry.group.map(answered.contains))
        }
        return found
    }

    /// Of a slot that is never given out before all others are: whoever hears it does so because the switch floods.
    static let unusedGroup = SlotID(rawValue: UInt16(Limits.slots - 1)).group

    static func judge(_ peer: Peer, mtu: Int, small: Bool, full: Bool, group: Bool?) -> [Finding] {
        guard small else {
            return [
                Finding(
                    "lan", .warning, "\(peer.name) does not answer echo requests: MTU and groups could not be tried",
                    remedy: "let ICMP echo through between director and back-ends")
            ]
        }
        var found: [Finding] = []
        if !full {
            found.append(
                Finding(
                    "mtu", .fatal, "\(peer.name) does not take frames of this side's MTU, \(mtu) bytes",
                    remedy: "give both interfaces, and the switch between them, the same MTU"))
        }
        if group == false {
            let isJoined = peer.group != nil
            found.append(
                Finding(
                    "group", isJoined ? .fatal : .warning,
                    isJoined
                        ? "\(peer.name) does not hear the group \(peer.group.map { "\($0)" } ?? "") of its own slot: the switch "
                            + "does not flood groups to its port"
                        : "\(peer.name) does not hear a group that nobody has joined; its adapter may filter it, or the switch",
                    remedy: "flood unknown multicast at the switch (bridge link set dev PORT mcast_flood on), switch IGMP "
                        + "snooping off for it, or use `forwarding: duplicate`"))
        }
        return found
    }
}
