import Yams

/// One mapping of the file: gives its values by key, and reports the keys that nobody asked for.
///
/// A section that is absent gives every default; one that is not a mapping was reported once and then does the same.
/// After a fault the reading goes on with the default or a placeholder, so that one run finds all faults; what comes
/// of it never leaves `ConfigurationFile.read`.
final class Section {
    let path: String
    let reader: Reader
    private var pairs: [(key: String, keyPosition: Position, value: Node)] = []
    private let position: Position
    private let isPresent: Bool
    private var asked: [String] = []

    init(_ node: Node?, path: String, keys: String? = nil, reader: Reader) {
        self.path = path
        self.reader = reader
        guard let node else {
            position = Position(line: 1, column: 1)
            isPresent = false
            return
        }
        position = reader.position(of: node)
        guard case .mapping(let mapping) = node else {
            isPresent = false
            reader.report(
                path,
                at: position,
                "\(Section.describe(node)) is not a mapping",
                expected: keys.map { "a mapping with the keys \($0)" } ?? "keys and values, one pair a line"
            )
            return
        }
        isPresent = true
        for (key, value) in mapping { take(key, value) }
    }

    private func take(_ key: Node, _ value: Node) {
        let place = reader.position(of: key)
        guard let text = reader.keyText(key) else {
            reader.report(path, at: place, "\(Section.describe(key)) stands where a key should be", expected: "a name")
            return
        }
        if let earlier = pairs.first(where: { $0.key == text }) {
            reader.report(
                child(text),
                at: place,
                "the key stands here again (first on line \(earlier.keyPosition.line))",
                expected: "each key once"
            )
            return
        }
        pairs.append((text, place, value))
    }

    func child(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    // MARK: Values

    /// The value of a key that must be there; nil after a fault was reported.
    func required<Value>(_ key: String, _ kind: ValueKind<Value>) -> Value? {
        guard let node = node(key) else {
            if isPresent {
                reader.report(child(key), at: position, "the key is missing", expected: kind.expected)
            }
            return nil
        }
        return read(node, child(key), kind)
    }

    /// The value of a key that may be left out; nil when it is, or after a fault was reported.
    func optional<Value>(_ key: String, _ kind: ValueKind<Value>) -> Value? {
        node(key).flatMap { read($0, child(key), kind) }
    }

    /// The value of a key that has a default.
    func value<Value>(_ key: String, _ kind: ValueKind<Value>, default: Value) -> Value {
        optional(key, kind) ?? `default`
    }

    /// The mapping below a key; when it is absent the body is run all the same, and gets every default.
    func section<Value>(_ key: String, keys: String, _ body: (Section) -> Value) -> Value {
        let node = node(key)
        let section = Section(node, path: child(key), keys: keys, reader: reader)
        if let node, section.isPresent { reader.place(child(key), at: reader.position(of: node)) }
        let value = body(section)
        section.reportUnknownKeys()
        return value
    }

    /// Whether a key stands there; it is known from now on.
    func has(_ key: String) -> Bool {
        node(key) != nil
    }

    /// Whether a mapping stands below a key.
    func isMapping(_ key: String) -> Bool {
        pairs.contains { $0.key == key && $0.value.mapping != nil }
    }

    /// Whether a key stands there; that alone does not make it known.
    func stands(_ key: String) -> Bool {
        pairs.contains { $0.key == key }
    }

    /// Whether a list stands below a key.
    func isList(_ key: String) -> Bool {
        pairs.contains { $0.key == key && $0.value.sequence != nil }
    }

    /// Takes all keys for known: what they mean depends on one that is wrong itself.
    func ignoreOthers() {
        asked = pairs.map(\.key)
    }

    /// The mapping below a key that may be absent; nil where it is.
    func optionalSection<Value>(_ key: String, keys: String, _ body: (Section) -> Value) -> Value? {
        guard pairs.contains(where: { $0.key == key }) else {
            _ = node(key)
            return nil
        }
        return section(key, keys: keys, body)
    }

    /// The list of scalars below a key.
    func words<Value>(_ key: String, limit: Int, first: ValueKind<Value>, others: ValueKind<Value>) -> [Value] {
        let path = child(key)
        let expected = "a list of 1 to \(limit) words, the first \(first.expected)"
        guard let node = node(key) else {
            if isPresent { reader.report(path, at: position, "the key is missing", expected: expected) }
            return []
        }
        guard case .sequence(let sequence) = node else {
            let problem = "\(Section.describe(node)) is not a list"
            reader.report(path, at: reader.position(of: node), problem, expected: expected)
            return []
        }
        guard (1...limit).contains(sequence.count) else {
            let problem = sequence.isEmpty ? "the list is empty" : "the list has \(sequence.count) entries"
            reader.report(path, at: reader.position(of: node), problem, expected: expected)
            return []
        }
        reader.place(path, at: reader.position(of: node))
        return sequence.enumerated().compactMap { index, node in
            read(node, "\(path)[\(index)]", index == 0 ? first : others)
        }
    }

    /// The list of mappings below a key.
    func list<Element>(
        _ key: String,
        isRequired: Bool,
        limit: Int,
        keys: String,
        _ body: (Section) -> Element
    ) -> [Element] {
        let path = child(key)
        let expected = "a list of 1 to \(limit) entries with the keys \(keys)"
        guard let node = node(key) else {
            if isRequired, isPresent { reader.report(path, at: position, "the key is missing", expected: expected) }
            return []
        }
        guard case .sequence(let sequence) = node else {
            let remedy = node.mapping == nil ? nil : "begin each entry with '- '"
            let problem = "\(Section.describe(node)) is not a list"
            reader.report(path, at: reader.position(of: node), problem, expected: expected, remedy: remedy)
            return []
        }
        guard (1...limit).contains(sequence.count) else {
            let problem = sequence.isEmpty ? "the list is empty" : "the list has \(sequence.count) entries"
            reader.report(path, at: reader.position(of: node), problem, expected: expected)
            return []
        }
        reader.place(path, at: reader.position(of: node))
        return sequence.enumerated().map { index, node in
            let section = Section(node, path: "\(path)[\(index)]", keys: keys, reader: reader)
            let element = body(section)
            section.reportUnknownKeys()
            return element
        }
    }

    /// Ends the reading: what was in the file and never asked for is unknown.
    func reportUnknownKeys() {
        for (key, place, _) in pairs where !asked.contains(key) {
            reader.report(
                child(Section.shownKey(key)),
                at: place,
                "unknown key",
                expected: asked.count == 1 ? asked[0] : "one of \(asked.joined(separator: ", "))",
                remedy: suggestion(for: key, among: asked)
            )
        }
    }
}

// MARK: Nodes

extension Section {
    private func node(_ key: String) -> Node? {
        if !asked.contains(key) { asked.append(key) }
        reader.know(child(key))
        guard let pair = pairs.first(where: { $0.key == key }) else { return nil }
        return pair.value
    }

