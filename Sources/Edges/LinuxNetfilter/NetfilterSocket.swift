import Clibnftnl
import Glibc
import LinuxBase

/// A netlink socket to nf_tables. One thread at a time; `AgentTable` holds it under its lock.
final class NetfilterSocket {
    private let socket: OpaquePointer
    private var sequence: UInt32 = 0

    init() throws(LinuxError) {
        guard let socket = mnl_socket_open2(NETLINK_NETFILTER, Int32(SOCK_CLOEXEC.rawValue)) else {
            throw LinuxError.last("open nf_tables socket", "", remedy: NetfilterSocket.kernelRemedy(errno))
        }
        self.socket = socket
        // Both properties are set, so a throw from here on runs deinit.
        guard mnl_socket_bind(socket, 0, 0) == 0 else { throw LinuxError.last("bind nf_tables socket", "") }
        // A batch travels in one message. The time-out only keeps a fault from hanging the daemon.
        var bytes = Int32(NetfilterBatch.capacity * 2)
        var timeout = timeval(tv_sec: 2, tv_usec: 0)
        let descriptor = mnl_socket_get_fd(socket)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, 4)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit {
        mnl_socket_close(socket)
    }

    /// Sends the batch that the body fills: the kernel does all of it or nothing.
    func commit(
        _ operation: String,
        _ subject: String,
        _ build: (inout NetfilterBatch) throws(LinuxError) -> Void
    ) throws(LinuxError) {
        var batch = NetfilterBatch(firstSequence: sequence &+ 1, operation: operation, subject: subject)
        try build(&batch)
        let (first, last) = try batch.finish()
        sequence = last
        let sent = batch.withBytes { mnl_socket_sendto(socket, $0.baseAddress, $0.count) }
        guard sent >= 0 else { throw LinuxError.last(operation, subject, remedy: NetfilterSocket.kernelRemedy(errno)) }
        try collect(operation, subject, batch.descriptions, first: first, last: last)
    }

    /// Every message of a batch asks for an answer; the first error is the cause. The answer to the last message ends
    /// the batch, or an error for its first header, which stands for the whole.
    private func collect(
        _ operation: String,
        _ subject: String,
        _ descriptions: [String],
        first: UInt32,
        last: UInt32
    ) throws(LinuxError) {
        var cause: LinuxError?
        var done = false
        while !done {
            try receive(operation, subject) { header in
                let code = NetfilterSocket.errorCode(header)
                let number = header.pointee.nlmsg_seq
                guard number &- first <= last &- first else { return }
                if code != 0, cause == nil {
                    let place = Int(number &- first) - 1
                    let part = descriptions.indices.contains(place) ? "at: \(descriptions[place])" : ""
                    cause = LinuxError(
                        operation,
                        subject,
                        errno: code,
                        detail: part,
                        remedy: NetfilterSocket.kernelRemedy(code)
                    )
                }
                if number == last || number == first { done = true }
            }
        }
        if let cause { throw cause }
    }

    /// Sends one question and calls the body with each answer, until the kernel says that this was the last.
    func query(
        _ operation: String,
        _ subject: String,
        type: Int,
        flags: Int,
        family: Int,
        build: (UnsafeMutablePointer<nlmsghdr>) -> Void,
        body: (UnsafePointer<nlmsghdr>) -> Void
    ) throws(LinuxError) {
        sequence &+= 1
        let number = sequence
        let sent = withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 8) { buffer -> Int in
            guard let base = buffer.baseAddress,
                let header = nftnl_nlmsg_build_hdr(
                    base,
                    UInt16(type),
                    UInt16(family),
                    UInt16(flags | Int(NLM_F_ACK)),
                    number
                )
            else { return -1 }
            build(header)
            return mnl_socket_sendto(socket, base, Int(header.pointee.nlmsg_len))
        }
        guard sent >= 0 else { throw LinuxError.last(operation, subject) }
        var failure: Int32?
        while failure == nil {
            try receive(operation, subject) { header in
                guard header.pointee.nlmsg_seq == number else { return }
                switch Int(header.pointee.nlmsg_type) {
                case Int(NLMSG_ERROR): failure = NetfilterSocket.errorCode(header)
                case Int(NLMSG_DONE): failure = 0
                default: body(header)
                }
            }
        }
        if let failure, failure != 0 { throw LinuxError(operation, subject, errno: failure) }
    }

    private func receive(
        _ operation: String,
        _ subject: String,
        _ body: (UnsafePointer<nlmsghdr>) -> Void
    ) throws(LinuxError) {
        let failure = withUnsafeTemporaryAllocation(byteCount: 32 << 10, alignment: 8) { buffer -> Int32 in
            guard let base = buffer.baseAddress else { return ENOMEM }
            var count: Int
            repeat { count = mnl_socket_recvfrom(socket, base, buffer.count) } while count < 0 && errno == EINTR
            if count < 0 { return errno }
            var offset = 0
            while count - offset >= 16 {
                let header = (base + offset).assumingMemoryBound(to: nlmsghdr.self)
                let length = Int(header.pointee.nlmsg_len)
                guard length >= 16, length <= count - offset else { break }
                body(UnsafePointer(header))
                offset += (length + 3) & ~3
            }
            return 0
        }
        if failure != 0 { throw LinuxError(operation, subject, errno: failure) }
    }

    /// The positive error number of an NLMSG_ERROR; 0 for an acknowledgement.
    private static func errorCode(_ header: UnsafePointer<nlmsghdr>) -> Int32 {
        guard Int(header.pointee.nlmsg_type) == Int(NLMSG_ERROR), header.pointee.nlmsg_len >= 20 else { return 0 }
        return 0 &- UnsafeRawPointer(header).loadUnaligned(fromByteOffset: 16, as: Int32.self)
    }

    static func kernelRemedy(_ number: Int32) -> String {
        switch number {
        case EOPNOTSUPP, EPROTONOSUPPORT:
            "use a kernel with CONFIG_NF_TABLES_NETDEV, CONFIG_NETFILTER_INGRESS and CONFIG_NETFILTER_EGRESS"
        default: ""
        }
    }
}
