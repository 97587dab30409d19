import Clibbpf
import Glibc
import Synchronization

/// A step with the kernel's eBPF that failed: what, on what, why, and what to do about it.
public struct BPFError: Error, CustomStringConvertible, Sendable {
    /// What was tried, as in "load" or "attach XDP to".
    public let operation: String
    /// The program, map, path or interface that it was tried on.
    public let subject: String
    /// The errno of the kernel or of libbpf; 0 where Baton itself refused.
    public let code: Int32
    /// Why, where errno does not say it all.
    public let cause: String?
    /// What libbpf and the verifier had to say: their last lines.
    public let log: String?
    /// What the operator can do.
    public let remedy: String?

    public init(
        operation: String, subject: String, code: Int32, cause: String? = nil, log: String? = nil, remedy: String? = nil
    ) {
        self.operation = operation
        self.subject = subject
        self.code = code
        self.cause = cause
        self.log = log
        self.remedy = remedy ?? BPFError.usualRemedy(for: code)
    }

    public var description: String {
        var text = "cannot \(operation) \(subject)"
        if let cause { text += ": \(cause)" }
        if code != 0 { text += ": \(String(cString: strerror(code)))" }
        if let remedy { text += " (\(remedy))" }
        if let log, !log.isEmpty { text += "\n" + log }
        return text
    }

    private static func usualRemedy(for code: Int32) -> String? {
        switch code {
        case EPERM, EACCES: "run it as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
        case ENOMEM: "make the table smaller, or give the machine more memory"
        case ENODEV: "check the interface's name"
        default: nil
        }
    }

    /// The error of the call that has just failed: errno, and what libbpf said since `LibbpfLog.clear()`.
    static func latest(
        _ operation: String, _ subject: String, code: Int32 = errno, cause: String? = nil, verifierLog: String? = nil,
        remedy: String? = nil
    ) -> BPFError {
        let said = [LibbpfLog.text, verifierLog ?? ""].filter { !$0.isEmpty }.joined(separator: "\n")
        return BPFError(operation: operation, subject: subject, code: code, cause: cause, log: said, remedy: remedy)
    }
}

/// What libbpf would print on standard error, kept for the next error instead.
///
/// libbpf has one callback for the whole process, so that two threads that fail at once may find each other's lines.
enum LibbpfLog {
    private static let lines = Mutex<[String]>([])
    private static let limit = 12

    private static let installed: Void = {
        libbpf_set_print(receiveLibbpfMessage)
    }()

    /// To be called before each step whose failure is reported with the log.
    static func clear() {
        _ = installed
        lines.withLock { $0.removeAll() }
    }

    static var text: String {
        lines.withLock { $0.joined(separator: "\n") }
    }

    static func add(_ line: String) {
        lines.withLock { lines in
            if lines.count == limit { lines.removeFirst() }
            lines.append(line)
        }
    }
}

/// A free function: a closure formed in an isolated place would carry that isolation into libbpf.
private func receiveLibbpfMessage(
    _ level: libbpf_print_level, _ format: UnsafePointer<CChar>?, _ arguments: CVaListPointer?
) -> Int32 {
    guard level == LIBBPF_WARN, let format, let arguments else { return 0 }
    var text = [CChar](repeating: 0, count: 1024)
    let length = vsnprintf(&text, text.count, format, arguments)
    let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    let line = String(decoding: bytes, as: UTF8.self)
    // The verifier's log comes through here too, but whole: its end is taken from the log buffer.
    if !line.contains("-- BEGIN PROG LOAD LOG --") {
        LibbpfLog.add(line.last == "\n" ? String(line.dropLast()) : line)
    }
    return length
}
