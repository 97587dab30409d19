import Configuration
import Glibc
import Model
import NIOCore
import NIOPosix

/// Checks the local applications by connecting to them, as clients do.
///
/// A connection that opens also shows the options of the application's SYN-ACKs (TCP_INFO), so that they are known
/// before the first client comes. Belongs to the event loop.
final class HealthChecks {
    typealias Outcome = (_ service: String, _ passed: Bool, _ handshake: HandshakeOptions?) -> Void

    private struct Item {
        var name: String
        var endpoint: Endpoint
        var check: Configuration.AgentConfiguration.Check
        var next: Scheduled<Void>?
    }

    private let loop: any EventLoop
    private let outcome: Outcome
    private var items: [Item] = []
    private var round: UInt64 = 0

    init(loop: any EventLoop, outcome: @escaping Outcome) {
        self.loop = loop
        self.outcome = outcome
    }

    /// Checks exactly these services from now on.
    func set(_ services: [(String, Endpoint, Configuration.AgentConfiguration.Check)]) {
        stop()
        items = services.map { Item(name: $0.0, endpoint: $0.1, check: $0.2) }
        for index in items.indices { start(index, round: round) }
    }

    func stop() {
        round += 1
        for item in items { item.next?.cancel() }
        items = []
    }

    private func start(_ index: Int, round: UInt64) {
        guard round == self.round, index < items.count else { return }
        let item = items[index]
        let owner = NIOLoopBound(self, eventLoop: loop)
        items[index].next = loop.scheduleTask(in: .nanoseconds(item.check.interval.nanoseconds)) {
            owner.value.start(index, round: round)
        }
        switch item.check.kind {
        case .none: outcome(item.name, true, nil)
        case .tcp: connect(item, round: round)
        }
    }

    private func connect(_ item: Item, round: UInt64) {
        let owner = NIOLoopBound(self, eventLoop: loop)
        guard let address = try? SocketAddress(ipAddress: "\(item.endpoint.address)", port: Int(item.endpoint.port))
        else { return }
        ClientBootstrap(group: loop)
            .connectTimeout(.nanoseconds(item.check.timeout.nanoseconds))
            .connect(to: address)
            .whenComplete { result in
                switch result {
                case .failure: owner.value.report(item, false, nil, round: round)
                case .success(let channel):
                    guard let provider = channel as? any SocketOptionProvider else { return }
                    provider.getTCPInfo().whenComplete { info in
                        channel.close(promise: nil)
                        owner.value.report(item, true, (try? info.get()).map(HandshakeOptions.init), round: round)
                    }
                }
            }
    }

    private func report(_ item: Item, _ passed: Bool, _ handshake: HandshakeOptions?, round: UInt64) {
        guard round == self.round else { return }
        outcome(item.name, passed, handshake)
    }
}

extension HandshakeOptions {
    /// What the other end announced, from `struct tcp_info` (include/uapi/linux/tcp.h).
    fileprivate init(_ info: tcp_info) {
        let options = info.tcpi_options
        let usesScale = options & 4 != 0
        // MSS says nothing here: loopback's is not the network's.
        self.init(
            mss: 1460,
            windowScale: usesScale ? info.tcpi_snd_wscale : nil,
            sackPermitted: options & 2 != 0,
            timestamps: options & 1 != 0
        )
    }
}
