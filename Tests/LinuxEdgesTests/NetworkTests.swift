import CLinux
import Glibc
import LinuxBase
import LinuxCapture
import LinuxNetwork
import Model
import Testing

extension Edges {
    @Suite struct NetworkTests {
        static let vip4 = IPAddress("10.77.0.100")!
        static let vip6 = IPAddress("fd77::100")!

        @Test func interfaceLookUp() throws {
            let pair = try Pair()
            try pair.left.enter {
                let manager = try AddressManager()
                let found = try manager.interface(named: "eth0")
                #expect(found.index == if_nametoindex("eth0"))
                #expect(found.address == MACAddress(Pair.leftMAC))
                #expect(found.mtu == 1500)
                #expect(found.isUp)
                #expect(found.ipv4 == IPAddress("10.77.0.1"))
                #expect(found.addresses.contains(InterfaceAddress(address: IPAddress("fd77::1")!, prefixLength: 64)))
                #expect(try manager.interfaces().map(\.name).sorted() == ["eth0", "lo"])
                let missing = try #require(failure { _ = try manager.interface(named: "bte-none") })
                #expect(missing.errno == ENODEV)
                #expect(missing.description.contains("eth0"))
                try manager.set("eth0", up: false, mtu: 1400)
                #expect(try manager.interface(named: "eth0").mtu == 1400)
                #expect(try !manager.interface(named: "eth0").isUp)
            }
        }

        @Test(arguments: [vip4, vip6])
        func addressesComeAndGo(vip: IPAddress) throws {
            let lonely = try Namespace()
            try lonely.enter {
                try run("ip link set lo up")
                let manager = try AddressManager()
                #expect(try manager.add(vip, to: "lo"))
                #expect(try !manager.add(vip, to: "lo"))
                #expect(try run("ip addr show dev lo").contains("\(vip)/\(vip.isIPv4 ? 32 : 128)"))
                // The address works at once: no duplicate address detection is waited for.
                _ = try TestSocket.udp("\(Endpoint(address: vip, port: 9))")
                #expect(try manager.remove(vip, from: "lo"))
                #expect(try !manager.remove(vip, from: "lo"))
                #expect(try !run("ip addr show dev lo").contains("\(vip)"))
                // One that somebody put there with another prefix counts as there, and is not touched.
                try run("ip addr add \(vip)/\(vip.isIPv4 ? 24 : 64) dev lo")
                #expect(try !manager.add(vip, to: "lo"))
                #expect(failure { try manager.add(vip, to: "bte-none") }?.errno == ENODEV)
            }
        }

        /// What waits for a neighbour's address leaves when the address is known, unless it was dropped.
        @Test(arguments: ["10.77.0.99", "fd77::99"], [false, true])
        func framesWithoutNeighbour(address: String, isDropped: Bool) throws {
            let pair = try Pair()
            let any = address.contains(":") ? "[::]:9" : "0.0.0.0:9"
            let receiver = try pair.right.enter { try TestSocket.udp(any) }
            try pair.left.enter {
                let sender = try TestSocket.udp(address.contains(":") ? "[::]:8" : "0.0.0.0:8")
                try sender.connect(Endpoint(address: IPAddress(address)!, port: 9))
                try sender.send([1])
                #expect(try run("ip neigh show dev eth0").contains("\(address) INCOMPLETE"))
                let manager = try AddressManager()
                let index = try manager.interface(named: "eth0").index
                if isDropped {
                    #expect(try manager.dropFramesWithoutNeighbour(at: index) == 1)
                    #expect(try manager.dropFramesWithoutNeighbour(at: index) == 0)
                }
                try pair.right.enter { try run("ip addr add \(address)/\(address.contains(":") ? "128 nodad" : "32") dev eth0") }
                // The kernel asks each second, three times.
                #expect(try receiver.receive(within: .milliseconds(2500)) == (isDropped ? nil : [1]))
                try sender.send([2])
                #expect(try receiver.receive(within: .milliseconds(2500)) == [2])
            }
        }

