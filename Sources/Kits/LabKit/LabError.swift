/// Why the laboratory could not do what it was asked; the text names the place, the cause and the remedy.
public enum LabError: Error, Sendable, CustomStringConvertible {
    /// Something that the machine lacks (root, a program, a kernel feature).
    case missing(String, remedy: String)
    /// A name, option or node that is not valid.
    case invalid(String)
    /// The lab is up already, or is not up.
    case state(String)
    /// A system call failed.
    case system(String, code: Int32)
    /// A program ended otherwise than with status 0.
    case command([String], status: String, output: String)
    /// A condition did not come true in time.
    case timeout(String, seconds: Double)
    /// A signal asked for the end.
    case interrupted
    /// A scenario or a check found something that must not be.
    case failed(String)

    public var description: String {
        switch self {
        case .missing(let what, let remedy): "\(what); \(remedy)"
        case .invalid(let text), .state(let text), .failed(let text): text
        case .system(let place, let code): "\(place): \(errorText(code))"
        case .command(let arguments, let status, let output):
            "`\(arguments.joined(separator: " "))` ended with \(status)" + (output.isEmpty ? "" : ": \(output)")
        case .timeout(let what, let seconds): "\(what): not within \(rounded(seconds, 1)) s"
        case .interrupted: "interrupted"
        }
    }
}
