import Model
import NIOCore
import NIOPosix

/// `ping`: an ICMP or ICMPv6 echo request is answered. By a raw socket, which needs CAP_NET_RAW.
public struct PingCheck: HealthCheck {
    public init() {}

    public func begin(_ run: CheckRun) {
        let address = run.target.endpoint.address
        let echo = ICMPEcho(
            isIPv4: address.isIPv4, identifier: .random(in: 0 ... .max), sequence: .random(in: 0 ... .max))
        guard let remote = try? SocketAddress(ipAddress: "\(address)", port: 0) else {
            return run.fail("\(address) is no address")
        }
        NIORawSocketBootstrap(group: run.loop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let reader = DatagramReader(run) { bytes in if echo.isAnswered(by: bytes) { run.pass() } }
                    try channel.pipeline.syncOperations.addHandler(reader)
                }
            }
            .connect(host: "\(address)", ipProtocol: address.isIPv4 ? .icmp : .ipv6Icmp)
            .whenComplete { result in
                switch result {
                case .success(let channel):
                    run.whenOver { channel.close(promise: nil) }
                    let request = channel.allocator.buffer(bytes: echo.request())
                    channel.writeAndFlush(AddressedEnvelope(remoteAddress: remote, data: request), promise: nil)
                case .failure(let error): run.fail(oneLine("\(error)"))
                }
            }
    }
}

/// One echo request and its answer (RFC 792; RFC 4443 4).
struct ICMPEcho: Hashable, Sendable {
    var isIPv4: Bool
    var identifier: UInt16
    var sequence: UInt16

    private static let text = Array("baton health check".utf8)

    /// The ICMPv6 checksum is the kernel's work (RFC 3542 3.1).
    func request() -> [UInt8] {
        var bytes = [isIPv4 ? 8 : 128, 0, 0, 0] + fields + Self.text
        guard isIPv4 else { return bytes }
        let sum = Self.checksum(bytes)
        bytes[2] = UInt8(sum >> 8)
        bytes[3] = UInt8(sum & 0xff)
        return bytes
    }

    /// - Parameter datagram: as a raw socket gives it, for IPv4 with its IP header.
    func isAnswered(by datagram: [UInt8]) -> Bool {
        var message = datagram[...]
        if isIPv4 {
            guard let first = datagram.first, first >> 4 == 4, datagram.count >= Int(first & 15) * 4 else { return false }
            message = datagram[(Int(first & 15) * 4)...]
        }
        guard message.count >= 8, message.first == (isIPv4 ? 0 : 129) else { return false }
        return message.dropFirst(4).prefix(4).elementsEqual(fields)
    }

    private var fields: [UInt8] {
        [identifier, sequence].flatMap { [UInt8($0 >> 8), UInt8($0 & 0xff)] }
    }

    /// RFC 1071.
    static func checksum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for (index, byte) in bytes.enumerated() { sum += index % 2 == 0 ? UInt32(byte) << 8 : UInt32(byte) }
        while sum > 0xffff { sum = sum >> 16 + sum & 0xffff }
        return ~UInt16(truncatingIfNeeded: sum)
    }
}