        /// A packet written to the TUN reaches a socket before the call returns, its source being far away and reverse
        /// path filters strict.
        @Test(arguments: ["0", "1", "2"])
        func tunDelivers(reversePathFilter: String) throws {
            let pair = try Pair()
            try pair.left.enter {
                try run("ip addr add 10.77.0.100/32 dev lo")
                try run("ip addr add fd77::100/128 dev lo")
                try run("ip route add default via 10.77.0.2")
                try run("ip -6 route add default via fd77::2")
                try Sysctl.write("net/ipv4/conf/all/rp_filter", reversePathFilter)
                try Sysctl.write("net/ipv4/conf/default/rp_filter", reversePathFilter)
                var tun: TunDevice? = try TunDevice(name: "bte-tun0")
                let found = try AddressManager().interface(named: "bte-tun0")
                #expect(found.mtu == 65_535)
                #expect(found.isUp)
                #expect(found.index == tun?.index)
                #expect(!found.addresses.contains { !$0.address.isIPv4 })
                let outside = found.addresses.filter { ($0.address.ipv4 ?? 0) >> 24 != 127 }
                #expect(outside.isEmpty)
                #expect(try Sysctl.read("net/ipv4/conf/all/rp_filter") == reversePathFilter)

                let here4 = try TestSocket.udp("10.77.0.100:9")
                let here6 = try TestSocket.udp("[fd77::100]:9")
                for size in [1, 1_000, 60_000] {
                    let payload = [UInt8](repeating: 7, count: size)
                    try tun?.write(
                        Frames.ipv4(
                            from: "192.0.2.55",
                            to: "10.77.0.100",
                            protocol: 17,
                            Frames.udp(from: 5, to: 9, payload)
                        )
                    )
                    #expect(try here4.receive(within: .zero) == payload)
                }
                let six = Frames.udp6(from: "2001:db8::5", to: "fd77::100", ports: (5, 9), [6])
                try tun?.write(Frames.ipv6(from: "2001:db8::5", to: "fd77::100", next: 17, six))
                #expect(try here6.receive(within: .zero) == [6])

                #expect(failure { _ = try TunDevice(name: "bte-tun0") }?.errno == EBUSY)
                #expect(failure { _ = try TunDevice(name: "a-name-too-long-for-it") }?.errno == ENAMETOOLONG)
                // The kernel sends nothing of its own into it.
                #expect(try tun?.descriptor.waitReadable(timeout: .milliseconds(200)) == false)
                tun = nil
                #expect(failure { _ = try AddressManager().interface(named: "bte-tun0") }?.errno == ENODEV)
                // Removed early: writes fail, and nothing else happens.
                let second = try TunDevice(name: "bte-tun0")
                try second.remove()
                try second.remove()
                #expect(failure { try second.write([0x45]) } != nil)
            }
        }

        @Test func rawPacketsKeepTheirHeader() throws {
            let pair = try Pair()
            let (here4, here6) = try pair.right.enter {
                (try TestSocket.udp("10.77.0.2:9"), try TestSocket.udp("[fd77::2]:9"))
            }
            try pair.right.enter {
                try run("ip route add 10.77.0.100/32 via 10.77.0.1")
                try run("ip -6 route add fd77::100/128 via fd77::1")
            }
            try pair.left.enter {
                // The source is an address that this host does not even have.
                let sender = try RawIPSender()
                try sender.send(
                    Frames.ipv4(from: "10.77.0.100", to: "10.77.0.2", protocol: 17, Frames.udp(from: 1, to: 9, [4]))
                )
                #expect(try here4.receive(within: .seconds(2)) == [4])
                try run("ip addr add fd77::100/128 dev lo")
                let six = Frames.udp6(from: "fd77::100", to: "fd77::2", ports: (1, 9), [6])
                try sender.send(Frames.ipv6(from: "fd77::100", to: "fd77::2", next: 17, six))
                #expect(try here6.receive(within: .seconds(2)) == [6])

                for (packet, number) in [
                    ([], EINVAL), ([0x45, 0, 0], EINVAL), ([UInt8](repeating: 0x60, count: 39), EINVAL),
                    ([UInt8](repeating: 0, count: 40), EINVAL),
                    (Frames.ipv4(from: "10.77.0.100", to: "192.0.2.1", protocol: 17, [0]), ENETUNREACH),
                    (
                        Frames.ipv4(
                            from: "10.77.0.100",
                            to: "10.77.0.2",
                            protocol: 17,
                            [UInt8](repeating: 0, count: 3_000)
                        ),
                        EMSGSIZE
                    ),
                ] {
                    #expect(failure { try sender.send(packet) }?.errno == number)
                }
            }
        }

