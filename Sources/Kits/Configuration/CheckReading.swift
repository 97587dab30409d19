import Glibc
import Model

/// What the checks of both files have in common.
enum CheckReading {
    static let keys =
        "kind, port, interval, timeout, rise, fall, jitter, dampening and those of the kind"

    /// Keys that only some kinds know.
    private static let particular: [(key: String, kinds: [String])] = [
        ("port", ["tcp", "tls", "http", "https", "dns", "command", "process"]),
        ("host", ["tls", "http", "https"]), ("verify", ["tls", "https"]), ("authorities", ["tls", "https"]),
        ("path", ["http", "https"]), ("status", ["http", "https"]), ("body", ["http", "https"]),
        ("regex", ["http", "https"]), ("query", ["dns"]), ("type", ["dns"]), ("answer", ["dns"]),
        ("command", ["command"]),
    ]

    /// Whether a check of this kind may have the key.
    static func knows(_ kind: some KindOfCheck, _ key: String) -> Bool {
        particular.first { $0.key == key }?.kinds.contains(kind.rawValue) ?? true
    }

    /// Reports the keys that the kind does not know.
    static func checkKeys<Kind: KindOfCheck>(_ section: Section, _ kind: Kind) {
        for (key, kinds) in particular where !kinds.contains(kind.rawValue) && section.has(key) {
            section.reader.report(
                section.child(key),
                "\(quoted(key)) is not for the kind \(kind.rawValue)",
                expected: "the kind \(alternatives(kinds.filter { Kind(rawValue: $0) != nil })) beside it",
                remedy: "remove it, or say another \"kind\""
            )
        }
    }
}

extension ServiceCheck {
    /// Reads all keys but `kind`.
    ///
    /// - Parameter kind: nil after a fault of it was reported; then nothing is said of what depends on it.
    init(entry: Section, kind: Kind?) {
        let faults = entry.reader.diagnostics.count
        self.init(kind: kind ?? .usual)
        port = entry.optional("port", .integer(in: 1...65535)).map { UInt16($0) }
        interval = entry.value("interval", .duration(in: Kind.times.intervals), default: interval)
        let configured = entry.optional("timeout", .duration(in: Kind.times.timeouts))
        timeout = configured ?? min(timeout, interval)
        rise = entry.value("rise", .integer(in: 1...100), default: rise)
        fall = entry.value("fall", .integer(in: 1...100), default: fall)
        jitter = entry.value("jitter", .integer(in: 0...50), default: jitter)
        dampening = entry.optionalSection("dampening", keys: "changes, within and hold") {
            CheckDampening(section: $0)
        }
        readTLS(entry)
        readHTTP(entry)
        readDNS(entry, kind?.probe)
        readCommand(entry, kind?.probe)
        guard let kind, entry.reader.diagnostics.count == faults else { return }
        CheckReading.checkKeys(entry, kind)
        if let configured, configured > interval {
            entry.reader.report(
                entry.child("timeout"),
                "\(durationText(configured)) is longer than the interval, \(durationText(interval))",
                expected: "\(durationText(interval)) or less, so that checks do not overlap"
            )
        }
    }

    private mutating func readTLS(_ entry: Section) {
        host = entry.optional("host", .hostField)
        verify = entry.value("verify", .flag, default: verify)
        authorities = entry.optional("authorities", .path(example: "/etc/ssl/certs/our-ca.pem"))
    }

    private mutating func readHTTP(_ entry: Section) {
        path = entry.value("path", .requestPath, default: path)
        if entry.isList("status") {
            statuses = entry.words("status", limit: 32, first: .statusCodes, others: .statusCodes)
        } else if let range = entry.optional("status", .statusCodes) {
            statuses = [range]
        }
        body = entry.optional("body", .text)
        regex = entry.optional("regex", .pattern)
    }

    private mutating func readDNS(_ entry: Section, _ kind: DirectorConfiguration.CheckKind?) {
        if kind == .dns {
            query = entry.required("query", .domain) ?? ""
        } else {
            query = entry.optional("query", .domain) ?? ""
        }
        let types = ["A", "AAAA", "NS", "CNAME", "SOA", "PTR", "MX", "TXT", "SRV"]
        recordType = entry.value("type", .oneOf(types, what: "a type of record"), default: recordType)
        answer = entry.optional("answer", .address(.local, example: "192.0.2.7"))
        guard let answer else { return }
        let needed = answer.isIPv4 ? "A" : "AAAA"
        guard recordType != needed else { return }
        entry.reader.report(
            entry.child("answer"), "records of type \(recordType) do not hold \(quoted("\(answer)"))",
            expected: "\"type: \(needed)\" beside it")
    }

    private mutating func readCommand(_ entry: Section, _ kind: DirectorConfiguration.CheckKind?) {
        guard kind == .command || entry.has("command") else { return }
        command = entry.words("command", limit: 32, first: .path(example: "/usr/local/bin/check-web"), others: .argument)
    }
}

extension CheckDampening {
    fileprivate init(section: Section) {
        self.init(
            changes: section.value("changes", .integer(in: 2...64), default: 4),
            within: section.value("within", .duration(in: .seconds(1) ... .seconds(86_400)), default: .seconds(60)),
            hold: section.value("hold", .duration(in: .seconds(1) ... .seconds(3600)), default: .seconds(60))
        )
    }
}

// MARK: Kinds of values

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

extension ValueKind where Value == String {
    fileprivate static var text: ValueKind<String> {
        ValueKind(expected: "a text of 1 to 1024 bytes") { scalar in
            (1...1024).contains(scalar.text.utf8.count)
                ? .value(scalar.text) : .fault("the text is \(scalar.text.utf8.count) bytes long")
        }
    }

    /// What regcomp(3) takes.
    fileprivate static var pattern: ValueKind<String> {
        ValueKind(expected: "an extended regular expression, as of egrep(1)") { scalar in
            guard (1...1024).contains(scalar.text.utf8.count) else {
                return .fault("the expression is \(scalar.text.utf8.count) bytes long")
            }
            var compiled = regex_t()
            let code = regcomp(&compiled, scalar.text, REG_EXTENDED | REG_NOSUB)
            guard code == 0 else {
                var room = [CChar](repeating: 0, count: 200)
                regerror(code, &compiled, &room, room.count)
                let cause = String(decoding: room.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                return .fault("\(quoted(scalar.text)): \(cause)")
            }
            regfree(&compiled)
            return .value(scalar.text)
        }
    }

    /// A name of the DNS (RFC 1035 2.3.4).
    fileprivate static var domain: ValueKind<String> {
        ValueKind(expected: "a domain name, e.g. www.example.com, or \".\"") { scalar in
            let text = scalar.text.hasSuffix(".") ? String(scalar.text.dropLast()) : scalar.text
            if text.isEmpty, scalar.text == "." { return .value(".") }
            let labels = text.split(separator: ".", omittingEmptySubsequences: false)
            let isGood = labels.allSatisfy { label in
                (1...63).contains(label.utf8.count) && label.utf8.allSatisfy { (0x21...0x7e).contains($0) }
            }
            guard isGood, text.utf8.count <= 253 else { return .fault("\(quoted(scalar.text)) is no domain name") }
            return .value(text)
        }
    }
}
