import Model
import Testing

@testable import LabKit

@Suite struct ReportTests {
    private let takeover = """
        {"slot": 2, "victim": "web2", "backup": "web3", "detected_ns": 1048000000, "ordered_ns": 1048100000,
         "probe_first_ns": 1049000000, "adopted_first_ns": 1050000000, "first_new_byte_ns": 1090000000,
         "settled_ns": null, "connections": 1, "adopted": 1, "reset": {"journal-hole": 0}, "more": [1]}
        """

    @Test func decodesATakeover() throws {
        let report = try #require(TakeoverReport(JSONValue(text: takeover)))
        #expect(report.victim == "web2" && report.backup == "web3" && report.slot == 2)
        #expect(report.detectedNs == 1_048_000_000 && report.firstNewByteNs == 1_090_000_000)
        #expect(report.settledNs == nil && report.firstReplyNs == nil)
        #expect(report.reset == ["journal-hole": 0])
    }

    @Test func refusesWhatIsNone() throws {
        #expect(try TakeoverReport(JSONValue(text: "{}")) == nil)
        #expect(try TakeoverReport(JSONValue(text: "[1]")) == nil)
    }

    private func report(right: Bool = true, before: String = "web2", after: String? = "web3") throws -> DemoReport {
        var report = DemoReport(
            how: "link", victim: "web2", backup: "web3", failureNs: 1_000_000_000, bytesAtFailure: 10, size: 20,
            sha256: "aa", takeover: TakeoverReport(try JSONValue(text: takeover)), clients: [], complaints: [])
        report.clients = [
            .init(
                before: before, after: after, bytes: 20, sha256: right ? "aa" : "bb", right: right, stallMs: 61,
                arrivalStallMs: 95, error: "")
        ]
        report.judge()
        return report
    }

    @Test func judges() throws {
        #expect(try report().passed)
        #expect(try !report(right: false).passed)
        #expect(try !report(after: nil).passed)
        #expect(try !report(after: "web2").passed)
        #expect(try !report(before: "web1", after: "web1").passed)
    }

    @Test func timelineIsInOrderAndNamesAll() throws {
        let lines = Demo.timeline(try report())
        let text = lines.joined(separator: "\n")
        let words = [
            "cable cut", "detection", "order", "probe", "adoption", "new byte", "served before", "served after",
        ]
        var place = text.startIndex
        for word in words {
            let found = try #require(text[place...].range(of: word), "\(word) is missing or out of order")
            place = found.upperBound
        }
        #expect(text.contains("   48.000 ms  detection"))
        #expect(text.contains("95.0 ms without a new byte"))
        #expect(text.contains("61.0 ms longest pause of curl"))
        #expect(text.contains("right: the same connection"))
        #expect(Demo.timeline(try report(right: false)).contains { $0.hasPrefix("wrong: client 1") })
    }
}

extension Substring {
    /// The first place of a word; Foundation's is not needed for that.
    fileprivate func range(of word: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(word) { return start..<index(start, offsetBy: word.count) }
            start = index(after: start)
        }
        return nil
    }
}
