import CLab
import Crypto
import Glibc
import Model

/// The event loop of `BulkDownload`; lives on one thread.
struct BulkLoop {
    private static let readable: UInt32 = 1
    private static let writable: UInt32 = 4
    private static let wheelSize = 4096

    private let request: BulkDownload.Request
    private var clients: [BulkClient] = []
    private var results: [DownloadResult?] = []
    private var progress = BulkDownload.Progress()
    private var epoll: Int32 = -1
    /// Clients that wait for their turn by the millisecond in which it comes, modulo the wheel's size.
    private var wheel: [[Int]] = Array(repeating: [], count: wheelSize)
    private var wheelTime: UInt64 = 0
    private var waiting = 0

    init(_ request: BulkDownload.Request) {
        self.request = request
        results = Array(repeating: nil, count: request.count)
        progress.ports = Array(repeating: 0, count: request.count)
    }

    mutating func run(
        pace: () -> Int,
        isStopped: () -> Bool,
        report: (BulkDownload.Progress) -> Void
    ) throws -> [DownloadResult] {
        epoll = clab_epoll_create()
        guard epoll >= 0 else { throw LabError.system("epoll", code: errno) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)
        defer {
            for client in clients where client.descriptor >= 0 { close(client.descriptor) }
            close(epoll)
            buffer.deallocate()
        }
        var tags = [UInt64](repeating: 0, count: 256)
        var events = [UInt32](repeating: 0, count: 256)
        let start = milliseconds()
        wheelTime = start
        var lastSweep = start
        while progress.finished < request.count {
            if isStopped() { throw LabError.interrupted }
            connectDue(since: start)
            let ready = clab_epoll_wait(
                epoll, &tags, &events, 256, waiting > 0 || clients.count < request.count ? 1 : 20)
            let rate = pace()
            for index in 0..<Int(max(0, ready)) { handle(Int(tags[index]), rate, buffer) }
            turnWheel(rate, buffer)
            let now = milliseconds()
            if now >= lastSweep + 20 {
                lastSweep = now
                if rate != 0 { dropIdle() }
                report(progress)
            }
        }
        report(progress)
        return results.compactMap { $0 }
    }

    private func milliseconds() -> UInt64 { Instant.now().nanoseconds / 1_000_000 }

    // MARK: Connecting

    private mutating func connectDue(since start: UInt64) {
        let spacing = UInt64(request.spacing)
        while clients.count < request.count {
            guard spacing == 0 || milliseconds() >= start + UInt64(clients.count) * spacing else { return }
            let index = clients.count
            let result = clab_tcp_connect(
                request.to.address.ipv4 ?? 0, request.to.port, Int32(clamping: request.receiveBuffer),
                Int32(clamping: request.mss))
            clients.append(BulkClient(descriptor: result, now: Instant.now().nanoseconds))
            guard result >= 0 else {
                finish(index, error: "connect: \(errorText(-result))")
                continue
            }
            clients[index].port = clab_local_port(result)
            progress.ports[index] = clients[index].port
            _ = clab_epoll_control(epoll, 0, result, BulkLoop.writable, UInt64(index))
            // Not all in one go: the others' data must not wait behind a thousand connects.
            if spacing == 0, index % 64 == 63 { return }
        }
    }

    // MARK: Events

    private mutating func handle(_ index: Int, _ rate: Int, _ buffer: UnsafeMutableRawBufferPointer) {
        guard clients[index].descriptor >= 0 else { return }
        if clients[index].phase == .connecting {
            sendRequest(index)
        } else {
            receive(index, rate, buffer)
        }
    }

    private mutating func sendRequest(_ index: Int) {
        let descriptor = clients[index].descriptor
        let code = clab_socket_error(descriptor)
        guard code == 0 else { return finish(index, error: "connect: \(errorText(code))") }
        let text =
            "GET \(request.path) HTTP/1.1\r\nHost: \(request.to.address)\r\n"
            + "User-Agent: baton-lab\r\nAccept: */*\r\n\r\n"
        let bytes = Array(text.utf8)
        let sent = send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        guard sent == bytes.count else { return finish(index, error: "send: \(errorText(errno))") }
        clients[index].phase = .header
        progress.connected += 1
        _ = clab_epoll_control(epoll, 1, descriptor, BulkLoop.readable, UInt64(index))
    }

    private mutating func receive(_ index: Int, _ rate: Int, _ buffer: UnsafeMutableRawBufferPointer) {
        let descriptor = clients[index].descriptor
        if rate == 0 { return park(index, milliseconds: 5) }
        // At a pace, small reads often: two milliseconds' worth at a time.
        let size = rate < 0 ? buffer.count : min(buffer.count, max(2048, rate / 500))
        let count = read(descriptor, buffer.baseAddress, size)
        if count < 0 {
            if errno == EAGAIN || errno == EINTR { return unpark(index) }
            return finish(index, error: "read: \(errorText(errno))")
        }
        guard count > 0 else { return finish(index, error: "closed by the server before the end") }
        let now = Instant.now().nanoseconds
        let part = UnsafeRawBufferPointer(rebasing: buffer[..<count])
        let before = clients[index].body
        let outcome = clients[index].take(part, now: now)
        progress.bytes += clients[index].body - before
        switch outcome {
        case .more: break
        case .whole: return finish(index, error: "")
        case .garbled(let why): return finish(index, error: why)
        }
        guard rate > 0 else { return unpark(index) }
        let due = clients[index].turn(after: count, rate: rate, now: now)
        if due > now + 1_000_000 {
            park(index, milliseconds: (due - now) / 1_000_000)
        } else {
            unpark(index)
        }
    }

