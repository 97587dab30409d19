/// A few bytes in place: a name, a token, a short value. Takes no memory of its own, and keeps the first bytes of what is
/// too long.
struct ShortText: Sendable {
    static let capacity = 64

    private var bytes = InlineArray<64, UInt8>(repeating: 0)
    private(set) var count = 0
    /// More was appended than there is room for: what is here is only its beginning.
    private(set) var isCut = false

    var isEmpty: Bool { count == 0 }

    subscript(_ index: Int) -> UInt8 { bytes[index] }

    mutating func append(_ byte: UInt8) {
        guard count < Self.capacity else {
            isCut = true
            return
        }
        bytes[count] = byte
        count += 1
    }

    mutating func clear() {
        count = 0
        isCut = false
    }

    /// Takes spaces and tabs off the end (RFC 9110 5.6.3).
    mutating func trimEnd() {
        guard !isCut else { return }
        while count > 0, bytes[count - 1].isBlank { count -= 1 }
    }

    func equals(_ text: StaticString) -> Bool {
        !isCut && text.utf8CodeUnitCount == count && starts(with: text)
    }

    func starts(with text: StaticString) -> Bool {
        guard text.utf8CodeUnitCount <= count else { return false }
        let known = text.utf8Start
        for index in 0..<text.utf8CodeUnitCount where bytes[index] != known[index] { return false }
        return true
    }

    /// Whether a list whose members are divided by commas (RFC 9110 5.6.1) has this one; nil where its end is cut off and
    /// what is there does not have it.
    func lists(_ member: StaticString) -> Bool? {
        var start = 0
        while start <= count {
            let end = place(of: 0x2c, from: start) ?? count
            var (first, last) = (start, end)
            while first < last, bytes[first].isBlank { first += 1 }
            while first < last, bytes[last - 1].isBlank { last -= 1 }
            if end < count || !isCut, last - first == member.utf8CodeUnitCount,
                (first..<last).allSatisfy({ bytes[$0] == member.utf8Start[$0 - first] })
            {
                return true
            }
            start = end + 1
        }
        return isCut ? nil : false
    }

    /// Where a byte stands first, from a place on.
    func place(of byte: UInt8, from start: Int) -> Int? {
        var index = start
        while index < count {
            if bytes[index] == byte { return index }
            index += 1
        }
        return nil
    }

    /// A decimal number of at most 18 digits and nothing else; 18 digits fit into 63 bits.
    var number: UInt64? { number(from: 0, to: count) }

    func number(from start: Int, to end: Int) -> UInt64? {
        guard !isCut, end > start, end - start <= 18 else { return nil }
        var value: UInt64 = 0
        for index in start..<end {
            guard let digit = bytes[index].decimalDigit else { return nil }
            value = value * 10 + UInt64(digit)
        }
        return value
    }
}

extension UInt8 {
    static let space: UInt8 = 0x20
    static let tab: UInt8 = 0x09
    static let carriageReturn: UInt8 = 0x0d
    static let lineFeed: UInt8 = 0x0a
    static let colon: UInt8 = 0x3a

    var isBlank: Bool { self == .space || self == .tab }

    /// A visible ASCII character.
    var isVisible: Bool { self > 0x20 && self < 0x7f }

    /// What a field's value may hold (RFC 9110 5.5): no control character but the tab.
    var isFieldContent: Bool { self >= 0x20 && self != 0x7f || self == .tab }

    var decimalDigit: UInt8? { self >= 0x30 && self <= 0x39 ? self - 0x30 : nil }

    var hexDigit: UInt8? {
        switch self {
        case 0x30...0x39: self - 0x30
        case 0x41...0x46: self - 0x37
        case 0x61...0x66: self - 0x57
        case _: nil
        }
    }

    var lowercased: UInt8 { self >= 0x41 && self <= 0x5a ? self + 0x20 : self }

    /// `tchar` of RFC 9110 5.6.2.
    var isTokenCharacter: Bool {
        switch self {
        case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
        // ! # $ % & ' * + - . ^ _ ` | ~
        case 0x21, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2a, 0x2b, 0x2d, 0x2e, 0x5e, 0x5f, 0x60, 0x7c, 0x7e: true
        case _: false
        }
    }
}
