import Glibc
import LinuxBase
import LinuxCapture
import LinuxNetfilter
import LinuxNetwork
import Model
import Testing

extension Edges {
    @Suite struct SocketTableTests {
        @Test func listenersAndTheirBacklog() throws {
            let lonely = try Namespace()
            try lonely.enter {
                try run("ip link set lo up")
                let table = try SocketTable()
                #expect(try table.listeners() == [])
                let exact = try TestSocket.listener(Endpoint("127.0.0.1:80")!, backlog: 7)
                let any4 = try TestSocket.listener(Endpoint("0.0.0.0:81")!, backlog: 100_000)
                let any6 = try TestSocket.listener(Endpoint("[::]:82")!, backlog: 9)
                let listeners = try table.listeners()
                #expect(listeners.count == 3)
                #expect(listeners.first { $0.endpoint.port == 80 }?.backlog == 7)
                // Capped by net.core.somaxconn.
                #expect(
                    listeners.first { $0.endpoint.port == 81 }.map { "\($0.backlog)" }
                        == (try Sysctl.read("net/core/somaxconn"))
                )
                for (text, exists) in [
                    ("127.0.0.1:80", true), ("127.0.0.2:80", false), ("127.0.0.1:83", false), ("10.1.1.1:81", true),
                    ("[::1]:81", false), ("[::1]:82", true), ("10.1.1.1:82", true), ("[::1]:80", false),
                ] {
                    #expect(try table.listenerExists(Endpoint(text)!) == exists, "\(text)")
                }
                let client = try TestSocket.make(AF_INET, SOCK_STREAM)
                try client.connect(Endpoint("127.0.0.1:80")!)
                let queued = try eventually {
                    try table.listeners(accepting: Endpoint("127.0.0.1:80")!).first?.queued == 1
                }
                #expect(queued)
                _ = (exact, any4, any6)
            }
        }

        @Test func mptcpListenersAreTold() throws {
            let lonely = try Namespace()
            try lonely.enter {
                try run("ip link set lo up")
                // IPPROTO_MPTCP (linux/in.h).
                let listener = try TestSocket.listener(Endpoint("127.0.0.1:80")!, backlog: 4, protocol: 262)
                let plain = try TestSocket.listener(Endpoint("127.0.0.1:81")!, backlog: 4)
                let listeners = try SocketTable().listeners()
                #expect(listeners.filter { $0.endpoint.port == 80 }.map(\.isMPTCP) == [true])
                #expect(listeners.filter { $0.endpoint.port == 81 }.map(\.isMPTCP) == [false])
                _ = (listener, plain)
            }
        }

        /// Connections of a client in the right namespace to two addresses and two ports of the left one.
        private struct Connections {
            var clients: [TestSocket] = []
            var servers: [TestSocket] = []
            var listeners: [TestSocket] = []

