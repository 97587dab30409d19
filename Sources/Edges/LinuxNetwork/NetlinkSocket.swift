import CLinux
import Glibc
import LinuxBase
import Synchronization

/// A netlink socket of one family; any thread, one request at a time.
final class NetlinkSocket: Sendable {
    private let descriptor: FileDescriptor
    private let sequence = Mutex<UInt32>(0)

    init(protocol family: Int32) throws(LinuxError) {
        descriptor = FileDescriptor(owning: try systemCall("open netlink socket") { clinux_netlink(family) })
    }

    /// Sends a request and waits for its end: an acknowledgement, or the end of a dump. Returns the answers between.
    ///
    /// A dump that a change in the kernel interrupted is repeated.
    func request(
        _ message: NetlinkMessage,
        operation: @autoclosure () -> String,
        subject: @autoclosure () -> String
    ) throws(LinuxError) -> [NetlinkReply] {
        for _ in 0..<8 {
            let result: (replies: [NetlinkReply], interrupted: Bool) =
                try sequence.withLock { (sequence) throws(LinuxError) in
                    sequence &+= 1
                    let bytes = message.sealed(sequence: sequence)
                    _ = try systemCall(operation(), subject()) { send(descriptor.rawValue, bytes, bytes.count, 0) }
                    return try receive(sequence: sequence, operation: operation(), subject: subject())
                }
            if !result.interrupted { return result.replies }
        }
        throw LinuxError(operation(), subject(), errno: EAGAIN, detail: "the kernel's table kept changing")
    }

    private func receive(
        sequence: UInt32,
        operation: String,
        subject: String
    ) throws(LinuxError) -> (replies: [NetlinkReply], interrupted: Bool) {
        var replies: [NetlinkReply] = []
        var interrupted = false
        // The kernel makes dump parts of at most 32 KiB (netlink_dump).
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = try systemCall(operation, subject) { recv(descriptor.rawValue, &buffer, buffer.count, 0) }
            var rest = buffer[..<count]
            while rest.count >= 16 {
                let header = rest.withUnsafeBytes { $0.loadUnaligned(as: nlmsghdr.self) }
                let length = Int(header.nlmsg_len)
                guard length >= 16, length <= rest.count else { break }
                let payload = rest.dropFirst(16).prefix(length - 16)
                rest = rest.dropFirst(min((length + 3) & ~3, rest.count))
                // Left over from a request that failed half-way.
                guard header.nlmsg_seq == sequence else { continue }
                if header.nlmsg_flags & UInt16(NLM_F_DUMP_INTR) != 0 { interrupted = true }
                switch Int(header.nlmsg_type) {
                case Int(NLMSG_ERROR), Int(NLMSG_DONE):
                    try check(header, payload, operation, subject)
                    return (replies, interrupted)
                default:
                    replies.append(NetlinkReply(type: header.nlmsg_type, payload: Array(payload)))
                }
            }
        }
    }

    /// Both kinds of end begin with a negative error number, 0 for success; an error's request header follows it, then
    /// the attributes of the extended acknowledgement.
    private func check(
        _ header: nlmsghdr,
        _ payload: ArraySlice<UInt8>,
        _ operation: String,
        _ subject: String
    ) throws(LinuxError) {
        let code = payload.hostUInt32.map { Int32(bitPattern: $0) } ?? 0
        guard code != 0 else { return }
        var detail = ""
        if header.nlmsg_flags & UInt16(NLM_F_ACK_TLVS) != 0 {
            let attributesAt = Int(header.nlmsg_type) == Int(NLMSG_ERROR) ? 20 : 4
            NetlinkReply.forEachAttribute(in: payload.dropFirst(attributesAt)) { type, value in
                if type == Int(NLMSGERR_ATTR_MSG.rawValue) { detail = value.text }
            }
        }
        throw LinuxError(operation, subject, errno: 0 &- code, detail: detail)
    }
}
