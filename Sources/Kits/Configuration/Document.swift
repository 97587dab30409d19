import Yams

/// A YAML text as nodes with places, or the faults that keep it from being one.
struct Document {
    /// The root; nil for an empty file.
    var root: Node?
    /// Keys that stand twice in a mapping, by their places: what they were before `compose` renamed them.
    var renamedKeys: [Position: String] = [:]

    /// Aliases in one file: each may stand for all that its anchor holds, so a few lines could unfold to more than
    /// any machine holds. With eight it is eighteen times the file at the worst.
    static let aliasLimit = 8

    /// Duplicate keys that are told apart before giving up.
    private static let duplicateLimit = 64

    /// Composes the bytes of a file.
    static func compose(_ bytes: [UInt8], file: String) throws(ConfigurationError) -> Document {
        if let offset = firstInvalidUTF8(bytes) {
            throw error(
                file,
                position(ofByte: offset, in: bytes),
                "the file is not UTF-8 text (byte 0x\(String(bytes[offset], radix: 16)))",
                "UTF-8",
                nil
            )
        }
        // libyaml does not skip a byte order mark when it is told the encoding.
        let body = bytes.starts(with: [0xef, 0xbb, 0xbf]) ? bytes[3...] : bytes[...]
        var text = String(decoding: body, as: UTF8.self)
        try refuseManyAliases(text, file)
        var document = Document()
        while true {
            do {
                // The basic resolver leaves every scalar a text: what it means is the reader's business.
                document.root = try Yams.compose(yaml: text, .basic, .default, .utf8)
                return document
            } catch {
                guard let error = error as? YamlError else {
                    throw self.error(file, nil, "not readable as YAML: \(error)", nil, nil)
                }
                guard case .duplicatedKeysInMapping(let keys, let context) = error,
                    document.renamedKeys.count < duplicateLimit,
                    let key = keys.first,
                    let renamed = rename(text, at: position(context.mark), number: document.renamedKeys.count)
                else {
                    throw ConfigurationError([diagnostic(error, file)])
                }
                // Yams stops at the first mapping with a duplicate key. To find the file's other faults too, and the
                // place of the second key, the first one gets a name that no file has, and the text is read again.
                document.renamedKeys[position(context.mark)] = key
                text = renamed
            }
        }
    }

    /// The text with the first character of the key at a place replaced by one of Unicode's private use area; nil
    /// where the key cannot be changed so simply (an alias, an escape, a nested structure).
    private static func rename(_ text: String, at position: Position, number: Int) -> String? {
        var scalars = Array(text.unicodeScalars)
        var line = 1
        var index = 0
        while line < position.line {
            guard index < scalars.count else { return nil }
            let isReturn = scalars[index] == "\r"
            if isReturn || "\n\u{85}\u{2028}\u{2029}".unicodeScalars.contains(scalars[index]) { line += 1 }
            index += isReturn && index + 1 < scalars.count && scalars[index + 1] == "\n" ? 2 : 1
        }
        index += position.column - 1
        guard index < scalars.count else { return nil }
        if scalars[index] == "\"" || scalars[index] == "'" { index += 1 }
        guard index < scalars.count, !"&*!|>[]{}?%@`\\\"'\r\n".unicodeScalars.contains(scalars[index]),
            let fresh = Unicode.Scalar(0xe000 + UInt32(number))
        else { return nil }
        scalars[index] = fresh
        var result = String.UnicodeScalarView()
        result.append(contentsOf: scalars)
        return String(result)
    }

    /// Refuses a text in which more aliases may stand than `aliasLimit`.
    ///
    /// It counts every asterisk before a letter or digit, in comments and quotes too: to tell them apart would take
    /// a YAML scanner, and the one at hand unfolds aliases as it goes.
    private static func refuseManyAliases(_ text: String, _ file: String) throws(ConfigurationError) {
        var previous: UInt8 = 0
        var position = Position(line: 1, column: 0)
        var count = 0
        for byte in text.utf8 {
            if previous == UInt8(ascii: "*"), isAnchorByte(byte) {
                count += 1
                if count > aliasLimit {
                    throw error(
                        file,
                        position,
                        "more than \(aliasLimit) YAML aliases (a '*' before a letter)",
                        "values written out",
                        nil
                    )
                }
            }
            if byte == UInt8(ascii: "\n") {
                position = Position(line: position.line + 1, column: 0)
            } else if byte & 0xc0 != 0x80 {
                position.column += 1
            }
            previous = byte
        }
    }

