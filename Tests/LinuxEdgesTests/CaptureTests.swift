import Glibc
import LinuxBase
import LinuxCapture
import LinuxNetfilter
import Model
import Synchronization
import Testing

extension Edges {
    @Suite struct CaptureTests {
        static let group = SlotID(rawValue: 3).group

        struct Seen {
            var bytes: [UInt8]
            var length: Int
            var instant: Instant
        }

        /// Takes frames until there are so many, or for half a second.
        static func take(_ tap: GroupTap, _ wanted: Int) throws -> [Seen] {
            var seen: [Seen] = []
            let poller = try Poller()
            try poller.add(tap.descriptor, token: 1)
            while seen.count < wanted, try poller.wait(timeout: .milliseconds(500), body: { _ in }) > 0 {
                try tap.dispatch(max: 64) { seen.append(Seen(bytes: Array($0), length: $1, instant: $2)) }
            }
            return seen
        }

        static func datagram(_ number: UInt8, bytes count: Int = 20) -> [UInt8] {
            Frames.ipv4(
                from: "10.77.0.2",
                to: "10.77.0.1",
                protocol: 17,
                Frames.udp(from: 9, to: 9, [number] + [UInt8](repeating: 0, count: count))
            )
        }

        @Test(arguments: [GroupTap.Delivery.immediate, .blocks(milliseconds: 1)])
        func onlyIncomingFramesOfGroups(delivery: GroupTap.Delivery) throws {
            let pair = try Pair()
            try pair.left.enter {
                let tap = try GroupTap(interface: "eth0", ringBytes: 4 << 20, delivery: delivery)
                // The tap sees a frame that nftables drops afterwards.
                let table = try AgentTable.create(
                    name: "bte-tap",
                    interface: "eth0",
                    vips: [],
                    tapped: [Self.group]
                )
                let before = MonotonicClock.now()
                try pair.right.enter {
                    let sender = try FrameSender(interface: "eth0")
                    try sender.send(Self.datagram(1), to: Self.group)
                    try sender.send(Self.datagram(2), to: MACAddress(Pair.leftMAC)!)
                    try sender.send(Self.datagram(3), to: MACAddress("01:00:5e:00:00:05")!)
                    try sender.send(Self.datagram(4), to: SlotID(rawValue: 1023).group)
                    try sender.send(Self.datagram(5), to: MACAddress("ff:ff:ff:ff:ff:ff")!)
                }
                // Outgoing ones to a group are the director's business, not the tap's.
                try FrameSender(interface: "eth0").send(Self.datagram(6), to: Self.group)
                let seen = try Self.take(tap, 3)
                #expect(seen.map { $0.bytes[14 + 28] } == [1, 4])
                for frame in seen {
                    #expect(frame.length == frame.bytes.count)
                    #expect(Array(frame.bytes[0..<4]) == [0x03, 0xba, 0x70, 0x6e])
                    // The receive time lies between the sending and now, to within the two clocks' reading.
                    #expect(frame.instant > before - .milliseconds(1))
                    #expect(frame.instant < MonotonicClock.now() + .milliseconds(1))
                }
                let statistics = try tap.statistics()
                #expect(statistics.droppedByKernel == 0)
                #expect(statistics.received >= 2)
                #expect(try table.counters().tapped.frames == 1)
                #expect(try table.counters().strangers.frames == 1)
                try table.remove()
            }
        }

        /// Copies of the forwarding `duplicate` come to this machine's own address, from a slot's mark.
        @Test func copiesOfAllSlotsAreSeen() throws {
            let pair = try Pair()
            try pair.left.enter {
                let tap = try GroupTap(interface: "eth0", ringBytes: 4 << 20)
                let marks = [SlotID(rawValue: 3).mark, MACAddress("02:ba:70:6f:00:03")!, SlotID(rawValue: 1023).mark]
                try pair.right.enter {
                    for (number, mark) in marks.enumerated() {
                        try run("ip link set eth0 address \(mark)")
                        try FrameSender(interface: "eth0")
                            .send(Self.datagram(UInt8(number)), to: MACAddress(Pair.leftMAC)!)
                    }
                }
                // The kernel announces a changed address with frames of its own.
                let own = try #require(MACAddress(Pair.leftMAC)).bytes
                let seen = try Self.take(tap, 100).filter {
                    Array($0.bytes[0..<6]) == own && $0.bytes.count > 14 + 28
                }
                #expect(seen.map { $0.bytes[14 + 28] } == [0, 2])
                let slots = seen.map { MACAddress(bytes: $0.bytes[6..<12]).flatMap(SlotID.init(mark:))?.rawValue }
                #expect(slots == [3, 1023])
            }
        }