    private func read<Value>(_ node: Node, _ path: String, _ kind: ValueKind<Value>) -> Value? {
        let position = reader.position(of: node)
        guard case .scalar(let scalar) = node else {
            // An IPv6 address in brackets is a list to YAML.
            let remedy = node.sequence != nil && kind.expected.contains("address") ? "put it in quotes" : nil
            reader.report(
                path,
                at: position,
                "found \(Section.describe(node))",
                expected: kind.expected,
                remedy: remedy
            )
            return nil
        }
        let isPlain = scalar.style == .plain
        if isPlain, ["", "~", "null", "Null", "NULL"].contains(scalar.string) {
            let problem = scalar.string.isEmpty ? "the key has no value" : "\(scalar.string) is no value"
            reader.report(path, at: position, problem, expected: kind.expected)
            return nil
        }
        if isPlain, !scalar.tag.description.isEmpty {
            reader.report(path, at: position, "found a YAML tag", expected: kind.expected, remedy: "remove the tag")
            return nil
        }
        switch kind.read(ScalarText(text: scalar.string, isPlain: isPlain)) {
        case .value(let value):
            reader.place(path, at: position)
            return value
        case .fault(let problem, let remedy):
            reader.report(path, at: position, problem, expected: kind.expected, remedy: remedy)
            return nil
        }
    }

    /// What a node is, for a message.
    private static func describe(_ node: Node) -> String {
        switch node {
        case .scalar(let scalar):
            scalar.string.isEmpty ? "nothing" : quoted(scalar.string)
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .alias: "an alias"
        }
    }

    /// A key of the file as a part of a path: harmless ones as they are, others in quotes.
    private static func shownKey(_ key: String) -> String {
        let isHarmless = key.utf8.allSatisfy { (0x21...0x7e).contains($0) } && (1...64).contains(key.utf8.count)
        return isHarmless ? key : quoted(key)
    }
}
