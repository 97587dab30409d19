/// What the simulated servers publish: the same names on all hosts, and not always the same bytes behind them.
///
/// Every head says what its body is made of, and ends with a sum of itself: so a client can tell by itself whether what
/// it reads was sent by one server.
struct WebSite {
    enum Validator { case strong, weak, none }

    /// One file as one host has it.
    struct File {
        /// The bytes are a function of this and the length alone.
        var digest: UInt64
        var length: Int
        var validator: Validator
        /// Of the entity tag; equal digests may have different tags (inodes, microseconds), never the other way round.
        var tag: UInt64
        /// 0: Content-Length.
        var chunkBytes: Int
        /// Makes heads of another length.
        var padding: Int
        /// `Keep-Alive: max=`, which becomes shorter with the second reply of a connection.
        var countsDown: Bool
    }

    private var files: [[File]] = []
    private(set) var uniform: [Bool] = []
    static let count = 6

    init(hosts: Int, longest: Int, _ random: inout SimulationRandom) {
        for _ in 0..<Self.count {
            let kind = random.number(0...9)
            let original = File(
                digest: random.next(),
                length: random.chance(1, in: 6) ? random.number(0...600) : random.number(2_000...longest),
                validator: kind == 0 ? .weak : kind == 1 ? .none : .strong,
                tag: random.next(),
                chunkBytes: random.chance(1, in: 6) ? random.number(300...5000) : 0,
                padding: 0,
                countsDown: random.chance(1, in: 5)
            )
            let (differs, sameLength) = (random.chance(1, in: 4), random.chance(1, in: 2))
            let (differentTags, differentHeads) = (random.chance(1, in: 8), random.chance(1, in: 4))
            var copies = Array(repeating: original, count: hosts)
            for host in copies.indices {
                if differs, random.chance(1, in: 2) {
                    copies[host].digest = random.next()
                    copies[host].tag = random.next()
                    if !sameLength { copies[host].length = max(0, original.length + random.number(-300...300)) }
                }
                if differentTags { copies[host].tag = random.next() }
                if differentHeads { copies[host].padding = random.number(0...40) }
            }
            uniform.append(
                !differs && !differentTags && original.validator == .strong && original.chunkBytes == 0)
            files.append(copies)
        }
    }

    func file(_ number: Int, on host: Int) -> File? { files.indices.contains(number) ? files[number][host] : nil }

    // MARK: Replies

    /// What a host answers to a request; `number` counts the requests of the connection from 0.
    func reply(to request: WebRequest, on host: Int, number: Int, at time: TrueTime) -> [UInt8] {
        guard let file = file(request.file, on: host) else {
            // `OPTIONS *`, say; each host answers it in its own way.
            let body = Exchange.stream(UInt64(host), host * 7)
            let lines = ["HTTP/1.1 404 N", "Content-Length: \(body.count)"] + (request.closes ? ["Connection: close"] : [])
            return Self.head(lines, time) + body
        }
        var range = 0..<file.length
        var lines = ["HTTP/1.1 200 OK"]
        if let first = request.first, file.chunkBytes == 0, request.method == "GET",
            request.ifRange.map({ file.validator == .strong && $0 == Self.tag(file) }) ?? true {
            guard first < file.length else {
                return Self.head(["HTTP/1.1 416 R", "Content-Length: 0"], time)
            }
            range = first..<min(file.length, (request.last ?? .max - 1) + 1)
            lines = ["HTTP/1.1 206 P", "Content-Range: bytes \(range.lowerBound)-\(range.upperBound - 1)/\(file.length)"]
        }
        lines.append(file.chunkBytes > 0 ? "Transfer-Encoding: chunked" : "Content-Length: \(range.count)")
        switch file.validator {
        case .strong: lines.append("ETag: \(Self.tag(file))")
        case .weak: lines.append("ETag: W/\(Self.tag(file))")
        case .none: break
        }
        if file.countsDown { lines.append("Keep-Alive: max=\(100 - number)") }
        if file.padding > 0 { lines.append("X-Padding: " + String(repeating: "p", count: file.padding)) }
        lines.append("X-Body: \(file.digest) \(file.length) \(file.chunkBytes)")
        if request.closes { lines.append("Connection: close") }
        let head = Self.head(lines, time)
        if request.method == "HEAD" { return head }
        let body = Self.body(digest: file.digest, length: file.length, chunkBytes: file.chunkBytes)
        return head + (file.chunkBytes > 0 ? body[...] : body[range])
    }

