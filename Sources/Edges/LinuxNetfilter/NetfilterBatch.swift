import Clibnftnl
import Glibc
import LinuxBase

/// The messages of one transaction, between NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END.
struct NetfilterBatch {
    /// Bytes of a batch. Two sets of 1,024 groups take about 60 KiB.
    static let capacity = 256 << 10
    /// libnftnl writes a message without knowing where the buffer ends: so much is kept free for each.
    private static let largestMessage = 64 << 10

    private var bytes: [UInt8] = []
    private let first: UInt32
    private var next: UInt32
    private let operation: String
    private let subject: String
    /// What each message does, in order, for errors.
    private(set) var descriptions: [String] = []

    init(firstSequence: UInt32, operation: String, subject: String) {
        first = firstSequence
        next = firstSequence
        self.operation = operation
        self.subject = subject
        bytes.reserveCapacity(16 << 10)
        appendMessage { buffer, sequence in nftnl_batch_begin(buffer, sequence) }
    }

    /// Appends one nf_tables message; the body writes what follows the header.
    mutating func add(
        _ description: String,
        type: nf_tables_msg_types,
        flags: Int = 0,
        body: (UnsafeMutablePointer<nlmsghdr>) -> Void
    ) throws(LinuxError) {
        guard bytes.count + NetfilterBatch.largestMessage < NetfilterBatch.capacity else {
            throw LinuxError(operation, subject, errno: EMSGSIZE, detail: "more than one batch holds")
        }
        descriptions.append(description)
        appendMessage { buffer, sequence in
            let header = nftnl_nlmsg_build_hdr(
                buffer,
                UInt16(type.rawValue),
                UInt16(NFPROTO_NETDEV),
                UInt16(flags | Int(NLM_F_ACK)),
                sequence
            )
            header.map(body)
            return header
        }
    }

    /// Ends the batch; gives the sequence numbers of its opening and of its last message that is answered.
    mutating func finish() throws(LinuxError) -> (first: UInt32, last: UInt32) {
        guard !descriptions.isEmpty else { throw LinuxError(operation, subject, errno: EINVAL, detail: "empty batch") }
        let last = next &- 1
        appendMessage { buffer, sequence in nftnl_batch_end(buffer, sequence) }
        return (first, last)
    }

    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        bytes.withUnsafeBytes(body)
    }

    private mutating func appendMessage(
        _ build: (UnsafeMutablePointer<CChar>, UInt32) -> UnsafeMutablePointer<nlmsghdr>?
    ) {
        let sequence = next
        next &+= 1
        withUnsafeTemporaryAllocation(byteCount: NetfilterBatch.largestMessage, alignment: 8) { buffer in
            guard let base = buffer.baseAddress else { return }
            // nlmsg_len comes first.
            base.storeBytes(of: 0, as: UInt32.self)
            guard build(base.assumingMemoryBound(to: CChar.self), sequence) != nil else { return }
            let length = Int(base.load(as: UInt32.self))
            bytes.append(contentsOf: UnsafeRawBufferPointer(rebasing: buffer[..<length]))
            while bytes.count % 4 != 0 { bytes.append(0) }
        }
    }
}
