import Configuration
import Model
import NIOCore

/// What an `http` check asks, and what it reads of the answer.
enum HTTPCheck {
    /// An answer whose status line has not come within so many bytes, interim replies included, has none.
    static let longestAnswer = 16_384

    /// The request (RFC 9112 3).
    static func request(_ endpoint: Endpoint, _ check: AgentConfiguration.Check) -> [UInt8] {
        // The usual port is left out (RFC 9110 7.2).
        let usual = endpoint.address.isIPv4 ? "\(endpoint.address)" : "[\(endpoint.address)]"
        let host = check.host ?? (endpoint.port == 80 ? usual : "\(usual):\(endpoint.port)")
        let lines = [
            "GET \(check.path) HTTP/1.1", "Host: \(host)", "User-Agent: baton-agent", "Accept: */*",
            "Connection: close", "", "",
        ]
        return Array(lines.joined(separator: "\r\n").utf8)
    }

    enum Answer: Equatable {
        case more
        case status(Int)
        case malformed
    }

    /// What the bytes that have come so far say; interim replies (RFC 9110 15.2) are passed over.
    static func read(_ bytes: [UInt8]) -> Answer {
        var rest = bytes[...]
        while true {
            guard let end = rest.firstIndex(of: 10) else {
                let isPlausible = zip(rest, "HTTP/1.".utf8).allSatisfy { $0 == $1 }
                return isPlausible && bytes.count < longestAnswer ? .more : .malformed
            }
            guard let code = status(rest[..<end]) else { return .malformed }
            guard (100...199).contains(code), code != 101 else { return .status(code) }
            guard let next = headEnd(rest) else { return bytes.count < longestAnswer ? .more : .malformed }
            rest = rest[next...]
        }
    }

    /// `HTTP/1.1 200 OK` (RFC 9112 4), without its line feed.
    private static func status(_ line: ArraySlice<UInt8>) -> Int? {
        let bytes = Array(line.last == 13 ? line.dropLast() : line)
        guard bytes.count >= 12, bytes.starts(with: "HTTP/1.".utf8), isDigit(bytes[7]), bytes[8] == 32,
            bytes[9...11].allSatisfy(isDigit), bytes.count == 12 || bytes[12] == 32
        else { return nil }
        return bytes[9...11].reduce(0) { $0 * 10 + Int($1 - 48) }
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (48...57).contains(byte) }

    /// Where the empty line of a head ends.
    private static func headEnd(_ bytes: ArraySlice<UInt8>) -> Int? {
        var lineStart = bytes.startIndex
        for index in bytes.indices where bytes[index] == 10 {
            let line = bytes[lineStart..<index]
            if line.isEmpty || line.elementsEqual([13]) { return index + 1 }
            lineStart = index + 1
        }
        return nil
    }
}

/// Waits for the status line of one answer.
final class StatusReader: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let status: EventLoopPromise<Int>
    private var bytes: [UInt8] = []

    init(_ status: EventLoopPromise<Int>) {
        self.status = status
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard bytes.count < HTTPCheck.longestAnswer else { return }
        bytes += Array(unwrapInboundIn(data).readableBytesView)
        switch HTTPCheck.read(bytes) {
        case .more: break
        case .status(let code): status.succeed(code)
        case .malformed: status.fail(CheckFailure.notHTTP)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        status.fail(CheckFailure.closed)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        status.fail(CheckFailure.connection("\(error)"))
        context.close(promise: nil)
    }
}