        /// A frame of the largest IP packet comes whole.
        @Test(arguments: [GroupTap.Delivery.immediate, .blocks(milliseconds: 1)])
        func superFramesAreWhole(delivery: GroupTap.Delivery) throws {
            let pair = try Pair()
            try pair.right.enter { try run("ip link set eth0 mtu 65535") }
            try pair.left.enter {
                try run("ip link set eth0 mtu 65535")
                let tap = try GroupTap(interface: "eth0", delivery: delivery)
                try pair.right.enter {
                    try FrameSender(interface: "eth0").send(Self.datagram(1, bytes: 65_506), to: Self.group)
                }
                let seen = try Self.take(tap, 1)
                #expect(seen.map(\.length) == [65_535 + 14])
                #expect(seen.map(\.bytes.count) == [65_535 + 14])
            }
        }

        /// What a burst does to the ring while nobody reads, and how late a frame is: figures for the choice of delivery.
        @Test(arguments: [GroupTap.Delivery.immediate, .blocks(milliseconds: 1)])
        func burstAndLag(delivery: GroupTap.Delivery) throws {
            let pair = try Pair()
            try pair.left.enter {
                let tap = try GroupTap(interface: "eth0", delivery: delivery)
                let frame = Self.datagram(1, bytes: 300)
                let burst = 10_000
                let sender = try pair.right.enter { try FrameSender(interface: "eth0") }
                for _ in 0..<burst { try sender.send(frame, to: Self.group) }
                var got = 0
                while try tap.dispatch(max: 1_000, body: { _, _, _ in got += 1 }) > 0
                    || eventually({
                        try tap.dispatch(max: 1_000, body: { _, _, _ in got += 1 }) > 0
                    })
                {}
                let statistics = try tap.statistics()
                #expect(got + Int(statistics.droppedByKernel) == burst)
                #expect(got >= 400)
                let poller = try Poller()
                try poller.add(tap.descriptor, token: 1)
                var lags: [Interval] = []
                for _ in 0..<200 {
                    let sent = MonotonicClock.now()
                    try sender.send(frame, to: Self.group)
                    var seen = 0
                    while seen == 0, try poller.wait(timeout: .milliseconds(500), body: { _ in }) > 0 {
                        seen = try tap.dispatch(max: 8) { _, _, _ in }
                    }
                    lags.append(MonotonicClock.now() - sent)
                    usleep(500)
                }
                lags.sort()
                print(
                    "\(delivery): of a burst of \(burst) unread frames \(got) kept;",
                    "lag median \(lags[100].milliseconds) ms, 99 % \(lags[198].milliseconds) ms"
                )
                #expect(lags[100] < .milliseconds(20))
            }
        }

        /// A trickle that nobody reads: in blocks, each frame closes a block of its own.
        @Test(arguments: [GroupTap.Delivery.immediate, .blocks(milliseconds: 1)])
        func trickle(delivery: GroupTap.Delivery) throws {
            let pair = try Pair()
            try pair.left.enter {
                let tap = try GroupTap(interface: "eth0", delivery: delivery)
                let sender = try pair.right.enter { try FrameSender(interface: "eth0") }
                for _ in 0..<700 {
                    try sender.send(Self.datagram(1), to: Self.group)
                    usleep(1_500)
                }
                var got = 0
                while try tap.dispatch(max: 1_000, body: { _, _, _ in got += 1 }) > 0 {}
                print("\(delivery): of 700 frames, one each 1.5 ms, \(got) kept")
                #expect(got >= 100)
            }
        }

