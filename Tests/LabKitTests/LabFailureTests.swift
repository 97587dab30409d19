import Glibc
import Model
import Testing

@testable import LabKit

extension LabTests {
    @Suite(.serialized) struct Failures {
        /// Whether web1 answers, asked at its own address.
        private func answers(_ lab: Lab) throws -> Bool {
            try lab.run(
                in: "client", command: ["curl", "-s", "-m", "2", "-o", "/dev/null", "http://192.0.2.11/large.bin"]
            ).status.isSuccess
        }

        @Test(arguments: KillMode.allCases)
        func killAndRevive(how: KillMode) throws {
            try withNetwork("tkill", size: 1_000_000) { lab in
                #expect(try answers(lab))
                let bystander = try lab.spawn(in: "web1", command: ["sleep", "100"])
                pause(milliseconds: 50)
                try lab.kill("web1", how: how)
                #expect(try !answers(lab))
                let node = try lab.node("web1")
                #expect(node.processes.map(\.running) == [how == .link || how == .freeze])
                #expect(node.cable == (how == .link || how == .power ? "cut" : "connected"))
                #expect(node.frozen == (how == .freeze))
                #expect((bystander.poll() == nil) == (how != .power))
                if how == .freeze { #expect(ProcessEntry(bystander.process)?.state == "T") }
                #expect(try lab.node("web2").processes.allSatisfy(\.running))
                try lab.revive("web1")
                #expect(try answers(lab))
                #expect(try lab.node("web1").cable == "connected")
                bystander.end()
            }
            #expect(try leftovers("tkill") == [])
        }

        @Test func nobodyFinsAtPowerLoss() throws {
            try withNetwork("tpower") { lab in
                let download = try Download(lab: lab, slow("http://192.0.2.11/large.bin"))
                try waitUntil("the first bytes", timeout: 5) { download.bytes > 0 }
                try lab.kill("web1", how: .power)
                pause(milliseconds: 800)
                // A FIN or RST would have ended curl.
                #expect(!download.isFinished)
                download.cancel()
            }
        }

        @Test func rejectsUnknownNodes() throws {
            try withNetwork("tnode", size: 1000) { lab in
                for node in ["web3", "", "../web1", "router"] {
                    #expect(throws: LabError.self) { try lab.kill(node, how: .link) }
                }
            }
        }

        private func slow(_ url: String) -> Download.Request { Download.Request(url: url, rate: 4_000_000) }
    }
}
