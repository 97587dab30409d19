import Yams

/// Collects what the reading of one file finds: its faults, and the places of its values.
///
/// Confined to the call that reads the file.
final class Reader {
    let file: String
    private(set) var diagnostics: [Diagnostic] = []
    /// Where each value of the file that could be read stands, by its path.
    private(set) var places: [String: Position] = [:]
    /// Every key that was asked for, in order, without the places in lists: `backends[].name`.
    private(set) var knownKeys: [String] = []
    private let renamedKeys: [Position: String]

    init(file: String, renamedKeys: [Position: String]) {
        self.file = file
        self.renamedKeys = renamedKeys
    }

    func report(
        _ key: String,
        at position: Position?,
        _ problem: String,
        expected: String? = nil,
        remedy: String? = nil
    ) {
        diagnostics.append(
            Diagnostic(file: file, position: position, key: key, problem: problem, expected: expected, remedy: remedy)
        )
    }

    /// Reports a fault of a value that was read before.
    func report(_ key: String, _ problem: String, expected: String? = nil, remedy: String? = nil) {
        report(key, at: places[key], problem, expected: expected, remedy: remedy)
    }

    func place(_ key: String, at position: Position) {
        places[key] = position
    }

    func know(_ key: String) {
        let generic = Reader.withoutIndices(key)
        if !knownKeys.contains(generic) { knownKeys.append(generic) }
    }

    /// `backends[3].name` as `backends[].name`.
    static func withoutIndices(_ key: String) -> String {
        var result = ""
        var isInside = false
        for character in key {
            if character == "]" { isInside = false }
            if !isInside { result.append(character) }
            if character == "[" { isInside = true }
        }
        return result
    }

    /// The key that a node is, as it stood in the file; nil when it is no text.
    func keyText(_ node: Node) -> String? {
        guard case .scalar(let scalar) = node else { return nil }
        return renamedKeys[position(of: node)] ?? scalar.string
    }

    func position(of node: Node) -> Position {
        guard let mark = node.mark else { return Position(line: 1, column: 1) }
        return Position(line: mark.line, column: mark.column)
    }

    /// The value, or all faults of the file in the order of their places.
    func finish<Value>(_ value: Value) throws(ConfigurationError) -> Value {
        if diagnostics.isEmpty { return value }
        let ordered = diagnostics.enumerated().sorted { left, right in
            let places = (left.element.position, right.element.position)
            guard let first = places.0, let second = places.1, first != second else {
                return left.offset < right.offset
            }
            return first < second
        }
        throw ConfigurationError(ordered.map(\.element))
    }
}

extension Reader {
    /// Reports every value that stood in the file before, at its later place, naming the first.
    ///
    /// Values without a place (defaults, and placeholders of what could not be read) are passed over.
    func requireDistinct<Value: Hashable & CustomStringConvertible>(
        _ entries: [(key: String, value: Value)],
        expected: String
    ) {
        let placed = entries.compactMap { entry in places[entry.key].map { (entry.key, entry.value, $0) } }
        var first: [Value: (key: String, position: Position)] = [:]
        for (key, value, position) in placed.sorted(by: { $0.2 < $1.2 }) {
            if let earlier = first[value] {
                report(
                    key,
                    at: position,
                    "\(quoted(value.description)) is already \(earlier.key) (line \(earlier.position.line))",
                    expected: expected
                )
            } else {
                first[value] = (key, position)
            }
        }
    }
}
