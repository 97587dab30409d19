import Model

/// One question of the DNS (RFC 1035 4), and how its answer is judged.
public struct DNSQuestion: Hashable, Sendable {
    /// Types of records that checks may ask for.
    public enum RecordType: UInt16, CaseIterable, Sendable {
        case a = 1
        case ns = 2
        case cname = 5
        case soa = 6
        case ptr = 12
        case mx = 15
        case txt = 16
        case aaaa = 28
        case srv = 33

        public var name: String {
            switch self {
            case .a: "A"
            case .ns: "NS"
            case .cname: "CNAME"
            case .soa: "SOA"
            case .ptr: "PTR"
            case .mx: "MX"
            case .txt: "TXT"
            case .aaaa: "AAAA"
            case .srv: "SRV"
            }
        }
    }

    /// Labels and dots; `.` is the root.
    public var name: String
    public var type: RecordType

    public init(name: String, type: RecordType) {
        self.name = name
        self.type = type
    }

    enum Verdict: Equatable {
        /// Not an answer to this question.
        case another
        case good
        case bad(String)
    }

    func query(identifier: UInt16) -> [UInt8] {
        var bytes: [UInt8] = word(identifier)
        // Recursion desired; one question.
        bytes += [1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
        for label in name.split(separator: ".") {
            let text = Array(label.utf8.prefix(63))
            bytes += [UInt8(text.count)] + text
        }
        return bytes + [0] + word(type.rawValue) + [0, 1]
    }

    /// - Parameter expected: an address that must be among the answers.
    func read(_ bytes: [UInt8], identifier: UInt16, expected: IPAddress?) -> Verdict {
        guard bytes.count >= 12, Array(bytes[..<2]) == word(identifier), bytes[2] & 0x80 != 0 else { return .another }
        let code = Int(bytes[3] & 0x0f)
        guard code == 0 else { return .bad("the answer's code is \(Self.name(of: code))") }
        guard let expected else { return .good }
        guard bytes[2] & 0x02 == 0 else { return .bad("the answer was cut off (TC)") }
        var place = 12
        for _ in 0..<number(bytes, 4) {
            guard skipName(bytes, &place), place + 4 <= bytes.count else { return .bad("the answer is malformed") }
            place += 4
        }
        let wanted = expected.isIPv4 ? Array(expected.bytes[12...]) : expected.bytes
        for _ in 0..<number(bytes, 6) {
            guard skipName(bytes, &place), place + 10 <= bytes.count else { return .bad("the answer is malformed") }
            let (kind, length) = (number(bytes, place), number(bytes, place + 8))
            place += 10
            guard place + length <= bytes.count else { return .bad("the answer is malformed") }
            let isAddress = kind == Int(type.rawValue)
            if isAddress, bytes[place..<(place + length)].elementsEqual(wanted) { return .good }
            place += length
        }
        return .bad("\(expected) is not among the answers")
    }

    /// Past a name, which a pointer may end (RFC 1035 4.1.4).
    private func skipName(_ bytes: [UInt8], _ place: inout Int) -> Bool {
        while place < bytes.count {
            let length = Int(bytes[place])
            if length & 0xc0 == 0xc0 {
                place += 2
                return place <= bytes.count
            }
            guard length & 0xc0 == 0 else { return false }
            place += 1 + length
            if length == 0 { return place <= bytes.count }
        }
        return false
    }

    private func number(_ bytes: [UInt8], _ place: Int) -> Int { Int(bytes[place]) << 8 | Int(bytes[place + 1]) }

    private func word(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }

    /// RFC 1035 4.1.1.
    private static func name(of code: Int) -> String {
        switch code {
        case 1: "FORMERR"
        case 2: "SERVFAIL"
        case 3: "NXDOMAIN"
        case 4: "NOTIMP"
        case 5: "REFUSED"
        default: "\(code)"
        }
    }
}