        /// As the agent does it: made on one thread, handed for good to another, which waits for it and for a stop.
        @Test func tapOnAThreadOfItsOwn() throws {
            let pair = try Pair()
            let counter = Counter()
            try pair.left.enter {
                let tap = try GroupTap(interface: "eth0")
                let stop = try EventFD()
                let thread = try RealtimeThread.start(name: "bte-tap", priority: 10) {
                    guard let poller = try? Poller() else { return }
                    _ = try? poller.add(tap.descriptor, token: 1)
                    _ = try? poller.add(stop.descriptor, token: 2)
                    var running = true
                    while running {
                        _ = try? poller.wait(timeout: nil) { ready in
                            if ready.token == 2 { running = false }
                        }
                        _ = try? tap.dispatch(max: 256) { _, _, _ in counter.value.add(1, ordering: .relaxed) }
                    }
                }
                let sender = try pair.right.enter { try FrameSender(interface: "eth0") }
                for _ in 0..<5_000 { try sender.send(Self.datagram(1), to: Self.group) }
                _ = eventually { counter.value.load(ordering: .relaxed) == 5_000 }
                stop.signal()
                thread.join()
            }
            #expect(counter.value.load(ordering: .relaxed) == 5_000)
        }

        final class Counter: Sendable {
            let value = Atomic<Int>(0)
        }

        @Test func synAcksOfVIPs() throws {
            let pair = try Pair()
            try pair.left.enter {
                try run("ip addr add 10.77.0.100/32 dev lo")
                try run("ip addr add fd77::100/128 dev lo")
                let vips = [IPAddress("10.77.0.100")!, IPAddress("fd77::100")!]
                let tap = try SynAckTap(interface: "eth0", vips: vips)
                let endpoints = ["10.77.0.100:80", "[fd77::100]:80", "10.77.0.1:80"].map { Endpoint($0)! }
                let listeners = try endpoints.map { try TestSocket.listener($0, backlog: 4) }
                let clients = try pair.right.enter { () -> [TestSocket] in
                    try run("ip route add 10.77.0.100/32 via 10.77.0.1")
                    try run("ip -6 route add fd77::100/128 via fd77::1")
                    return try endpoints.map { endpoint in
                        let client = try TestSocket.make(endpoint.address.isIPv4 ? AF_INET : AF_INET6, SOCK_STREAM)
                        try client.connect(endpoint)
                        return client
                    }
                }
                let accepted = try listeners.map { try $0.accept() }
                for socket in accepted { try socket.send([1, 2, 3]) }
                for client in clients { #expect(try client.receive(within: .seconds(2)) == [1, 2, 3]) }
                var frames: [[UInt8]] = []
                _ = try eventually {
                    try tap.dispatch(max: 64) { bytes, length, _ in
                        #expect(bytes.count == length)
                        frames.append(Array(bytes))
                    }
                    return frames.count >= 2
                }
                // One of each VIP, none of the back-end's own address, no data segment.
                #expect(frames.count == 2)
                #expect(frames.map { $0[12..<14].map { $0 } } == [[0x08, 0x00], [0x86, 0xdd]])
                #expect(Array(try #require(frames.first)[26..<30]) == [10, 77, 0, 100])
                // The window scale option (kind 3, length 3) is in it.
                for frame in frames {
                    #expect(frame.indices.dropLast(2).contains { frame[$0] == 3 && frame[$0 + 1] == 3 })
                }
            }
        }

        @Test func errorsSayWhat() throws {
            let lonely = try Namespace()
            try lonely.enter {
                let missing = try #require(failure { _ = try GroupTap(interface: "bte-none") })
                #expect(missing.errno == ENODEV)
                #expect(missing.description.contains("bte-none"))
                try run("ip tuntap add bte-tun mode tun")
                try run("ip link set bte-tun up")
                #expect(failure { _ = try GroupTap(interface: "bte-tun") }?.errno == EPROTOTYPE)
            }
        }
    }
}
