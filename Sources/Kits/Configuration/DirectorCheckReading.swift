import Glibc
import Model

/// Reads `checks` of a service.
enum DirectorCheckReading {
    static let limit = 8
    static let keys =
        "kind, port, interval, timeout, rise, fall, jitter, dampening and those of the kind"

    static func read(_ entry: Section) -> [DirectorConfiguration.Check] {
        guard entry.has("checks") else { return [] }
        return entry.list("checks", isRequired: false, limit: limit, keys: keys) { DirectorConfiguration.Check(entry: $0) }
    }

    /// Keys that only some kinds know.
    private static let particular: [(key: String, kinds: [DirectorConfiguration.CheckKind])] = [
        ("port", [.tcp, .tls, .http, .https, .dns, .command]),
        ("host", [.tls, .http, .https]), ("verify", [.tls, .https]), ("authorities", [.tls, .https]),
        ("path", [.http, .https]), ("status", [.http, .https]), ("body", [.http, .https]), ("regex", [.http, .https]),
        ("query", [.dns]), ("type", [.dns]), ("answer", [.dns]), ("command", [.command]),
    ]

    /// Whether a check of this kind may have the key.
    static func knows(_ kind: DirectorConfiguration.CheckKind, _ key: String) -> Bool {
        particular.first { $0.key == key }?.kinds.contains(kind) ?? true
    }

    /// Reports the keys that the kind does not know, and those that it lacks.
    static func checkKeys(_ section: Section, _ kind: DirectorConfiguration.CheckKind) {
        for (key, kinds) in particular where !kinds.contains(kind) && section.has(key) {
            section.reader.report(
                section.child(key),
                "\(quoted(key)) is not for the kind \(kind.rawValue)",
                expected: "the kind \(alternatives(kinds.map(\.rawValue))) beside it",
                remedy: "remove it, or say another \"kind\""
            )
        }
    }
}

extension DirectorConfiguration.Check {
    fileprivate init(entry: Section) {
        let faults = entry.reader.diagnostics.count
        let kind: DirectorConfiguration.CheckKind? = entry.required("kind", .choice(of: "a kind of check"))
        self.init(kind: kind ?? .tcp)
        port = entry.optional("port", .integer(in: 1...65535)).map { UInt16($0) }
        interval = entry.value("interval", .duration(in: .milliseconds(50) ... .seconds(3600)), default: interval)
        let configured = entry.optional("timeout", .duration(in: .milliseconds(1) ... .seconds(300)))
        timeout = configured ?? min(timeout, interval)
        rise = entry.value("rise", .integer(in: 1...100), default: rise)
        fall = entry.value("fall", .integer(in: 1...100), default: fall)
        jitter = entry.value("jitter", .integer(in: 0...50), default: jitter)
        dampening = entry.optionalSection("dampening", keys: "changes, within and hold") {
            DirectorConfiguration.Dampening(section: $0)
        }
        readTLS(entry)
        readHTTP(entry)
        readDNS(entry, kind)
        readCommand(entry, kind)
        guard let kind, entry.reader.diagnostics.count == faults else { return }
        DirectorCheckReading.checkKeys(entry, kind)
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

extension DirectorConfiguration.Dampening {
    fileprivate init(section: Section) {
        self.init(
            changes: section.value("changes", .integer(in: 2...64), default: 4),
            within: section.value("within", .duration(in: .seconds(1) ... .seconds(86_400)), default: .seconds(60)),
            hold: section.value("hold", .duration(in: .seconds(1) ... .seconds(3600)), default: .seconds(60))
        )
    }
}

extension DirectorConfiguration.Rate {
    /// `rate` and `burst` of a section; nil where there is no rate.
    static func read(_ section: Section, default usual: DirectorConfiguration.Rate?) -> DirectorConfiguration.Rate? {
        let range = 1...10_000_000
        let rate: Int?
        if section.has("rate") {
            rate = section.optional("rate", .rate(in: range)) ?? nil
        } else {
            rate = usual?.rate
        }
        let burst = section.optional("burst", .integer(in: range))
        if burst != nil, rate == nil {
            section.reader.report(
                section.child("burst"), "there is no rate that it could exceed", expected: "\"rate\" beside it")
        }
        return rate.map { DirectorConfiguration.Rate(rate: $0, burst: burst) }
    }
}

extension DirectorConfiguration.Backend {
    /// `upper_threshold` and `lower_threshold`.
    mutating func readThresholds(_ entry: Section) {
        upperThreshold = entry.value("upper_threshold", .integer(in: 0...1_000_000_000), default: 0)
        let lower = entry.optional("lower_threshold", .integer(in: 0...1_000_000_000))
        lowerThreshold = lower ?? 0
        guard let lower, lower >= max(upperThreshold, 1) else { return }
        entry.reader.report(
            entry.child("lower_threshold"),
            upperThreshold == 0 ? "there is no upper threshold" : "\(lower) is not below the upper one, \(upperThreshold)",
            expected: upperThreshold == 0 ? "\"upper_threshold\" beside it" : "less than \(upperThreshold)"
        )
    }
}

extension Reader {
    /// `sorry` must name a back-end.
    func checkSorry(_ services: [DirectorConfiguration.Service], _ backends: [DirectorConfiguration.Backend]) {
        let names = backends.map(\.name)
        for (index, service) in services.enumerated() {
            guard let sorry = service.sorry, !names.contains(sorry) else { continue }
            report(
                "services[\(index)].sorry", "there is no back-end \(quoted(sorry))", expected: alternatives(names),
                remedy: suggestion(for: sorry, among: names))
        }
    }
}

// MARK: Kinds of values

extension ValueKind where Value == Int? {
    /// A number a second, or `off`.
    fileprivate static func rate(in range: ClosedRange<Int>) -> ValueKind<Int?> {
        let number = ValueKind<Int>.integer(in: range)
        return ValueKind(expected: "\(number.expected), or off") { scalar in
            // YAML 1.1 has `off` for false.
            if ["off", "false"].contains(scalar.text) { return .value(nil) }
            switch number.read(scalar) {
            case .value(let value): return .value(value)
            case .fault(let problem, let remedy): return .fault(problem, remedy: remedy)
            }
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
