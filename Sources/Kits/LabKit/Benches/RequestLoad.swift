import CLab
import Glibc
import Model
import Synchronization

/// Short HTTP requests at a steady rate, each on a connection of its own; one thread with epoll.
public final class RequestLoad: Sendable {
    public struct Request: Sendable {
        public var node = "client"
        public var to = Endpoint(address: LabPlan.virtualAddress, port: LabPlan.port)
        public var path = "/small.bin"
        /// Connections each second.
        public var rate = 1000

        public init() {}
    }

    public struct Totals: Sendable {
        public var begun = 0
        public var answered = 0
        public var failed = 0
        public var bytes = 0
    }

    private let shared = Mutex(Totals())
    private let stopped = Atomic<Bool>(false)
    private let promise: Promise<Result<Void, any Error>>

    public init(lab: Lab, _ request: Request) throws {
        try lab.checkNode(request.node)
        promise = try Promise()
        let namespace = lab.plan.namespacePath(request.node)
        startThread { [self] in
            promise.fulfil(
                Result {
                    let descriptor = open(namespace, O_RDONLY | O_CLOEXEC)
                    guard descriptor >= 0 else { throw LabError.system(namespace, code: errno) }
                    defer { close(descriptor) }
                    guard clab_enter_network(descriptor) == 0 else { throw LabError.system(namespace, code: errno) }
                    var loop = RequestLoop(request)
                    try loop.run(
                        isStopped: { self.stopped.load(ordering: .relaxed) || Interrupts.isRaised },
                        report: { totals in self.shared.withLock { $0 = totals } })
                })
        }
    }

    public var totals: Totals { shared.withLock { $0 } }

    /// Ends the load and gives what became of it.
    public func stop() throws -> Totals {
        stopped.store(true, ordering: .relaxed)
        guard let result = promise.wait(until: Deadline(seconds: 30)) else { throw LabError.interrupted }
        try result.get()
        return totals
    }
}

/// The event loop of `RequestLoad`.
private struct RequestLoop {
    private enum Phase { case free, connecting, reading }
    private static let readable: UInt32 = 1
    private static let writable: UInt32 = 4

    private let request: RequestLoad.Request
    private let text: [UInt8]
    private var totals = RequestLoad.Totals()
    /// By file descriptor.
    private var phases: [Phase] = Array(repeating: .free, count: 65_536)

    init(_ request: RequestLoad.Request) {
        self.request = request
        text = Array("GET \(request.path) HTTP/1.1\r\nHost: \(request.to.address)\r\nConnection: close\r\n\r\n".utf8)
    }

    mutating func run(isStopped: () -> Bool, report: (RequestLoad.Totals) -> Void) throws {
        let epoll = clab_epoll_create()
        guard epoll >= 0 else { throw LabError.system("epoll", code: errno) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 16)
        defer {
            for descriptor in phases.indices where phases[descriptor] != .free { close(Int32(descriptor)) }
            close(epoll)
            buffer.deallocate()
        }
        var tags = [UInt64](repeating: 0, count: 256)
        var events = [UInt32](repeating: 0, count: 256)
        let start = Instant.now().nanoseconds
        while !isStopped() {
            let due = Int((Instant.now().nanoseconds - start) / 1000 * UInt64(request.rate) / 1_000_000)
            // After a pause of the machine the load goes on at its rate, without a burst.
            for _ in 0..<min(64, max(0, due - totals.begun)) { begin(epoll) }
            let ready = clab_epoll_wait(epoll, &tags, &events, 256, 1)
            for index in 0..<Int(max(0, ready)) { serve(Int32(tags[index]), epoll, buffer) }
            report(totals)
        }
    }

    private mutating func begin(_ epoll: Int32) {
        totals.begun += 1
        let descriptor = clab_tcp_connect(request.to.address.ipv4 ?? 0, request.to.port, 0, 0)
        guard descriptor >= 0, Int(descriptor) < phases.count else {
            totals.failed += 1
            if descriptor >= 0 { close(descriptor) }
            return
        }
        phases[Int(descriptor)] = .connecting
        _ = clab_epoll_control(epoll, 0, descriptor, RequestLoop.writable, UInt64(descriptor))
    }

    private mutating func serve(_ descriptor: Int32, _ epoll: Int32, _ buffer: UnsafeMutableRawBufferPointer) {
        switch phases[Int(descriptor)] {
        case .free: break
        case .connecting:
            guard clab_socket_error(descriptor) == 0,
                send(descriptor, text, text.count, Int32(MSG_NOSIGNAL)) == text.count
            else { return end(descriptor, answered: false) }
            phases[Int(descriptor)] = .reading
            _ = clab_epoll_control(epoll, 1, descriptor, RequestLoop.readable, UInt64(descriptor))
        case .reading:
            let count = read(descriptor, buffer.baseAddress, buffer.count)
            if count < 0, errno == EAGAIN || errno == EINTR { return }
            totals.bytes += max(0, count)
            if count <= 0 { end(descriptor, answered: count == 0) }
        }
    }

    private mutating func end(_ descriptor: Int32, answered: Bool) {
        phases[Int(descriptor)] = .free
        close(descriptor)
        if answered { totals.answered += 1 } else { totals.failed += 1 }
    }
}
