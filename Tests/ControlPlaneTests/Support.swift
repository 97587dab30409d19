import Glibc
import Logging
import Model
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import ControlPlane

/// A loop of the test's own, with a thread of its own, on which its sockets live.
final class ControlLoop: Sendable {
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let loop: any EventLoop

    init() { loop = group.next() }

    deinit { group.shutdownGracefully { _ in } }

    /// Runs `body` on the loop.
    func run<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
        try await loop.submit(body).get()
    }

    /// Makes something that lives on the loop.
    func make<T>(_ body: @escaping @Sendable () throws -> T) async throws -> NIOLoopBound<T> {
        let loop = self.loop
        return try await loop.submit { NIOLoopBound(try body(), eventLoop: loop) }.get()
    }
}

/// A list that handlers on the loop fill and tests read.
final class Recorder<Element: Sendable>: Sendable {
    private let storage = Mutex<[Element]>([])
    func append(_ element: Element) { storage.withLock { $0.append(element) } }
    var all: [Element] { storage.withLock { $0 } }
    var count: Int { storage.withLock { $0.count } }
}

/// A logger whose lines a test can read.
struct LogCapture: Sendable {
    let lines = Recorder<String>()
    var logger: Logger {
        var logger = Logger(label: "test") { _ in Handler(lines: lines) }
        logger.logLevel = .trace
        return logger
    }

    func count(containing text: String) -> Int { lines.all.count { $0.contains(text) } }

    private struct Handler: LogHandler {
        let lines: Recorder<String>
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace
        init(lines: Recorder<String>) { self.lines = lines }
        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }
        func log(event: LogEvent) { lines.append("\(event.message)") }
    }
}

/// Runs what blocks on a thread of its own, away from the threads that tests share.
func onThread<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
    try await NIOThreadPool.singleton.runIfActive(body)
}

/// Waits until a condition holds; false when it does not within the time.
func eventually(within seconds: Double = 5, _ condition: () async throws -> Bool) async throws -> Bool {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while ContinuousClock.now < deadline {
        if try await condition() { return true }
        try? await Task.sleep(for: .milliseconds(2))
    }
    return try await condition()
}

let loopback = Endpoint(address: IPAddress(ipv4: 0x7f00_0001), port: 0)
let loopbackV6 = Endpoint(address: IPAddress(high: 0, low: 1), port: 0)

func testKey(_ fill: UInt8 = 1) throws -> ClusterKey {
    try ClusterKey(bytes: (0..<32).map { fill &+ $0 })
}

/// A small generator of repeatable randomness (SplitMix64).
struct TestRandom: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
    }
}

/// A plain blocking socket: a peer that keeps to no protocol.
struct RawSocket: ~Copyable {
    let descriptor: CInt

    private init(adopting descriptor: CInt) { self.descriptor = descriptor }

    init(connectingTo endpoint: Endpoint) throws {
        descriptor = socket(endpoint.family, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        let result = endpoint.withSocketAddress(family: endpoint.family) { connect(descriptor, $0, $1) }
        if result != 0 { throw SocketError("connect: \(errorText(errno))", code: errno) }
        setTimeout()
    }

    init(datagramFrom endpoint: Endpoint) throws {
        descriptor = try BoundSocket.datagram(endpoint, receiveBufferBytes: 65536)
    }

    init(unixPath path: String) throws {
        descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        let result = LocalSocketFile.withAddress(path) { connect(descriptor, $0, $1) }
        if result != 0 { throw SocketError("connect: \(errorText(errno))", code: errno) }
        setTimeout()
    }

    /// Accepts one connection from a listening, non-blocking socket.
    static func accepting(on listener: CInt, within milliseconds: CInt = 5000) throws -> RawSocket {
        var entry = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, milliseconds) > 0 else { throw SocketError("nobody came") }
        let descriptor = accept(listener, nil, nil)
        if descriptor < 0 { throw SocketError("accept: \(errorText(errno))", code: errno) }
        let socket = RawSocket(adopting: descriptor)
        socket.setTimeout()
        return socket
    }

    deinit { close(descriptor) }

    private func setTimeout() {
        var time = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    @discardableResult
    func write(_ bytes: [UInt8]) -> Int { send(descriptor, bytes, bytes.count, CInt(MSG_NOSIGNAL)) }

    @discardableResult
    func write(_ bytes: [UInt8], to endpoint: Endpoint) -> Int {
        endpoint.withSocketAddress(family: endpoint.family) {
            sendto(descriptor, bytes, bytes.count, 0, $0, $1)
        } ?? -1
    }

    /// What one call of recv gives; empty at the end of the stream, nil on an error (a reset, a time-out).
    func read(limit: Int = 65536) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: limit)
        let count = recv(descriptor, &bytes, limit, 0)
        return count < 0 ? nil : Array(bytes[..<count])
    }

    /// Whether the peer ends the connection (end of stream or reset) within five seconds, whatever it sends before.
    func isEndedByPeer() -> Bool {
        let start = ContinuousClock.now
        while ContinuousClock.now - start < .seconds(5) {
            guard let bytes = read() else { return errno != EAGAIN }
            if bytes.isEmpty { return true }
        }
        return false
    }

    /// Everything until the end of the stream or a time-out.
    func readAll() -> [UInt8] {
        var all: [UInt8] = []
        while let bytes = read(), !bytes.isEmpty { all += bytes }
        return all
    }
}
