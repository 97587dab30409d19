import CLab
import Crypto
import Glibc
import Model
import Synchronization

/// One download by real curl, measured without touching a packet: curl writes into a pipe, and every read of it is
/// timed and hashed.
public final class Download: Sendable {
    public struct Request: Sendable {
        /// The node in which curl runs.
        public var node = "client"
        public var url: String
        /// Bytes each second, as `--limit-rate`; nil: as fast as it goes.
        public var rate: Int?
        /// More options of curl.
        public var options: [String] = []

        public init(url: String = "http://\(LabPlan.virtualAddress)/large.bin", rate: Int? = nil) {
            self.url = url
            self.rate = rate
        }
    }

    public let request: Request
    public let curl: ChildProcess
    private let received = Atomic<Int>(0)
    private let reading: Promise<(meter: GapMeter, sha256: String, end: UInt64)>
    private let notes: OutputCollector
    private let arrivals: ArrivalMeter
    private let start = Instant.now()

    /// Starts curl in the client's namespace.
    public init(lab: Lab, _ request: Request = Request()) throws {
        self.request = request
        var ends: [Int32] = [-1, -1]
        guard clab_pipe(&ends) == 0 else { throw LabError.system("pipe", code: errno) }
        let notes = try OutputCollector()
        self.notes = notes
        reading = try Promise()
        var command = ["curl", "--silent", "--show-error", "--output", "-"]
        if let rate = request.rate { command += ["--limit-rate", String(rate)] }
        command += ["--write-out", "%{stderr}\nhttp_code %{http_code}\nlocal_port %{local_port}\n"]
        command += request.options + ["--", request.url]
        let (readEnd, writeEnd) = (ends[0], ends[1])
        let started = Result {
            try lab.spawn(
                in: request.node, command: command, output: .descriptor(writeEnd), error: .descriptor(notes.writeEnd))
        }
        close(writeEnd)
        notes.closeWriteEnd()
        if case .failure = started { close(readEnd) }
        curl = try started.get()
        arrivals = ArrivalMeter(self.curl)
        startThread { [self] in read(from: readEnd) }
        arrivals.run()
    }

    /// Bytes of the body so far.
    public var bytes: Int { received.load(ordering: .relaxed) }

    /// curl's port once it is connected; tells the flow in the kernel's and the director's tables.
    public var localPort: UInt16? { arrivals.localPort }

    public var isFinished: Bool { curl.poll() != nil }

    private func read(from descriptor: Int32) {
        var meter = GapMeter()
        var hash = SHA256()
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)
        defer {
            buffer.deallocate()
            close(descriptor)
        }
        while true {
            let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            meter.arrival(at: Instant.now().nanoseconds)
            hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            received.add(count, ordering: .relaxed)
        }
        // curl's socket has a second owner in the meter: let go of it, or its FIN waits.
        arrivals.stop()
        reading.fulfil((meter, hexadecimal(hash.finalize()), Instant.now().nanoseconds))
    }

    /// Waits for curl's end. Throws `.timeout` after killing it, or `.interrupted`.
    public func result(timeout seconds: Double = 600) throws -> DownloadResult {
        let status: ExitStatus
        do {
            status = try curl.wait(timeout: seconds)
        } catch {
            curl.end()
            arrivals.stop()
            throw error
        }
        guard let read = reading.wait(until: Deadline(seconds: 10)) else {
            try Interrupts.check()
            throw LabError.timeout("reading curl's output", seconds: 10)
        }
        var (meter, sha256, end) = read
        var arrived = arrivals.meter
        if !status.isSuccess {
            meter.brokenOff(at: end)
            arrived.brokenOff(at: end)
        }
        let text = notes.text()
        return DownloadResult(
            exitCode: status.shellCode,
            httpStatus: Download.number("http_code", in: text),
            bytes: bytes,
            sha256: sha256,
            localPort: UInt16(clamping: Download.number("local_port", in: text)),
            startNs: start.nanoseconds,
            firstByteNs: meter.first,
            endNs: end,
            longestGap: meter.longest,
            gaps: meter.gaps,
            longestArrivalGap: arrived.longest,
            arrivalGaps: arrived.gaps,
            error: text.split(separator: "\n").first { $0.hasPrefix("curl:") }.map(String.init) ?? ""
        )
    }

    /// Kills curl.
    public func cancel() {
        curl.end()
        arrivals.stop()
    }

    private static func number(_ name: String, in text: String) -> Int {
        let line = text.split(separator: "\n").last { $0.hasPrefix(name + " ") }
        return line.flatMap { Int($0.dropFirst(name.utf8.count + 1)) } ?? 0
    }
}

/// Samples how many bytes curl's TCP has received in order, each millisecond, by a copy of its socket.
private final class ArrivalMeter: Sendable {
    private struct State {
        var meter = GapMeter()
        var stopped = false
    }

    private let curl: ChildProcess
    private let state = Mutex(State())
    private let port = Atomic<UInt16>(0)

    init(_ curl: ChildProcess) { self.curl = curl }

    var meter: GapMeter { state.withLock { $0.meter } }

    var localPort: UInt16? {
        let value = port.load(ordering: .acquiring)
        return value == 0 ? nil : value
    }

    func stop() { state.withLock { $0.stopped = true } }

    private var isStopped: Bool { state.withLock { $0.stopped } }

    func run() {
        startThread { [self] in
            guard let socket = findSocket() else { return }
            defer { close(socket) }
            var bytes: Int64 = 0
            while !isStopped {
                let now = clab_tcp_bytes_received(socket)
                if now != bytes {
                    bytes = now
                    let instant = Instant.now().nanoseconds
                    state.withLock { $0.meter.arrival(at: instant) }
                }
                pause(milliseconds: 1)
            }
        }
    }

    /// curl's connected TCP socket, copied; nil when curl ends first.
    private func findSocket() -> Int32? {
        while !isStopped, curl.poll() == nil {
            for name in listDirectory("/proc/\(curl.process)/fd") {
                guard let number = Int32(name), number > 2,
                    readLink("/proc/\(curl.process)/fd/\(name)")?.hasPrefix("socket:") == true,
                    let copy = curl.duplicate(descriptor: number)
                else { continue }
                if clab_tcp_remote_port(copy) != 0 {
                    port.store(clab_local_port(copy), ordering: .releasing)
                    return copy
                }
                close(copy)
            }
            pause(milliseconds: 1)
        }
        return nil
    }
}
