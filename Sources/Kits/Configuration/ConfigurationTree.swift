import Yams

/// A configuration as its file has it: keys, lists and words. This is what is written, compared and edited, so that a
/// key that is new needs a reader and nothing else.
public indirect enum ConfigurationTree: Hashable, Sendable {
    case scalar(String)
    case list([ConfigurationTree])
    case mapping([Entry])

    public struct Entry: Hashable, Sendable {
        public var key: String
        public var value: ConfigurationTree

        public init(_ key: String, _ value: ConfigurationTree) {
            self.key = key
            self.value = value
        }
    }

    /// Below a key of a mapping; nil where there is none. Setting nil removes the key.
    public subscript(key: String) -> ConfigurationTree? {
        get {
            guard case .mapping(let entries) = self else { return nil }
            return entries.first { $0.key == key }?.value
        }
        set {
            var entries: [Entry] = []
            if case .mapping(let own) = self { entries = own }
            let place = entries.firstIndex { $0.key == key }
            switch (place, newValue) {
            case (let place?, let value?): entries[place].value = value
            case (let place?, nil): entries.remove(at: place)
            case (nil, let value?): entries.append(Entry(key, value))
            case (nil, nil): break
            }
            self = .mapping(entries)
        }
    }

    /// The entries of a list; none for anything else.
    public var elements: [ConfigurationTree] {
        if case .list(let elements) = self { return elements }
        return []
    }

    /// A scalar's text; nil for anything else.
    public var text: String? {
        if case .scalar(let text) = self { return text }
        return nil
    }
}

// MARK: As YAML

extension ConfigurationTree {
    /// A document of YAML, in blocks; every line ends with a newline.
    public var yaml: String {
        var lines: [String] = []
        write(to: &lines, indent: "")
        return lines.map { $0 + "\n" }.joined()
    }

    /// In one line, for people.
    public var shown: String {
        switch self {
        case .scalar(let text): Self.word(text)
        case .list(let elements): "[" + elements.map(\.shown).joined(separator: ", ") + "]"
        case .mapping(let entries): "{" + entries.map { "\($0.key): \($0.value.shown)" }.joined(separator: ", ") + "}"
        }
    }

    private func write(to lines: inout [String], indent: String) {
        switch self {
        case .scalar(let text): lines.append(indent + Self.word(text))
        case .list(let elements):
            for element in elements {
                var inner: [String] = []
                element.write(to: &inner, indent: indent + "  ")
                guard let first = inner.first else { continue }
                lines.append(indent + "- " + first.dropFirst(indent.count + 2))
                lines += inner.dropFirst()
            }
        case .mapping(let entries):
            for entry in entries {
                switch entry.value {
                case .scalar(let text): lines.append("\(indent)\(Self.word(entry.key)): \(Self.word(text))")
                case .list(let elements) where elements.allSatisfy({ $0.text != nil }):
                    lines.append("\(indent)\(Self.word(entry.key)): \(entry.value.shown)")
                case .list, .mapping:
                    lines.append("\(indent)\(Self.word(entry.key)):")
                    entry.value.write(to: &lines, indent: indent + "  ")
                }
            }
        }
    }

    /// Plain where every reader of YAML takes it for the same text, in quotes otherwise.
    private static func word(_ text: String) -> String {
        let isPlain =
            text.utf8.first.map(isFirst) ?? false && text.utf8.allSatisfy(isHarmless) && text.utf8.last != 0x3a
            && !["null", "Null", "NULL"].contains(text)
        return isPlain ? text : inQuotes(text)
    }

    private static func isFirst(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "/"), UInt8(ascii: "_"): true
        default: false
        }
    }

    /// A colon is followed by no space here, and so is no sign of YAML's.
    private static func isHarmless(_ byte: UInt8) -> Bool {
        isFirst(byte) || [UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: ":"), UInt8(ascii: "+")].contains(byte)
    }

    /// A text as a double-quoted scalar of YAML.
    public static func inQuotes(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\\(scalar)"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case _ where scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value):
                let digits = String(scalar.value, radix: 16)
                result += "\\x" + String(repeating: "0", count: 2 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    /// Reads one value of YAML, such as `5m`, `"[2001:db8::80]:80"` or `{name: sh, port: true}`; nil for what is none.
    public init?(yaml text: String) {
        guard let document = try? Document.compose(Array(text.utf8), file: ""), document.renamedKeys.isEmpty,
            let root = document.root
        else { return nil }
        self.init(root)
    }

    private init?(_ node: Node) {
        switch node {
        case .scalar(let scalar): self = .scalar(scalar.string)
        case .sequence(let sequence): self = .list(sequence.compactMap(ConfigurationTree.init))
        case .mapping(let mapping):
            self = .mapping(
                mapping.compactMap { key, value in
                    guard let key = key.scalar?.string, let value = ConfigurationTree(value) else { return nil }
                    return Entry(key, value)
                })
        case .alias: return nil
        }
    }
}
