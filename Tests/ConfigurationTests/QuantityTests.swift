import Model
import Testing

@testable import Configuration

@Suite("Durations, sizes and suggestions")
struct QuantityTests {
    @Test(
        "durations are read and written",
        arguments: [
            ("1ns", 1), ("999us", 999_000), ("10ms", 10_000_000), ("2s", 2_000_000_000), ("1m", 60_000_000_000),
            ("3h", 10_800_000_000_000),
        ]
    )
    func durations(text: String, nanoseconds: Int64) {
        let kind = ValueKind<Interval>.duration(in: .zero...Interval(nanoseconds: .max))
        guard case .value(let interval) = kind.read(ScalarText(text: text, isPlain: true)) else {
            Issue.record("\(text) was refused")
            return
        }
        #expect(interval == Interval(nanoseconds: nanoseconds))
        #expect(durationText(interval) == text)
    }

    @Test("a duration is written in the largest unit that says it whole")
    func durationTexts() {
        #expect(durationText(.milliseconds(1500)) == "1500ms")
        #expect(durationText(.seconds(120)) == "2m")
        #expect(durationText(.zero) == "0s")
    }

    @Test(
        "sizes are read and written",
        arguments: [
            ("1B", 1, "1B"), ("64KiB", 65_536, "64KiB"), ("1MB", 1_000_000, "1000000B"), ("2GiB", 2 << 30, "2GiB"),
            ("1_024KiB", 1 << 20, "1MiB"),
        ]
    )
    func sizes(text: String, bytes: Int, written: String) {
        guard case .value(let size) = ValueKind<Int>.size(in: 0...Int.max).read(ScalarText(text: text, isPlain: true))
        else {
            Issue.record("\(text) was refused")
            return
        }
        #expect(size == bytes)
        #expect(sizeText(size) == written)
    }

    @Test(
        "the nearest name",
        arguments: [
            ("weigth", "weight"), ("Weight", "weight"), ("wieght", "weight"), ("nmae", "name"), ("addres", "address"),
            ("addr", "address"), ("x", nil), ("", nil), ("colour", nil), ("adr", nil),
        ] as [(String, String?)]
    )
    func suggestions(text: String, expected: String?) {
        #expect(nearest(to: text, among: ["name", "address", "weight"]) == expected)
    }

    @Test("what was found stays on one line and short")
    func quoting() {
        #expect(quoted("a\"b\\c\nd\te\u{7f}\u{202e}") == #""a\"b\\c\nd\te\u{7f}\u{202e}""#)
        #expect(quoted(String(repeating: "é", count: 65)) == "\"" + String(repeating: "é", count: 64) + "...\"")
    }

    @Test("alternatives are a sentence")
    func sentences() {
        #expect(alternatives([]) == "")
        #expect(alternatives(["a"]) == "a")
        #expect(alternatives(["a", "b"]) == "a or b")
        #expect(alternatives(["a", "b", "c"]) == "a, b or c")
    }
}