    private static func isAnchorByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"): true
        default: false
        }
    }
}

// MARK: Faults of syntax

extension Document {
    private static func error(
        _ file: String,
        _ position: Position?,
        _ problem: String,
        _ expected: String?,
        _ remedy: String?
    ) -> ConfigurationError {
        ConfigurationError([
            Diagnostic(file: file, position: position, problem: problem, expected: expected, remedy: remedy)
        ])
    }

    private static func position(_ mark: Mark) -> Position {
        Position(line: mark.line, column: mark.column)
    }

    private static func diagnostic(_ error: YamlError, _ file: String) -> Diagnostic {
        switch error {
        case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _):
            return syntax(file, mark, problem, context)
        case .composer(_, let problem, let mark, _) where problem.contains("another document"):
            return Diagnostic(
                file: file,
                position: position(mark),
                problem: "a second YAML document begins here",
                expected: "one document",
                remedy: "remove the line '---' and what follows, or merge the two"
            )
        case .composer(let context, let problem, let mark, _):
            return syntax(file, mark, problem, context)
        case .duplicatedKeysInMapping(let keys, let context):
            return Diagnostic(
                file: file,
                position: position(context.mark),
                key: keys.first ?? "",
                problem: "the key stands more than once in its mapping",
                expected: "each key once"
            )
        case .reader(let problem, let offset, _, let yaml):
            let place = offset.map { position(ofCharacter: $0, in: yaml) }
            return Diagnostic(file: file, position: place, problem: "not YAML: \(problem)", expected: "plain text")
        case .no, .memory, .writer, .emitter, .representer, .dataCouldNotBeDecoded:
            return Diagnostic(file: file, problem: "not readable as YAML: \(error)")
        }
    }

    /// libyaml's own words, with the place where the thing began that could not be finished.
    private static func syntax(
        _ file: String,
        _ mark: Mark,
        _ problem: String,
        _ context: YamlError.Context?
    ) -> Diagnostic {
        var text = "not YAML: \(problem)"
        if let context {
            text += " \(context.text)"
            if context.mark.line != mark.line { text += " (from line \(context.mark.line))" }
        }
        let remedy: String
        if problem.contains("cannot start any token") {
            remedy = "indent with spaces, never with tabs, and put values that begin with @, ` or % in quotes"
        } else if problem.contains("undefined alias") {
            remedy = "put a value that begins with '*' in quotes"
        } else {
            remedy = "look at the indentation, the colons and the quotes of this line and the one before"
        }
        return Diagnostic(file: file, position: position(mark), problem: text, remedy: remedy)
    }

    private static func position(ofCharacter offset: Int, in text: String) -> Position {
        var result = Position(line: 1, column: 1)
        for character in text.prefix(offset) {
            if character.isNewline {
                result = Position(line: result.line + 1, column: 1)
            } else {
                result.column += character.unicodeScalars.count
            }
        }
        return result
    }

    private static func position(ofByte offset: Int, in bytes: [UInt8]) -> Position {
        var result = Position(line: 1, column: 1)
        for byte in bytes[..<offset] {
            if byte == UInt8(ascii: "\n") {
                result = Position(line: result.line + 1, column: 1)
            } else if byte & 0xc0 != 0x80 {
                result.column += 1
            }
        }
        return result
    }

    private static func firstInvalidUTF8(_ bytes: [UInt8]) -> Int? {
        var decoder = UTF8()
        var iterator = bytes.makeIterator()
        var offset = 0
        while true {
            switch decoder.decode(&iterator) {
            case .scalarValue(let scalar): offset += UTF8.width(scalar)
            case .emptyInput: return nil
            case .error: return offset
            }
        }
    }
}
