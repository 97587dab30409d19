/// What one check of `batonctl doctor` found.
public struct Finding: Codable, Hashable, Sendable {
    public enum Result: String, Codable, Sendable {
        case ok
        /// It may work all the same, or could not be told.
        case warning
        /// A take-over would fail here, or the daemon would not run.
        case fatal
    }

    /// The check's name, such as `mptcp`.
    public var check: String
    public var result: Result
    /// A sentence without its full stop.
    public var text: String
    /// What to do about it; nil when nothing needs doing.
    public var remedy: String?

    public init(_ check: String, _ result: Result, _ text: String, remedy: String? = nil) {
        self.check = check
        self.result = result
        self.text = text
        self.remedy = remedy
    }

    static func ok(_ check: String, _ text: String) -> [Finding] { [Finding(check, .ok, text)] }
}

/// All that was found on one side of a cluster.
public struct Diagnosis: Codable, Sendable {
    /// `director` or `agent`.
    public var side: String
    public var findings: [Finding]

    public init(side: String, findings: [Finding]) {
        self.side = side
        self.findings = findings
    }

    public var worst: Finding.Result {
        if findings.contains(where: { $0.result == .fatal }) { return .fatal }
        return findings.contains { $0.result == .warning } ? .warning : .ok
    }
}

/// One check: looks at one thing and changes nothing.
struct Check {
    var name: String
    var run: () throws -> [Finding]

    init(_ name: String, _ run: @escaping () throws -> [Finding]) {
        self.name = name
        self.run = run
    }

    /// A check that fails itself is a warning: what it looks for is not known.
    func findings() -> [Finding] {
        do {
            return try run()
        } catch {
            return [Finding(name, .warning, "this could not be checked: \(error)", remedy: "run it as root")]
        }
    }
}
