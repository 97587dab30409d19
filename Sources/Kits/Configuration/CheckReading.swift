extension AgentConfiguration.Check {
    /// Reads `path`, `host` and `status`; they are out of place where `kind` is not `http`.
    mutating func readRequest(_ section: Section) {
        path = section.value("path", .requestPath, default: path)
        host = section.optional("host", .hostField)
        status = section.value("status", .statusCodes, default: status)
        guard kind != .http else { return }
        for key in ["path", "host", "status"] where section.reader.places[section.child(key)] != nil {
            section.reader.report(
                section.child(key),
                "\(quoted(key)) is about requests, and the kind of check is \(kind.rawValue)",
                expected: "\"kind: http\" beside it",
                remedy: "remove it, or say \"kind: http\""
            )
        }
    }
}

extension ValueKind where Value == String {
    /// A path as it stands in a request (RFC 9112 3.2.1).
    static var requestPath: ValueKind<String> {
        ValueKind(expected: "a path of at most 1024 visible ASCII characters, e.g. /health") { scalar in
            guard scalar.text.utf8.count <= 1024 else { return .fault("the path is \(scalar.text.utf8.count) bytes long") }
            guard scalar.text.hasPrefix("/") else {
                return .fault("\(quoted(scalar.text)) does not begin with '/'", remedy: "write \(quoted("/" + scalar.text))")
            }
            guard scalar.text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
                return .fault(
                    "\(quoted(scalar.text)) has a character that a request cannot have",
                    remedy: "write it as % and two hexadecimal digits"
                )
            }
            guard !scalar.text.contains("#") else { return .fault("\(quoted(scalar.text)) has a fragment") }
            return .value(scalar.text)
        }
    }

    /// What the Host field may hold (RFC 9110 7.2), as far as checks need it.
    static var hostField: ValueKind<String> {
        ValueKind(expected: "a host's name, with or without a port, e.g. www.example.com") { scalar in
            let isGood = { (byte: UInt8) in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"):
                    true
                default: "._:-[]".utf8.contains(byte)
                }
            }
            guard (1...255).contains(scalar.text.utf8.count), scalar.text.utf8.allSatisfy(isGood) else {
                return .fault("\(quoted(scalar.text)) is not a host's name")
            }
            return .value(scalar.text)
        }
    }
}

extension ValueKind where Value == ClosedRange<Int> {
    /// A status code, or a range of them.
    static var statusCodes: ValueKind<ClosedRange<Int>> {
        ValueKind(expected: "a status from 100 to 599 or a range, e.g. 200 or 200-399") { scalar in
            let ends = scalar.text.split(separator: "-", omittingEmptySubsequences: false)
            let numbers = ends.compactMap { end -> Int? in
                guard case .value(let number)? = magnitude(end), end.utf8.count == 3 else { return nil }
                return number
            }
            guard (1...2).contains(ends.count), numbers.count == ends.count, let low = numbers.first,
                let high = numbers.last
            else { return .fault("\(scalar.shown) is not a status") }
            guard (100...599).contains(low), (100...599).contains(high) else {
                return .fault("\(scalar.shown) is out of range")
            }
            guard low <= high else { return .fault("\(scalar.shown) ends before it begins") }
            return .value(low...high)
        }
    }
}
