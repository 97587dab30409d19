import CLinux
import Glibc

/// What the kernel refused: the operation tried, on what, the error number, and what a person can do about it.
public struct LinuxError: Error, Hashable, Sendable {
    /// The operation as a verb phrase: `create TUN device`.
    public var operation: String
    /// What it was tried on: an interface, an address, a file; may be empty.
    public var subject: String
    /// The error number (errno.h).
    public var errno: Int32
    /// What the kernel or the library said in words (netlink extended acknowledgement, libpcap's buffer); may be empty.
    public var detail: String
    /// What a person can do; may be empty.
    public var remedy: String

    public init(_ operation: String, _ subject: String, errno: Int32, detail: String = "", remedy: String = "") {
        self.operation = operation
        self.subject = subject
        self.errno = errno
        self.detail = detail
        self.remedy = remedy.isEmpty ? LinuxError.usualRemedy(errno) : remedy
    }

    /// The error of the system call that has just failed on this thread.
    public static func last(_ operation: String, _ subject: String, remedy: String = "") -> LinuxError {
        LinuxError(operation, subject, errno: Glibc.errno, remedy: remedy)
    }

    private static func usualRemedy(_ number: Int32) -> String {
        switch number {
        case EPERM, EACCES: "run it as root (it needs CAP_NET_ADMIN and CAP_NET_RAW)"
        default: ""
        }
    }
}

extension LinuxError: CustomStringConvertible {
    /// One sentence: `cannot create TUN device baton0: Device or resource busy (EBUSY); <remedy>`.
    public var description: String {
        let what = subject.isEmpty ? operation : "\(operation) \(subject)"
        var sentence = "cannot \(what): \(LinuxError.text(errno))"
        if !detail.isEmpty { sentence += ": \(detail)" }
        if !remedy.isEmpty { sentence += "; \(remedy)" }
        return sentence
    }

    /// The kernel's words and the symbol of an error number: `Operation not permitted (EPERM)`.
    public static func text(_ number: Int32) -> String {
        guard let words = clinux_error_text(number), let name = clinux_error_name(number) else {
            return "error \(number)"
        }
        return "\(String(cString: words)) (\(String(cString: name)))"
    }
}

/// Something of the kernel that Baton cannot do without is absent or switched off; says how to get it.
public struct FeatureMissing: Error, CustomStringConvertible, Sendable {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// Runs a system call until a signal no longer interrupts it; throws its error.
@inlinable
package func systemCall<Result: SignedInteger>(
    _ operation: @autoclosure () -> String,
    _ subject: @autoclosure () -> String = "",
    remedy: @autoclosure () -> String = "",
    _ body: () -> Result
) throws(LinuxError) -> Result {
    while true {
        let result = body()
        if result >= 0 { return result }
        if errno != EINTR { throw LinuxError.last(operation(), subject(), remedy: remedy()) }
    }
}
