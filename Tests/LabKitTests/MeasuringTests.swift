import Glibc
import Model
import Testing

@testable import LabKit

extension LabTests {
    @Suite(.serialized) struct Measuring {
        private let url = "http://192.0.2.11/large.bin"

        @Test func curlGetsTheFile() throws {
            try withNetwork("tcurl") { lab in
                let file = try #require(lab.file())
                let download = try Download(lab: lab, Download.Request(url: url, rate: 20_000_000))
                try waitUntil("curl's port", timeout: 5) { download.localPort != nil }
                let port = try #require(download.localPort)
                #expect(try lab.servers(ofClientPorts: [port]) == [port: ["web1"]])
                let result = try download.result(timeout: 30)
                #expect(result.matches(file))
                #expect(result.httpStatus == 200 && result.localPort == port && result.error == "")
                #expect(result.longestArrivalGap != nil)
            }
        }

        /// A cut cable of 300 ms is a stall that both clients report, within what retransmission adds.
        @Test func seesAStall() throws {
            try withNetwork("tstall") { lab in
                let file = try #require(lab.file())
                var request = BulkDownload.Request()
                request.count = 3
                request.to = try #require(Endpoint("192.0.2.11:80"))
                request.rate = 5_000_000
                request.receiveBuffer = 65536
                let bulk = try BulkDownload(lab: lab, request)
                let curl = try Download(lab: lab, Download.Request(url: url, rate: 8_000_000))
                try waitUntil("some bytes", timeout: 10) { bulk.progress.bytes > 3_000_000 && curl.bytes > 2_000_000 }
                let cut = try lab.kill("web1", how: .link)
                pause(milliseconds: 300)
                try lab.revive("web1")
                let results = try bulk.results(timeout: 60)
                #expect(results.count == 3)
                for result in results {
                    #expect(result.matches(file), "\(result.error)")
                    #expect((290..<1500).contains(result.stall(after: cut)), "\(result.stall(after: cut)) ms")
                }
                let result = try curl.result(timeout: 60)
                #expect(result.matches(file))
                #expect((290..<1500).contains(result.arrivalStall(after: cut)), "\(result.arrivalStall(after: cut)) ms")
            }
        }

        @Test func aHundredAtOnceWithoutAStall() throws {
            try withNetwork("tbulk", size: 4_000_000) { lab in
                let file = try #require(lab.file())
                var request = BulkDownload.Request()
                request.to = try #require(Endpoint("192.0.2.12:80"))
                request.rate = 1_000_000
                let results = try BulkDownload(lab: lab, request).results(timeout: 60)
                #expect(results.count == 100 && results.allSatisfy { $0.matches(file) })
                #expect(Set(results.map(\.localPort)).count == 100)
                let seconds = results.map { Double($0.endNs - $0.startNs) / 1e9 }
                #expect(seconds.allSatisfy { (3.5..<8).contains($0) })
            }
        }

        @Test func aThousandAtOnce() throws {
            try withNetwork("tkilo", size: 100_000) { lab in
                let file = try #require(lab.file())
                var request = BulkDownload.Request()
                request.count = 1000
                request.to = try #require(Endpoint("192.0.2.11:80"))
                let results = try BulkDownload(lab: lab, request).results(timeout: 60)
                #expect(results.count { $0.matches(file) } == 1000, "\(Set(results.map(\.error)))")
            }
        }

        @Test func stopsReadingAndGoesOn() throws {
            try withNetwork("tpause") { lab in
                let file = try #require(lab.file())
                var request = BulkDownload.Request()
                request.count = 2
                request.to = try #require(Endpoint("192.0.2.11:80"))
                request.rate = 0
                let bulk = try BulkDownload(lab: lab, request)
                try waitUntil("connects", timeout: 5) { bulk.progress.connected == 2 }
                pause(milliseconds: 500)
                #expect(bulk.progress.bytes == 0)
                bulk.setRate(nil)
                #expect(try bulk.results(timeout: 30).allSatisfy { $0.matches(file) })
            }
        }

        @Test func wrongBytesAndBreaksAreSeen() throws {
            try withNetwork("twrong", size: 500_000) { lab in
                let file = try #require(lab.file())
                let other = try lab.publish("/other.bin", size: 500_000, seed: 2)
                #expect(other.sha256 != file.sha256)
                let download = try Download(lab: lab, Download.Request(url: "http://192.0.2.11/other.bin"))
                let result = try download.result(timeout: 10)
                #expect(!result.matches(file) && result.matches(other))
                let missing = try Download(lab: lab, Download.Request(url: "http://192.0.2.99/large.bin"))
                #expect(try missing.result(timeout: 30).exitCode != 0)
            }
        }
    }
}
