import CLinux

/// A netlink request in the making: header, the family's fixed part, attributes (netlink(7)). Host byte order.
struct NetlinkMessage {
    private(set) var bytes: [UInt8]

    init(type: Int, flags: Int) {
        bytes = []
        append(
            nlmsghdr(
                nlmsg_len: 0,
                nlmsg_type: UInt16(type),
                // Where a dump starts, the kernel leaves the acknowledgement out; its end is NLMSG_DONE.
                nlmsg_flags: UInt16(flags | Int(NLM_F_REQUEST | NLM_F_ACK)),
                nlmsg_seq: 0,
                nlmsg_pid: 0
            )
        )
    }

    /// Appends a fixed part as it lies in memory, padded to four bytes.
    mutating func append<Part: BitwiseCopyable>(_ part: Part) {
        withUnsafeBytes(of: part) { bytes.append(contentsOf: $0) }
        pad()
    }

    /// Appends bytes as they are, padded to four.
    mutating func append(raw payload: [UInt8]) {
        bytes += payload
        pad()
    }

    mutating func attribute(_ type: Int, _ payload: some Collection<UInt8>) {
        let length = UInt16(4 + payload.count)
        withUnsafeBytes(of: (length, UInt16(type))) { bytes.append(contentsOf: $0) }
        bytes.append(contentsOf: payload)
        pad()
    }

    mutating func attribute(_ type: Int, _ number: UInt32) {
        attribute(type, withUnsafeBytes(of: number) { Array($0) })
    }

    private mutating func pad() {
        while bytes.count % 4 != 0 { bytes.append(0) }
    }

    /// The finished message under a sequence number.
    func sealed(sequence: UInt32) -> [UInt8] {
        var sealed = bytes
        sealed.withUnsafeMutableBytes { buffer in
            // nlmsg_len at 0, nlmsg_seq at 8 (linux/netlink.h).
            buffer.storeBytes(of: UInt32(buffer.count), toByteOffset: 0, as: UInt32.self)
            buffer.storeBytes(of: sequence, toByteOffset: 8, as: UInt32.self)
        }
        return sealed
    }
}

/// One answer of the kernel: its type and what follows the netlink header.
struct NetlinkReply {
    var type: UInt16
    var payload: [UInt8]

    /// The fixed part; nil when the answer is shorter than that.
    func fixedPart<Part: BitwiseCopyable>(_: Part.Type) -> Part? {
        guard payload.count >= MemoryLayout<Part>.size else { return nil }
        return payload.withUnsafeBytes { $0.loadUnaligned(as: Part.self) }
    }

    /// Calls the body with each attribute (type without its flag bits) after a fixed part of the given size.
    func forEachAttribute(after fixedPartBytes: Int, _ body: (Int, ArraySlice<UInt8>) -> Void) {
        NetlinkReply.forEachAttribute(in: payload.dropFirst((fixedPartBytes + 3) & ~3), body)
    }

    static func forEachAttribute(in bytes: ArraySlice<UInt8>, _ body: (Int, ArraySlice<UInt8>) -> Void) {
        var rest = bytes
        while rest.count >= 4 {
            let (length, type) = rest.withUnsafeBytes {
                ($0.loadUnaligned(as: UInt16.self), $0.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
            }
            guard length >= 4, Int(length) <= rest.count else { return }
            // The top two bits say "nested" and "network byte order" (NLA_TYPE_MASK).
            body(Int(type & 0x3fff), rest.dropFirst(4).prefix(Int(length) - 4))
            rest = rest.dropFirst((Int(length) + 3) & ~3)
        }
    }
}

extension ArraySlice<UInt8> {
    /// The first four bytes as a number in host order; nil when there are fewer.
    var hostUInt32: UInt32? {
        count >= 4 ? withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) } : nil
    }

    /// Text up to the first zero byte.
    var text: String {
        String(decoding: prefix { $0 != 0 }, as: UTF8.self)
    }
}