    private static func tag(_ file: File) -> String { "\"\(String(file.tag, radix: 16))\"" }

    private static func head(_ lines: [String], _ time: TrueTime) -> [UInt8] {
        let date = String(10_000_000_000 + time / 1000)
        let text = lines.joined(separator: "\r\n") + "\r\nDate: \(date)\r\n"
        return Array((text + "X-Sum: \(sum(Array(text.utf8)[...]))\r\n\r\n").utf8)
    }

    /// "X-Sum: ", 16 digits, two line ends.
    static let sumBytes = 27

    static func sum(_ bytes: ArraySlice<UInt8>) -> String {
        var digest: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { digest = (digest ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return String(digest | 1 << 63, radix: 16)
    }

    /// A body as it is on the wire.
    static func body(digest: UInt64, length: Int, chunkBytes: Int) -> [UInt8] {
        let bytes = Exchange.stream(digest, length)
        guard chunkBytes > 0 else { return bytes }
        var chunked: [UInt8] = []
        chunked.reserveCapacity(length + length / chunkBytes * 8 + 16)
        for start in stride(from: 0, to: length, by: chunkBytes) {
            let end = min(start + chunkBytes, length)
            chunked += Array("\(String(end - start, radix: 16))\r\n".utf8)
            chunked += bytes[start..<end]
            chunked += [13, 10]
        }
        return chunked + Array("0\r\n\r\n".utf8)
    }
}

/// One request, as a client means it and as a server reads it.
struct WebRequest {
    var method = "GET"
    var file = 0
    /// Its single range.
    var first: Int?
    var last: Int?
    var ifRange: String?
    /// Milliseconds that the server thinks.
    var thinking = 0
    var bodyBytes = 0
    var closes = false

    static func draw(_ random: inout SimulationRandom) -> WebRequest {
        var request = WebRequest()
        request.file = random.number(0...WebSite.count - 1)
        request.method = random.pick(["GET", "GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "PUT", "POST"])
        if request.method == "GET", random.chance(1, in: 6) {
            request.first = random.number(0...2500)
            if random.chance(1, in: 2) { request.last = request.first.map { $0 + random.number(0...20_000) } }
        }
        if request.method == "PUT" || request.method == "POST" {
            request.bodyBytes = random.chance(1, in: 3) ? random.number(5_000...50_000) : random.number(0...900)
        }
        request.thinking = random.chance(1, in: 5) ? random.number(1...200) : 0
        return request
    }

    func bytes() -> [UInt8] {
        var lines = ["\(method) /\(file)?\(thinking) HTTP/1.1", "Host: a"]
        if let first { lines.append("Range: bytes=\(first)-\(last.map(String.init) ?? "")") }
        if bodyBytes > 0 || method == "PUT" || method == "POST" { lines.append("Content-Length: \(bodyBytes)") }
        if closes { lines.append("Connection: close") }
        return Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8) + Exchange.stream(UInt64(file), bodyBytes)
    }

    /// Reads the first request of a connection's bytes; nil while it is not whole. Returns how many bytes it has.
    static func parse(_ bytes: [UInt8]) -> (WebRequest, Int)? {
        guard let end = WebText.headEnd(bytes[...]) else { return nil }
        var request = WebRequest()
        let lines = String(decoding: bytes[..<(end - 4)], as: UTF8.self).split(separator: "\r\n")
        let words = lines.first?.split(separator: " ") ?? []
        guard words.count == 3 else { return (request, bytes.count) }
        request.method = String(words[0])
        let target = words[1].dropFirst().split(separator: "?")
        request.file = target.first.flatMap { Int($0) } ?? -1
        request.thinking = target.count > 1 ? Int(target[1]) ?? 0 : 0
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = line[line.index(colon, offsetBy: 2)...]
            switch line[..<colon] {
            case "Content-Length": request.bodyBytes = Int(value) ?? 0
            case "Connection": request.closes = value == "close"
            case "If-Range": request.ifRange = String(value)
            case "Range":
                let ends = value.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
                request.first = ends.first.flatMap { Int($0) }
                request.last = ends.count > 1 ? Int(ends[1]) : nil
            case _: break
            }
        }
        return bytes.count >= end + request.bodyBytes ? (request, end + request.bodyBytes) : nil
    }
}

enum WebText {
    /// Behind the empty line.
    static func headEnd(_ bytes: ArraySlice<UInt8>) -> Int? {
        var at = bytes.startIndex
        while at + 3 < bytes.endIndex {
            if bytes[at] == 13, bytes[at + 2] == 13, bytes[at + 1] == 10, bytes[at + 3] == 10 { return at + 4 }
            at += 1
        }
        return nil
    }
}

/// The client's side: reads its stream of replies, and knows whether one server, and which file, can have sent it.
struct WebReader {
    private let requests: [WebRequest]
    private(set) var completed = 0
    /// What one server would not have sent; nil while all is well.
    private(set) var fault: String?
    private var head: [UInt8] = []
    private var body: [UInt8] = []
    private var bodyAt = 0
    private var isInBody = false

    init(_ requests: [WebRequest]) { self.requests = requests }

    /// A part of a head is there, and no more.
    var isInsideHead: Bool { !isInBody && !head.isEmpty }
    var isInsideBody: Bool { isInBody }
    var hasAll: Bool { completed == requests.count }
    /// Of the reply that is being read, or comes next.
    var current: WebRequest? { completed < requests.count ? requests[completed] : nil }

    mutating func take(_ bytes: ArraySlice<UInt8>) {
        var rest = bytes
        while !rest.isEmpty, fault == nil {
            guard let request = current else {
                fault = "bytes behind the last reply"
                return
            }
            if isInBody { takeBody(&rest) } else { takeHead(&rest, request) }
        }
    }

    private mutating func takeHead(_ rest: inout ArraySlice<UInt8>, _ request: WebRequest) {
        let known = head.count
        head += rest.prefix(4096)
        guard let end = WebText.headEnd(head[...]) else {
            if head.count > 4096 { fault = "no end of a head" }
            rest = rest.dropFirst(head.count - known)
            return
        }
        rest = rest.dropFirst(end - known)
        head.removeLast(head.count - end)
        begin(request)
        head = []
        finishIfDone()
    }

    private mutating func begin(_ request: WebRequest) {
        let text = String(decoding: head, as: UTF8.self)
        // The last line: name, 16 digits, two line ends.
        let before = head.count - WebSite.sumBytes
        guard before > 0, text.hasSuffix("\r\nX-Sum: \(WebSite.sum(head[..<before]))\r\n\r\n") else {
            fault = "a head of two servers: \(text)"
            return
        }
        isInBody = true
        bodyAt = 0
        body = []
        let lines = text.split(separator: "\r\n")
        func value(_ name: String) -> Substring? {
            lines.first { $0.hasPrefix(name + ": ") }.map { $0.dropFirst(name.utf8.count + 2) }
        }
        let numbers = value("X-Body")?.split(separator: " ") ?? []
        guard numbers.count == 3, let digest = UInt64(numbers[0]), let length = Int(numbers[1]),
            let chunkBytes = Int(numbers[2])
        else {
            if !text.hasPrefix("HTTP/1.1 416") { fault = "another reply: \(text)" }
            return
        }
        let whole = WebSite.body(digest: digest, length: length, chunkBytes: chunkBytes)
        if text.hasPrefix("HTTP/1.1 206") {
            guard let first = request.first else {
                fault = "a 206 that nobody asked for"
                return
            }
            let range = first..<min(length, (request.last ?? .max - 1) + 1)
            let told = "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(length)"
            guard value("Content-Range").map(String.init) == told else {
                fault = "another range: \(text)"
                return
            }
            body = Array(whole[range])
        } else {
            guard request.first == nil || chunkBytes > 0 else {
                fault = "everything for a range"
                return
            }
            body = whole
        }
        if request.method == "HEAD" { body = [] }
    }

    private mutating func takeBody(_ rest: inout ArraySlice<UInt8>) {
        let count = min(rest.count, body.count - bodyAt)
        if rest.prefix(count) != body[bodyAt..<bodyAt + count] {
            fault = "a wrong byte behind \(bodyAt) of \(body.count) of reply \(completed)"
            return
        }
        bodyAt += count
        rest = rest.dropFirst(count)
        finishIfDone()
    }

    private mutating func finishIfDone() {
        guard isInBody, bodyAt == body.count else { return }
        isInBody = false
        completed += 1
    }
}
