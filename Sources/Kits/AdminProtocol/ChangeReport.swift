/// What became of a change of the running configuration: the answer to `reload`, `restore` and `edit`.
public struct ChangeReport: Codable, Equatable, Sendable {
    /// All of the changes are in force; false: none of them is.
    public var applied: Bool
    /// Nothing was to be applied.
    public var dryRun: Bool
    /// One line each: `+ service ...`, `~ service web: policy rr -> wlc`, `- server ...`.
    public var changes: [String]
    /// What cannot be done without a restart, a sentence each; then nothing is applied.
    public var obstacles: [String]
    /// Why nothing was applied; nil when nothing went wrong.
    public var failure: String?
    /// A step of applying failed, and the steps before it were undone.
    public var undone: Bool

    public init(
        applied: Bool = false, dryRun: Bool = false, changes: [String] = [], obstacles: [String] = [],
        failure: String? = nil, undone: Bool = false
    ) {
        self.applied = applied
        self.dryRun = dryRun
        self.changes = changes
        self.obstacles = obstacles
        self.failure = failure
        self.undone = undone
    }

    /// Whether what was asked for has come about.
    public var isSuccess: Bool { failure == nil && (dryRun ? obstacles.isEmpty : applied || changes.isEmpty) }

    /// For people, a line each.
    public var lines: [String] {
        var lines = changes.isEmpty && failure == nil ? ["nothing changes"] : changes
        lines += obstacles
        if let failure {
            lines.append(failure)
            lines.append(undone ? "undone: the configuration before is in force" : "nothing was changed")
        } else if !obstacles.isEmpty {
            lines.append(dryRun ? "this would be refused" : "nothing was changed")
        } else if !changes.isEmpty {
            lines.append(dryRun ? "this would be applied" : "applied")
        }
        return lines
    }
}

/// The answer to `save`.
public struct SavedConfiguration: Codable, Equatable, Sendable {
    /// YAML that reads as the running configuration.
    public var text: String
    /// Whether the file says something else (before it was written).
    public var differs: Bool
    /// The file that was written; nil: none.
    public var path: String?
    /// Where its former content is.
    public var backup: String?

    public init(text: String, differs: Bool, path: String? = nil, backup: String? = nil) {
        self.text = text
        self.differs = differs
        self.path = path
        self.backup = backup
    }
}
