import Cluster
import LinuxBase
import Model
import Synchronization
import Takeover
import Tracking
import Wire

/// What the control thread wants of the data thread.
enum DataCommand: Sendable {
    case membership(Cluster.GroupMembership)
    case services([ServiceDescription])
    case profile(SlotID, ServiceID, HandshakeOptions)
    case replies([ReplyNotice])
    case synAcks([SynAckNotice])
    case startTakeOver(TakeOverStart)
    case abortTakeOver(SlotID)
    /// The application of this address is back after a crash: it gets its connections again.
    case readopt(Endpoint)
    case sources([SlotSource])
    /// A session with the owner of slots that we back up has opened or closed.
    case peerConnected(BackendID, Bool)
    case peerAnswer(PeerMessage, from: BackendID)
    /// A backup asks; the closure gets the answer's bytes.
    case peerRequest(PeerMessage, @Sendable ([UInt8]) -> Void)
    case status(@Sendable (DataStatus) -> Void)
    /// Called when everything is done that was posted before.
    case barrier(@Sendable () -> Void)
    case stop
}

/// What the data thread tells the control thread.
enum DataReport: Sendable {
    case takeOver(TakeOverReport)
    /// Connections that this machine has adopted again.
    case readopted(TakeOverReport)
    /// A process that served this address died; the address may be a wildcard.
    case applicationCrashed(Endpoint, hadConnections: Bool)
    case listenerClosed(Endpoint)
    /// A SYN-ACK of a VIP left: the options that this machine's application announces.
    case handshake(Endpoint, HandshakeOptions)
    /// Replies that this machine has begun to send.
    case replies([ReplyNotice])
    /// SYN-ACKs that this machine has sent.
    case synAcks([SynAckNotice])
    case peerRequest(PeerMessage, to: BackendID)
    case synchronised(SlotID, after: Interval)
    case protection([SlotProtection])
    case failed(String)
}

struct DataStatus: Sendable {
    var connections = 0
    var journalBytes = 0
    var tracker = TrackerCounters()
    var tapReceived: UInt64 = 0
    var tapDropped: UInt64 = 0
    var resets = [Int](repeating: 0, count: ResetCause.allCases.count)
    var adoptedTotal = 0
    var sendFailures: UInt64 = 0
}
/// Commands on their way to the data thread. Any thread may post.
final class Mailbox: Sendable {
    let signal: EventFD
    private let commands = Mutex<[DataCommand]>([])

    init() throws(LinuxError) {
        signal = try EventFD()
    }

    func post(_ command: DataCommand) {
        commands.withLock { $0.append(command) }
        signal.signal()
    }

    func take() -> [DataCommand] {
        signal.drain()
        return commands.withLock { commands in
            defer { commands.removeAll(keepingCapacity: true) }
            return commands
        }
    }
}