            init(_ pair: Pair, _ listening: [String], _ targets: [String]) throws {
                let listeners = try pair.left.enter {
                    try listening.map { try TestSocket.listener(Endpoint($0)!, backlog: 64) }
                }
                self.listeners = listeners
                for target in targets {
                    let endpoint = Endpoint(target)!
                    let client = try pair.right.enter {
                        let client = try TestSocket.make(endpoint.address.isIPv4 ? AF_INET : AF_INET6, SOCK_STREAM)
                        try client.connect(endpoint)
                        return client
                    }
                    clients.append(client)
                    let listener = try #require(
                        listeners.first { $0.local.port == endpoint.port && $0.local.address == endpoint.address }
                            ?? listeners.first { $0.local.port == endpoint.port }
                    )
                    servers.append(try listener.accept())
                }
            }
        }

        private static func vips(_ pair: Pair) throws {
            try pair.left.enter {
                try run("ip addr add 10.77.0.100/32 dev lo")
                try run("ip addr add fd77::100/128 dev lo")
            }
            try pair.right.enter {
                try run("ip route add 10.77.0.100/32 via 10.77.0.1")
                try run("ip -6 route add fd77::100/128 via fd77::1")
            }
        }

        static let vips = [IPAddress("10.77.0.100")!, IPAddress("fd77::100")!]

        @Test func destroysTheVIPsConnectionsOnly() throws {
            let pair = try Pair()
            try Self.vips(pair)
            // [::]:81 takes an IPv4 connection: the kernel keeps it as an IPv6 socket with a mapped address.
            let made = try Connections(
                pair,
                ["0.0.0.0:80", "[::]:81", "10.77.0.100:82"],
                ["10.77.0.100:80", "10.77.0.1:80", "10.77.0.100:81", "[fd77::100]:81", "10.77.0.100:82"]
            )
            try pair.left.enter {
                let destroyer = try SocketDestroyer()
                let table = try SocketTable()
                #expect(try table.connections(to: Self.vips).count == 4)
                #expect(try table.connections(to: Self.vips).allSatisfy(\.isEstablished))
                #expect(try table.connections(to: Self.vips, ports: [81]).count == 2)
                #expect(try destroyer.destroyAll(to: Self.vips, ports: [82]) == 1)
                #expect(try destroyer.destroyAll(to: Self.vips) == 3)
                #expect(try destroyer.destroyAll(to: Self.vips) == 0)
                for (index, survives) in [(0, false), (1, true), (2, false), (3, false), (4, false)] {
                    let error = failure { try made.servers[index].send([1]) }
                    #expect((error == nil) == survives, "connection \(index): \(String(describing: error))")
                }
                #expect(try table.listeners().count == 3)
            }
            // Without a fence the clients get the kernel's RST.
            let problem = failure { _ = try made.clients[0].receive(within: .seconds(2)) }
            #expect(problem?.errno == ECONNRESET)
        }

        @Test func behindTheFenceTheClientNoticesNothing() throws {
            let pair = try Pair()
            try Self.vips(pair)
            let made = try Connections(pair, ["0.0.0.0:80"], ["10.77.0.100:80"])
            let table = try pair.left.enter {
                let table = try AgentTable.create(name: "bte-fence", interface: "eth0", vips: Self.vips)
                try table.setFence(true)
                #expect(try SocketDestroyer().destroyAll(to: Self.vips) == 1)
                return table
            }
            #expect(try made.clients[0].receive(within: .milliseconds(200)) == nil)
            #expect(try table.counters().fenced.frames >= 1)
            try table.remove()
        }

        @Test(arguments: ["10.77.0.100:80", "[fd77::100]:80"])
        func oneFlow(target: String) throws {
            let pair = try Pair()
            try Self.vips(pair)
            let made = try Connections(pair, ["[::]:80"], [target, target])
            let flows = try pair.right.enter {
                made.clients.map { FlowKey(client: $0.local, service: Endpoint(target)!) }
            }
            try pair.left.enter {
                let table = try SocketTable()
                let destroyer = SocketDestroyer(table: table)
                #expect(try table.connection(flows[0])?.isEstablished == true)
                // A flow that does not exist must not be taken for the listener.
                var unknown = flows[0]
                unknown.client.port ^= 0x5555
                #expect(try table.connection(unknown) == nil)
                #expect(try !destroyer.destroy(unknown))
                #expect(try destroyer.destroy(flows[0]))
                #expect(try !destroyer.destroy(flows[0]))
                #expect(try table.connection(flows[0]) == nil)
                #expect(try table.connection(flows[1])?.remote == flows[1].client)
                #expect(failure { try made.servers[0].send([1]) } != nil)
                #expect(failure { try made.servers[1].send([1]) } == nil)
                #expect(try table.listenerExists(Endpoint(target)!))
            }
        }

        /// A thousand connections: the listing comes in many parts, and the time stays small.
        @Test func manyConnections() throws {
            let lonely = try Namespace()
            try lonely.enter {
                try run("ip link set lo up")
                let listener = try TestSocket.listener(Endpoint("127.0.0.1:80")!, backlog: 4_096)
                var sockets: [TestSocket] = []
                for _ in 0..<400 {
                    let client = try TestSocket.make(AF_INET, SOCK_STREAM)
                    try client.connect(Endpoint("127.0.0.1:80")!)
                    sockets += [client, try listener.accept()]
                }
                let before = MonotonicClock.now()
                #expect(try SocketDestroyer().destroyAll(to: [IPAddress("127.0.0.1")!], ports: [80]) == 400)
                print("400 connections destroyed in \((MonotonicClock.now() - before).milliseconds) ms")
            }
        }
    }
}