        @Test func kernelSettingsComeBack() throws {
            let pair = try Pair()
            try pair.left.enter {
                let names = ["all", "lo", "eth0"].flatMap { place in
                    ["arp_ignore", "arp_announce"].map { "net/ipv4/conf/\(place)/\($0)" }
                }
                try Sysctl.write("net/ipv4/conf/lo/arp_announce", "1")
                let before = try names.map { try Sysctl.read($0) }
                let memory = SysctlMemory(path: "/tmp/bte-\(getpid()).sysctl")
                defer { unlink(memory.path) }
                let changes = SysctlChanges(memory: memory)
                try changes.silenceARP(on: "eth0")
                #expect(try names.map { try Sysctl.read($0) } == ["1", "2", "1", "2", "1", "2"])
                #expect(changes.changes.count == 6)
                // Once more changes nothing, and forgets nothing.
                try changes.silenceARP(on: "eth0")
                #expect(changes.changes.count == 6)
                // Somebody else's later change stays.
                try Sysctl.write("net/ipv4/conf/eth0/arp_ignore", "8")
                // A later life undoes what an earlier one left.
                let heir = SysctlChanges(memory: memory)
                #expect(heir.changes == changes.changes)
                #expect(heir.restore().isEmpty)
                #expect(memory.load() == [])
                let after = try names.map { try Sysctl.read($0) }
                #expect(after == before.enumerated().map { $0.offset == 4 ? "8" : $0.element })
                for bad in ["net/../../etc/passwd", "/net/core/somaxconn", "net//core", "", "net/ipv4/bte-none"] {
                    #expect(failure { _ = try Sysctl.read(bad) } != nil, "\(bad)")
                }
                #expect(failure { try Sysctl.write("net/ipv4/conf/eth0/arp_ignore", "x") }?.errno == EINVAL)
            }
        }

        /// With the settings of `silenceARP` the VIP on `lo` is not told to who asks.
        @Test func silencedVIPDoesNotAnswerARP() throws {
            let pair = try Pair()
            for silent in [false, true] {
                try pair.left.enter {
                    try AddressManager().add(Self.vip4, to: "lo")
                    if silent { try SysctlChanges().silenceARP(on: "eth0") }
                }
                try pair.right.enter {
                    try run("ip neigh flush all")
                    let socket = try TestSocket.make(AF_INET, SOCK_DGRAM)
                    try socket.connect(Endpoint("10.77.0.100:9")!)
                    _ = failure { try socket.send([1]) }
                    let known = try eventually {
                        let text = try run("ip neigh show 10.77.0.100")
                        return text.contains(Pair.leftMAC) || (silent && text.contains("INCOMPLETE"))
                    }
                    #expect(known)
                    #expect(try run("ip neigh show 10.77.0.100").contains(Pair.leftMAC) == !silent)
                }
            }
        }

        @Test func announcementChangesNeighbours() throws {
            let pair = try Pair()
            try pair.right.enter {
                try run("ip neigh replace 10.77.0.100 lladdr 02:00:00:00:00:99 dev eth0 nud stale")
            }
            try pair.left.enter { try ARPAnnouncer.announce(Self.vip4, on: "eth0") }
            try pair.right.enter {
                let changed = try eventually { try run("ip neigh show 10.77.0.100").contains(Pair.leftMAC) }
                #expect(changed)
            }
            try pair.left.enter {
                #expect(failure { try ARPAnnouncer.announce(Self.vip6, on: "eth0") }?.errno == EAFNOSUPPORT)
                #expect(failure { try ARPAnnouncer.announce(Self.vip4, on: "bte-none") }?.errno == ENODEV)
            }
        }

        @Test func neighboursOfIPv6AreTold() throws {
            let pair = try Pair()
            try pair.right.enter {
                try run("sysctl -q -w net.ipv6.conf.eth0.disable_ipv6=0")
                try run("ip neigh replace \(Self.vip6) lladdr 02:00:00:00:00:99 dev eth0 nud stale")
            }
            try pair.left.enter { try NeighbourAnnouncer.announce(Self.vip6, on: "eth0") }
            try pair.right.enter {
                let changed = try eventually { try run("ip neigh show \(Self.vip6)").contains(Pair.leftMAC) }
                #expect(changed)
            }
            try pair.left.enter {
                #expect(failure { try NeighbourAnnouncer.announce(Self.vip4, on: "eth0") }?.errno == EAFNOSUPPORT)
            }
        }

        @Test func groupsAreJoinedAndLeft() throws {
            let pair = try Pair()
            try pair.left.enter {
                let groups = (1...3).map { SlotID(rawValue: $0).group }
                var membership: GroupMembership? = try GroupMembership(interface: "eth0")
                for wanted in [Array(groups[0...1]), Array(groups[1...2]), groups, [], groups] {
                    try membership?.set(wanted)
                    #expect(membership?.groups == wanted)
                    let shown = try run("ip maddr show dev eth0")
                    for group in groups {
                        #expect(shown.contains("\(group)") == wanted.contains(group), "\(group) in \(shown)")
                    }
                }
                membership = nil
                #expect(try !run("ip maddr show dev eth0").contains("03:ba"))
                let unicast = try GroupMembership(interface: "eth0")
                #expect(failure { _ = try GroupMembership(interface: "bte-none") }?.errno == ENODEV)
                _ = unicast
            }
        }
    }
}
