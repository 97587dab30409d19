/// A place in a text: line and column, both from 1; columns count Unicode scalars.
public struct Position: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var line: Int
    public var column: Int

    public init(line: Int, column: Int) {
        self.line = line
        self.column = column
    }

    public static func < (left: Position, right: Position) -> Bool {
        (left.line, left.column) < (right.line, right.column)
    }

    public var description: String { "\(line):\(column)" }
}

/// One fault of a configuration file: where it is, what was found, what was expected, what to do.
public struct Diagnostic: Hashable, Sendable {
    /// The path of the file, as it was given.
    public var file: String
    /// The place of the value (of the key, when the key itself is wrong); nil when the file could not be read.
    public var position: Position?
    /// The path of the key, such as `backends[1].address` (places in lists count from 0); empty when it is none's.
    public var key: String
    /// What was found.
    public var problem: String
    /// What was expected, without the word "expected"; nil where the problem says it all.
    public var expected: String?
    /// What to do about it, where that does not follow from what was expected.
    public var remedy: String?

    public init(
        file: String,
        position: Position? = nil,
        key: String = "",
        problem: String,
        expected: String? = nil,
        remedy: String? = nil
    ) {
        self.file = file
        self.position = position
        self.key = key
        self.problem = problem
        self.expected = expected
        self.remedy = remedy
    }
}

extension Diagnostic: CustomStringConvertible {
    /// One line: `file:line:column: key: problem; expected ...; remedy`.
    public var description: String {
        var text = file
        if let position { text += ":\(position)" }
        text += ": "
        if !key.isEmpty { text += "\(key): " }
        text += problem
        if let expected { text += "; expected \(expected)" }
        if let remedy { text += "; \(remedy)" }
        return text
    }
}

/// A configuration file that cannot be used: all its faults, in the order of their places.
///
/// A program prints `description` to standard error, changes nothing, and exits with `exitStatus`.
public struct ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
    /// EX_CONFIG of sysexits.h.
    public static let exitStatus: Int32 = 78

    /// Never empty.
    public var diagnostics: [Diagnostic]

    public init(_ diagnostics: [Diagnostic]) {
        precondition(!diagnostics.isEmpty, "an error without a fault")
        self.diagnostics = diagnostics
    }

    /// One fault a line, without a newline at the end.
    public var description: String {
        diagnostics.map(\.description).joined(separator: "\n")
    }
}
