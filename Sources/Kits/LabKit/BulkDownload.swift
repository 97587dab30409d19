import CLab
import Crypto
import Glibc
import Model
import Synchronization

/// Many downloads at once by one thread with epoll: kernel TCP sockets in the client's namespace, HTTP/1.1 GET.
///
/// For numbers of clients that would be too many curls, and for clients that curl cannot be: a small receive buffer, a
/// pace that changes, a client that stops reading.
public final class BulkDownload: Sendable {
    public struct Request: Sendable {
        public var node = "client"
        public var count = 100
        public var to = Endpoint(address: LabPlan.virtualAddress, port: LabPlan.port)
        public var path = "/large.bin"
        /// Bytes each second of each client; nil: as fast as it goes; 0: reads nothing until `setRate`.
        public var rate: Int?
        /// SO_RCVBUF in bytes; 0: the kernel's choice.
        public var receiveBuffer = 0
        /// TCP_MAXSEG; 0: the kernel's choice.
        public var mss = 0
        /// Milliseconds between two connects.
        public var spacing = 0
        /// A client without a byte for so many seconds gives up.
        public var idleTimeout = 60.0

        public init() {}
    }

    public struct Progress: Sendable {
        public var connected = 0
        public var finished = 0
        /// Of those that failed, the first one's cause; nil: none has.
        public var failure: String?
        public var bytes = 0
        /// Local ports by client, 0 before its connect.
        public var ports: [UInt16] = []
    }

    private let promise: Promise<Result<[DownloadResult], any Error>>
    private let shared = Mutex(Progress())
    private let pace: Atomic<Int>
    private let stopped = Atomic<Bool>(false)

    public init(lab: Lab, _ request: Request) throws {
        try lab.checkNode(request.node)
        promise = try Promise()
        try BulkDownload.allowDescriptors(request.count + 1024)
        pace = Atomic(request.rate ?? -1)
        let namespace = lab.plan.namespacePath(request.node)
        startThread { [self] in
            let descriptor = open(namespace, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0, clab_enter_network(descriptor) == 0 else {
                promise.fulfil(.failure(LabError.system(namespace, code: errno)))
                if descriptor >= 0 { close(descriptor) }
                return
            }
            close(descriptor)
            var loop = BulkLoop(request)
            promise.fulfil(
                Result {
                    try loop.run(pace: { self.pace.load(ordering: .relaxed) }, isStopped: { self.isStopped }) {
                        progress in self.shared.withLock { $0 = progress }
                    }
                })
        }
    }

    /// Without room for all sockets the lab could not even be taken away: that takes descriptors too.
    private static func allowDescriptors(_ count: Int) throws {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        guard limit.rlim_cur < rlim_t(count) else { return }
        let hard = limit.rlim_max
        limit.rlim_cur = rlim_t(count)
        limit.rlim_max = max(hard, limit.rlim_cur)
        guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
            throw LabError.invalid("\(count) descriptors are more than \(hard), this process' limit; raise `ulimit -Hn`")
        }
    }

    public var progress: Progress { shared.withLock { $0 } }

    /// Changes the pace of all clients: bytes each second, 0 to stop reading, nil for no limit.
    public func setRate(_ rate: Int?) { pace.store(rate ?? -1, ordering: .relaxed) }

    /// Ends all clients at once (their sockets are closed).
    public func cancel() { stopped.store(true, ordering: .relaxed) }

    private var isStopped: Bool { stopped.load(ordering: .relaxed) || Interrupts.isRaised }

    /// Waits for all. Throws `.timeout` after ending them, or `.interrupted`.
    public func results(timeout seconds: Double = 600) throws -> [DownloadResult] {
        guard let result = promise.wait(until: Deadline(seconds: seconds)) else {
            cancel()
            try Interrupts.check()
            throw LabError.timeout("\(progress.ports.count) downloads", seconds: seconds)
        }
        return try result.get()
    }
}
