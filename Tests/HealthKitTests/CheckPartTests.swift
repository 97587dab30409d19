import Model
import Testing

@testable import HealthKit

/// Answers of a DNS server for tests.
enum DNSAnswers {
    static func answer(_ query: [UInt8], code: UInt8 = 0, addresses: [[UInt8]], flags: UInt8 = 0x80) -> [UInt8] {
        var bytes = Array(query[..<2]) + [flags, code, 0, 1, 0, UInt8(addresses.count), 0, 0, 0, 0] + query[12...]
        for address in addresses {
            // A pointer to the question's name; class IN; a minute.
            bytes += [0xc0, 12, 0, address.count == 4 ? 1 : 28, 0, 1, 0, 0, 0, 60, 0, UInt8(address.count)] + address
        }
        return bytes
    }
}

@Suite("Parts of checks")
struct CheckPartTests {
    // MARK: DNS

    @Test("a query as RFC 1035 has it")
    func query() {
        let bytes = DNSQuestion(name: "a.example.", type: .aaaa).query(identifier: 0x1234)
        #expect(bytes == [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 7] + Array("example".utf8) + [0, 0, 28, 0, 1])
        #expect(DNSQuestion(name: ".", type: .ns).query(identifier: 0).count == 17)
    }

    @Test("answers: another's, errors, addresses, and what is malformed")
    func answers() throws {
        let question = DNSQuestion(name: "a.example", type: .a)
        let query = question.query(identifier: 7)
        let address = IPAddress(ipv4: 0x0102_0304)
        func read(_ bytes: [UInt8], _ expected: IPAddress? = address) -> DNSQuestion.Verdict {
            question.read(bytes, identifier: 7, expected: expected)
        }
        #expect(read(query) == .another, "no answer")
        #expect(read(DNSAnswers.answer(DNSQuestion(name: "x", type: .a).query(identifier: 8), addresses: [])) == .another)
        #expect(read(DNSAnswers.answer(query, addresses: [[1, 2, 3, 4]])) == .good)
        #expect(read(DNSAnswers.answer(query, addresses: [[9, 9, 9, 9], [1, 2, 3, 4]])) == .good)
        #expect(read(DNSAnswers.answer(query, addresses: []), nil) == .good)
        #expect(read(DNSAnswers.answer(query, code: 3, addresses: []), nil) == .bad("the answer's code is NXDOMAIN"))
        #expect(read(DNSAnswers.answer(query, addresses: [[1, 2, 3, 5]])) == .bad("1.2.3.4 is not among the answers"))
        #expect(read(DNSAnswers.answer(query, addresses: [], flags: 0x82)) == .bad("the answer was cut off (TC)"))
        let whole = DNSAnswers.answer(query, addresses: [[9, 9, 9, 9], [1, 2, 3, 4]])
        for count in whole.indices {
            let verdict = read(Array(whole[..<count]))
            #expect(verdict != .good, "\(count) bytes of it")
        }
        // Labels of a kind that is none, and a name that runs out of the message.
        var spoilt = whole
        spoilt[12] = 0x80
        #expect(read(spoilt) == .bad("the answer is malformed"))
        spoilt[12] = 63
        #expect(read(spoilt) != .good)
    }

    // MARK: ICMP

    @Test("echo: checksum, and whose answer it is")
    func echo() {
        // RFC 1071's example: the sum of 0001 f203 f4f5 f6f7 is ddf2.
        #expect(ICMPEcho.checksum([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]) == ~0xddf2)
        let echo = ICMPEcho(isIPv4: true, identifier: 0x1234, sequence: 5)
        let request = echo.request()
        #expect(request[0] == 8 && ICMPEcho.checksum(request) == 0)
        var reply = request
        reply[0] = 0
        let header: [UInt8] = [0x45] + Array(repeating: 0, count: 19)
        #expect(echo.isAnswered(by: header + reply))
        #expect(!echo.isAnswered(by: header + request), "the request itself, on the loopback")
        #expect(!echo.isAnswered(by: reply), "without its header")
        #expect(!ICMPEcho(isIPv4: true, identifier: 0x1234, sequence: 6).isAnswered(by: header + reply))
        for count in 0..<28 { #expect(!echo.isAnswered(by: Array((header + reply)[..<count]))) }
        let six = ICMPEcho(isIPv4: false, identifier: 1, sequence: 2)
        #expect(six.request()[0] == 128)
        #expect(six.isAnswered(by: [129, 0, 0, 0, 0, 1, 0, 2]))
        #expect(!six.isAnswered(by: [128, 0, 0, 0, 0, 1, 0, 2]))
    }

    // MARK: HTTP

    @Test("an answer is judged as soon as it can be, and no sooner")
    func judge() {
        let head = "HTTP/1.0 200 OK\r\nA: b\r\n\r\n"
        func judge(_ text: String, _ expectation: HTTPCheck.Expectation, isWhole: Bool) -> AnswerJudge.Verdict {
            AnswerJudge(expectation: expectation).judge(Array(text.utf8), isWhole: isWhole)
        }
        let text = HTTPCheck.Expectation(text: Array("yes".utf8))
        #expect(judge("HTTP/1.0 200 OK\r\n", .init(), isWhole: false) == .good)
        #expect(judge("HTTP/1.0 200 OK\r\n", text, isWhole: false) == .more)
        #expect(judge(head + "y", text, isWhole: false) == .more)
        #expect(judge(head + "oh yes", text, isWhole: false) == .good)
        #expect(judge(head + "ye", text, isWhole: true) == .bad("the body lacks the text"))
        #expect(judge("HTTP/1.0 500 No\r\n", text, isWhole: false) == .bad("the status is 500"))
        #expect(judge("", .init(), isWhole: true) == .bad("\(CheckFailure.closed)"))
        let pattern = HTTPCheck.Expectation(pattern: TextPattern("^no$"))
        #expect(judge(head + "no", pattern, isWhole: false) == .more)
        #expect(judge(head + "no", pattern, isWhole: true) == .good)
        #expect(judge(head + "nonsense", pattern, isWhole: true) == .bad("the body does not match"))
    }

    @Test("expressions: those of egrep, over bytes of any kind")
    func patterns() throws {
        let pattern = try #require(TextPattern("b+(c|d)$"))
        #expect(pattern.matches(Array("abbd".utf8)[...]))
        #expect(!pattern.matches(Array("abb".utf8)[...]))
        #expect(pattern.matches([97, 0, 98, 99][...]), "behind a zero byte")
        #expect(!pattern.matches([][...]))
        #expect(TextPattern("a(b") == nil)
    }
}
