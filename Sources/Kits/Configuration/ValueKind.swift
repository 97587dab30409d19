/// A scalar as it stands in the file.
struct ScalarText {
    var text: String
    /// Without quotes.
    var isPlain: Bool

    /// How a message shows it: a plain one as it stands (when it is short and harmless), others in quotes.
    var shown: String {
        let harmless = { (byte: UInt8) in (0x21...0x7e).contains(byte) && byte != UInt8(ascii: ";") }
        return isPlain && text.utf8.count <= 32 && text.utf8.allSatisfy(harmless) ? text : quoted(text)
    }
}

/// What became of a scalar.
enum Reading<Value> {
    case value(Value)
    /// What is wrong with it, and what to do where that is not plain.
    case fault(String, remedy: String? = nil)
}

/// A kind of value: what a message says was expected, and how to read it.
struct ValueKind<Value> {
    var expected: String
    var read: (ScalarText) -> Reading<Value>
}

// MARK: Texts

extension ValueKind where Value == String {
    /// A node's or a service's name: 1 to 32 of the characters that are safe in logs, paths and on the wire.
    static var name: ValueKind<String> {
        ValueKind(expected: "a name of 1 to 32 letters, digits, '.', '_' and '-', e.g. web1") { scalar in
            let bytes = scalar.text.utf8
            guard bytes.count <= 32 else { return .fault("\(scalar.shown) is \(bytes.count) bytes long") }
            guard !bytes.isEmpty else { return .fault("the name is empty") }
            if let wrong = scalar.text.unicodeScalars.first(where: { !isNameScalar($0) }) {
                return .fault("\(quoted(scalar.text)) has the character \(quoted(String(Character(wrong))))")
            }
            return .value(scalar.text)
        }
    }

    /// One of some names that the caller knows, such as the policies that are built in.
    static func oneOf(_ names: [String], what: String) -> ValueKind<String> {
        ValueKind(expected: alternatives(names)) { scalar in
            if names.contains(scalar.text) { return .value(scalar.text) }
            return .fault("\(quoted(scalar.text)) is not \(what)", remedy: suggestion(for: scalar.text, among: names))
        }
    }

    /// The name of a table of nftables.
    static var tableName: ValueKind<String> {
        ValueKind(expected: "1 to 32 letters, digits and '_', a letter first, e.g. baton") { scalar in
            let scalars = scalar.text.unicodeScalars
            let isWord = scalars.allSatisfy { isNameScalar($0) && $0 != "." && $0 != "-" }
            guard (1...32).contains(scalars.count), isWord, let first = scalars.first, first.properties.isAlphabetic
            else { return .fault("\(quoted(scalar.text)) is not a name of an nftables table") }
            return .value(scalar.text)
        }
    }

    /// A network interface's name by the kernel's rules (`dev_valid_name`), known to this machine if `existing` is
    /// given.
    static func interface(existing: [String]?) -> ValueKind<String> {
        guard let existing else { return device(example: "eth0") }
        let shape = device(example: "eth0")
        let known = existing.isEmpty ? "none was found" : existing.prefix(16).joined(separator: ", ")
        return ValueKind(expected: "a network interface of this machine (\(known))") { scalar in
            guard case .value(let name) = shape.read(scalar) else { return shape.read(scalar) }
            if existing.contains(name) { return .value(name) }
            return .fault(
                "there is no interface \(quoted(name))",
                remedy: suggestion(for: name, among: existing)
            )
        }
    }

    /// A name that the kernel takes for an interface.
    static func device(example: String) -> ValueKind<String> {
        ValueKind(expected: "the name of a network interface, 1 to 15 bytes, e.g. \(example)") { scalar in
            let forbidden = { (byte: UInt8) in !(0x21...0x7e).contains(byte) || "/:%".utf8.contains(byte) }
            let name = scalar.text
            guard (1...15).contains(name.utf8.count), !name.utf8.contains(where: forbidden), name != ".", name != ".."
            else { return .fault("\(quoted(name)) cannot be the name of an interface") }
            return .value(name)
        }
    }