    // MARK: Pace

    private mutating func park(_ index: Int, milliseconds delay: UInt64) {
        if !clients[index].parked {
            clients[index].parked = true
            _ = clab_epoll_control(epoll, 2, clients[index].descriptor, 0, UInt64(index))
        }
        let place = Int((wheelTime + min(max(1, delay), UInt64(BulkLoop.wheelSize - 1))) % UInt64(BulkLoop.wheelSize))
        wheel[place].append(index)
        waiting += 1
    }

    private mutating func unpark(_ index: Int) {
        guard clients[index].parked else { return }
        clients[index].parked = false
        _ = clab_epoll_control(epoll, 0, clients[index].descriptor, BulkLoop.readable, UInt64(index))
    }

    private mutating func turnWheel(_ rate: Int, _ buffer: UnsafeMutableRawBufferPointer) {
        let now = milliseconds()
        while wheelTime < now {
            wheelTime += 1
            let place = Int(wheelTime % UInt64(BulkLoop.wheelSize))
            guard !wheel[place].isEmpty else { continue }
            let due = wheel[place]
            wheel[place].removeAll(keepingCapacity: true)
            waiting -= due.count
            for index in due where clients[index].descriptor >= 0 { receive(index, rate, buffer) }
        }
    }

    // MARK: Ends

    private mutating func dropIdle() {
        let now = Instant.now().nanoseconds
        let limit = UInt64(request.idleTimeout * 1e9)
        for index in clients.indices where clients[index].descriptor >= 0 && clients[index].lastNs + limit < now {
            finish(index, error: "no byte for \(rounded(request.idleTimeout, 0)) s")
        }
    }

    private mutating func finish(_ index: Int, error: String) {
        if clients[index].descriptor >= 0 { close(clients[index].descriptor) }
        clients[index].descriptor = -1
        results[index] = clients[index].result(error: error)
        progress.finished += 1
        if !error.isEmpty, progress.failure == nil { progress.failure = error }
    }
}

/// One client of the loop.
struct BulkClient {
    enum Phase { case connecting, header, body }
    enum Outcome {
        case more, whole
        case garbled(String)
    }

    var descriptor: Int32
    var phase = Phase.connecting
    var parked = false
    var port: UInt16 = 0
    var body = 0
    var lastNs: UInt64
    private var header: [UInt8] = []
    private var status = 0
    private var length = 0
    private var hash = SHA256()
    private var meter = GapMeter()
    private var turnNs: UInt64 = 0
    private let startNs: UInt64

    init(descriptor: Int32, now: UInt64) {
        self.descriptor = descriptor
        startNs = now
        lastNs = now
    }

    /// When the next read is due, so that the mean is the rate; a stall is not made up for by a burst.
    mutating func turn(after count: Int, rate: Int, now: UInt64) -> UInt64 {
        let earliest = now > 20_000_000 ? now - 20_000_000 : 0
        turnNs = max(turnNs, earliest) + UInt64(count) * 1_000_000_000 / UInt64(rate)
        return turnNs
    }

    mutating func take(_ bytes: UnsafeRawBufferPointer, now: UInt64) -> Outcome {
        lastNs = now
        meter.arrival(at: now)
        guard phase == .header else { return takeBody(bytes) }
        header += bytes
        guard header.count <= 65_536 + bytes.count else { return .garbled("a reply header without end") }
        guard let end = headerEnd() else { return .more }
        let text = String(decoding: header[..<end], as: UTF8.self).split(separator: "\r\n")
        guard let line = text.first, line.hasPrefix("HTTP/1.1 "), let code = Int(line.dropFirst(9).prefix(3)),
            let field = text.first(where: { $0.lowercased().hasPrefix("content-length:") }),
            let size = Int(field.dropFirst(15).drop { $0 == " " })
        else { return .garbled("a reply that the bulk client cannot read") }
        status = code
        length = size
        phase = .body
        let rest = Array(header[(end + 4)...])
        header = []
        return rest.withUnsafeBytes { takeBody($0) }
    }

    private func headerEnd() -> Int? {
        guard header.count >= 4 else { return nil }
        return (0...(header.count - 4)).first {
            header[$0] == 13 && header[$0 + 1] == 10 && header[$0 + 2] == 13 && header[$0 + 3] == 10
        }
    }

    private mutating func takeBody(_ bytes: UnsafeRawBufferPointer) -> Outcome {
        hash.update(bufferPointer: bytes)
        body += bytes.count
        if body > length { return .garbled("more bytes than the reply's length") }
        return body == length ? .whole : .more
    }

    func result(error: String) -> DownloadResult {
        let now = Instant.now().nanoseconds
        var meter = meter
        if !error.isEmpty { meter.brokenOff(at: now) }
        return DownloadResult(
            exitCode: error.isEmpty ? 0 : 1, httpStatus: status, bytes: body, sha256: hexadecimal(hash.finalize()),
            localPort: port, startNs: startNs, firstByteNs: meter.first, endNs: now, longestGap: meter.longest,
            gaps: meter.gaps, longestArrivalGap: nil, arrivalGaps: [], error: error)
    }
}
