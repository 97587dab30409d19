import Testing

@testable import Configuration

private let generic = "look at the indentation, the colons and the quotes of this line and the one before"

private let faults = [
    Fault("an empty file", "", "a:1:1: the file is empty; expected keys and values, one pair a line"),
    Fault("only comments", "# nothing\n", "a:1:1: the file is empty; expected keys and values, one pair a line"),
    Fault(
        "no colon",
        "interface eth0\nname: x\n",
        "a:2:5: not YAML: mapping values are not allowed in this context; \(generic)"
    ),
    Fault(
        "a tab",
        "interface: eth0\nlog:\n\tlevel: info\n",
        "a:3:1: not YAML: found character that cannot start any token while scanning for the next token; "
            + "indent with spaces, never with tabs, and put values that begin with @, ` or % in quotes"
    ),
    Fault(
        "an open bracket",
        "services: [\nname: x\n",
        "a:3:1: not YAML: did not find expected ',' or ']' while parsing a flow sequence (from line 1); \(generic)"
    ),
    Fault(
        "wrong indentation",
        "journal:\n  total: 1MiB\n connection: 1MiB\n",
        "a:3:2: not YAML: did not find expected key while parsing a block mapping (from line 1); \(generic)"
    ),
    Fault(
        "an open quote",
        "name: \"web1\ndirector: 10.0.0.1\n",
        "a:3:1: not YAML: found unexpected end of stream while scanning a quoted scalar (from line 1); \(generic)"
    ),
    Fault(
        "an undefined alias",
        "name: *web\n",
        "a:1:7: not YAML: found undefined alias; put a value that begins with '*' in quotes"
    ),
    Fault(
        "two documents",
        "name: a\n---\nname: b\n",
        "a:2:1: a second YAML document begins here; expected one document; "
            + "remove the line '---' and what follows, or merge the two"
    ),
    Fault(
        "a duplicate key that cannot be told apart",
        "\"\\x61\": 1\na: 2\n",
        "a:1:1: a: the key stands more than once in its mapping; expected each key once"
    ),
    Fault(
        "a control character",
        "name: a\nint\u{1}: b\n",
        "a:2:4: not YAML: control characters are not allowed; expected plain text"
    ),
    Fault(
        "aliases without end",
        "a: &a [x]\nb: [\(Array(repeating: "*a", count: 9).joined(separator: ", "))]\n",
        "a:2:37: more than 8 YAML aliases (a '*' before a letter); expected values written out"
    ),
]

@Suite("Texts that are no YAML")
struct SyntaxTests {
    @Test("the exact messages", arguments: faults)
    func exactly(fault: Fault) {
        #expect(agent(fault.text).messages == fault.messages)
    }

    @Test("bytes that are no UTF-8")
    func encoding() {
        let bytes = Array("name: é\nx: ".utf8) + [0xff, 0x0a]
        let result = Result { () throws(ConfigurationError) in try AgentConfiguration.parse(bytes, path: "a").value }
        #expect(result.messages == "a:2:4: the file is not UTF-8 text (byte 0xff); expected UTF-8")
    }

    @Test("a text nested a thousand times deep, in three ways, is refused and traps nothing")
    func nesting() {
        for text in [
            String(repeating: "[", count: 5000), String(repeating: "{a: ", count: 5000),
            String(repeating: "- ", count: 5000),
            "a: " + String(repeating: "[", count: 900) + String(repeating: "]", count: 900),
        ] {
            #expect(agent(text).messages != "")
        }
    }

    @Test("aliases that unfold by powers cost no time")
    func unfolding() {
        var text = "a: &a [\(Array(repeating: "x", count: 20_000).joined(separator: ","))]\n"
        for (name, of) in [("b", "a"), ("c", "b")] {
            text += "\(name): &\(name) [*\(of), *\(of), *\(of)]\n"
        }
        text += "? *c\n: 1\n"
        var messages = ""
        let time = ContinuousClock().measure { messages = agent(text).messages }
        #expect(messages.contains("a mapping") || messages.contains("a list"))
        #expect(time < .seconds(30))
    }
}

@Suite("Hostile files: any bytes give a value or an error, never a trap")
struct FuzzTests {
    /// SplitMix64: the same bytes at every run.
    struct Generator: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var word = state
            word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
            word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
            return word ^ word >> 31
        }
    }

    private static let pieces = [
        "\"", "'", "{", "}", "[", "]", ":", "- ", "\n", "  ", "\t", "&a ", "*a", "!", "|", ">", "#", "? ", "---\n",
        "\\", "0",
        "-1", "99999999999999999999", "ms", "%", "\u{0}", "\u{85}", "é", "\u{10ffff}", "<<: ", "null", "~", "name: ",
    ].map { Array($0.utf8) }

    private func mutated(_ bytes: [UInt8], _ generator: inout Generator) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
            let place = Int.random(in: 0...bytes.count, using: &generator)
            switch Int.random(in: 0..<4, using: &generator) {
            case 0: bytes.insert(contentsOf: Self.pieces.randomElement(using: &generator) ?? [], at: place)
            case 1: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 0...12, using: &generator)))
            case 2: if place < bytes.count { bytes[place] = UInt8.random(in: 0...255, using: &generator) }
            default:
                let end = min(bytes.count, place + Int.random(in: 0...80, using: &generator))
                bytes.insert(contentsOf: bytes[place..<end], at: Int.random(in: 0...bytes.count, using: &generator))
            }
        }
        return bytes
    }

    @Test(arguments: ["etc/director.minimal.yaml", "etc/agent.yaml"])
    func mutations(of sample: String) throws {
        var generator = Generator(state: 1)
        let original = Array(try text(of: sample).utf8)
        var refused = 0
        for _ in 0..<700 {
            let bytes = mutated(original, &generator)
            let lines = bytes.count { $0 == 0x0a || $0 == 0x0d || $0 == 0x85 || $0 == 0xa8 || $0 == 0xa9 } + 2
            for error in [directorError(bytes), agentError(bytes)].compactMap(\.self) {
                refused += 1
                #expect(!error.diagnostics.isEmpty)
                for diagnostic in error.diagnostics {
                    let position = try #require(diagnostic.position)
                    #expect((1...lines).contains(position.line) && position.column >= 1)
                    #expect(!diagnostic.description.utf8.contains { $0 < 0x20 })
                }
            }
        }
        #expect(refused > 700)
    }

    private func directorError(_ bytes: [UInt8]) -> ConfigurationError? {
        do throws(ConfigurationError) {
            _ = try DirectorConfiguration.parse(bytes, path: "d", modules: modules)
            return nil
        } catch { return error }
    }

    private func agentError(_ bytes: [UInt8]) -> ConfigurationError? {
        do throws(ConfigurationError) {
            _ = try AgentConfiguration.parse(bytes, path: "a")
            return nil
        } catch { return error }
    }
}