    /// An absolute path; `limit` in bytes.
    static func path(limit: Int = 4095, example: String) -> ValueKind<String> {
        ValueKind(expected: "an absolute path of at most \(limit) bytes, e.g. \(example)") { scalar in
            let path = scalar.text
            guard path.utf8.count <= limit else {
                return .fault("the path is \(path.utf8.count) bytes long")
            }
            guard path.hasPrefix("/") else { return .fault("\(quoted(path)) is not an absolute path") }
            guard path.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else {
                return .fault("\(quoted(path)) has a control character")
            }
            guard !path.split(separator: "/").contains("..") else {
                return .fault("\(quoted(path)) has a '..' in it")
            }
            return .value(path)
        }
    }

    /// One argument of a command.
    static var argument: ValueKind<String> {
        ValueKind(expected: "a word of at most 4095 bytes without control characters") { scalar in
            guard scalar.text.utf8.count <= 4095 else { return .fault("the word is too long") }
            guard scalar.text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else {
                return .fault("\(quoted(scalar.text)) has a control character")
            }
            return .value(scalar.text)
        }
    }

    /// The path of a unix socket: `sun_path` has 108 bytes with the zero at the end (unix(7)).
    static func socketPath(example: String) -> ValueKind<String> { path(limit: 107, example: example) }
}

private func isNameScalar(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar {
    case "a"..."z", "A"..."Z", "0"..."9", ".", "_", "-": true
    default: false
    }
}

// MARK: Choices and numbers

extension ValueKind where Value: RawRepresentable & CaseIterable, Value.RawValue == String {
    /// One of the cases of an enumeration of the configuration.
    static func choice(of what: String) -> ValueKind<Value> {
        let names = Value.allCases.map(\.rawValue)
        return ValueKind(expected: alternatives(names)) { scalar in
            if let value = Value(rawValue: scalar.text) { return .value(value) }
            return .fault("\(quoted(scalar.text)) is not \(what)", remedy: suggestion(for: scalar.text, among: names))
        }
    }
}

extension ValueKind where Value == Int {
    /// A whole decimal number; `_` may part the digits.
    static func integer(in range: ClosedRange<Int>) -> ValueKind<Int> {
        ValueKind(expected: "a whole number from \(range.lowerBound) to \(range.upperBound)") { scalar in
            guard scalar.isPlain else {
                return .fault("\(quoted(scalar.text)) is a text", remedy: "write the number without quotes")
            }
            let isNegative = scalar.text.hasPrefix("-")
            let digits = isNegative ? scalar.text.dropFirst() : scalar.text[...]
            guard let number = magnitude(digits) else { return .fault("\(scalar.shown) is not a whole number") }
            guard digits == "0" || digits.first != "0" else {
                return .fault(
                    "\(scalar.shown) begins with 0",
                    remedy: "remove the zero: YAML readers take it for octal"
                )
            }
            guard !isNegative || number == .value(0), case .value(let value) = number, range.contains(value) else {
                return .fault("\(scalar.shown) is out of range")
            }
            return .value(value)
        }
    }
}

/// A run of digits as a number.
enum Magnitude: Equatable {
    case value(Int)
    /// More than `Int` holds.
    case tooLarge
}

/// Reads decimal digits, `_` allowed between two of them; nil for anything else.
func magnitude(_ text: Substring) -> Magnitude? {
    var value: Magnitude = .value(0)
    var previousIsDigit = false
    for byte in text.utf8 {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
            previousIsDigit = true
            guard case .value(let number) = value else { continue }
            let (tenfold, overflow) = number.multipliedReportingOverflow(by: 10)
            let (sum, carry) = tenfold.addingReportingOverflow(Int(byte - UInt8(ascii: "0")))
            value = overflow || carry ? .tooLarge : .value(sum)
        case UInt8(ascii: "_") where previousIsDigit:
            previousIsDigit = false
        default:
            return nil
        }
    }
    return previousIsDigit ? value : nil
}
