import Glibc
import Model
import Testing

@testable import LabKit

extension LabTests {
    @Suite(.serialized) struct Life {
        @Test func servesFilesAndLeavesNothing() throws {
            try withNetwork("tlife") { lab in
                let file = try #require(lab.file())
                let sum = try lab.run(
                    in: "client", command: ["sh", "-c", "curl -s http://192.0.2.12/large.bin | sha256sum"])
                #expect(sum.output.hasPrefix(file.sha256 + " "))
                let head = try lab.run(in: "client", command: ["curl", "-sI", "http://192.0.2.11/large.bin"]).output
                #expect(head.contains("Content-Length: \(file.size)"))
                let other = try lab.run(in: "client", command: ["curl", "-sI", "http://192.0.2.12/large.bin"]).output
                func tag(_ text: String) -> Substring? { text.split(separator: "\r\n").first { $0.hasPrefix("ETag") } }
                #expect(tag(head) != nil && tag(head) == tag(other))
                #expect(fileExists(lab.plan.pins) && mountPoints(below: lab.plan.directory) == [lab.plan.pins])
                var information = stat()
                #expect(stat(lab.plan.key, &information) == 0 && information.st_mode & 0o777 == 0o600)
            }
            #expect(try leftovers("tlife") == [])
        }

        @Test func slowReplyTakesASecond() throws {
            try withNetwork("tslow") { lab in
                let start = Instant.now()
                let reply = try lab.run(in: "client", command: ["curl", "-s", "http://192.0.2.11/slow"])
                let seconds = (Instant.now() - start).milliseconds / 1000
                #expect(reply.output == "an answer that took a second\n")
                #expect((0.95..<3).contains(seconds))
            }
        }

        @Test func twoLabsAtOnce() throws {
            try withNetwork("tone") { one in
                try withNetwork("ttwo") { two in
                    try one.kill("web1", how: .link)
                    let request = ["curl", "-s", "-m", "2", "-o", "/dev/null", "http://192.0.2.11/"]
                    #expect(try !one.run(in: "client", command: request).status.isSuccess)
                    #expect(try two.run(in: "client", command: request).status.isSuccess)
                }
                #expect(try leftovers("ttwo") == [])
                #expect(try one.node("web2").processes.allSatisfy(\.running))
            }
            #expect(try leftovers("tone") == [])
        }

        @Test func refusesASecondOfTheSameName() throws {
            try withNetwork("tsame") { lab in
                let second = try Lab(name: "tsame", options: networkOptions())
                #expect(throws: LabError.self) { try second.up() }
                #expect(try lab.node("web1").processes.allSatisfy(\.running))
            }
        }

        @Test func downAfterHalfAnUp() throws {
            let lab = try Lab(name: "thalf", options: networkOptions())
            // As if `up` had died between two steps: some namespaces, a mount, no state file.
            try require(["ip", "netns", "add", "baton-thalf-router"])
            try require(["ip", "netns", "add", "baton-thalf-web7"])
            try makeDirectory(lab.plan.pins)
            try require(["mount", "-t", "bpf", "bpf", lab.plan.pins])
            let stray = try ChildProcess(
                ["nsenter", "--net=/run/netns/baton-thalf-web7", "--", "sleep", "100"], output: .null, error: .null)
            pause(milliseconds: 100)
            try Lab.down(name: "thalf")
            #expect(try stray.wait(timeout: 5) == .signalled(SIGKILL))
            #expect(try leftovers("thalf") == [])
            try Lab.down(name: "thalf")
        }

        @Test func downKillsNobodyByAReusedNumber() throws {
            let bystander = try ChildProcess(["sleep", "100"], output: .null, error: .null)
            defer { bystander.end() }
            let lab = try Lab(name: "treuse", options: networkOptions())
            try makeDirectory(lab.plan.directory)
            var state = LabState(name: "treuse", backends: 2, daemons: false, programs: "/", webRoot: "/nowhere")
            var identity = bystander.identity
            identity.startTime += 1
            state.processes = [.init(node: "web1", role: "nginx", identity: identity, command: [])]
            try state.write(lab.plan)
            try Lab.down(name: "treuse")
            #expect(bystander.poll() == nil)
        }

        @Test(arguments: [SIGINT, SIGTERM])
        func signalWhileBuildingTakesItDown(number: Int32) throws {
            for delay in [150, 600, 1200] as [Int32] {
                let child = try ChildProcess(
                    [labProgram(), "up", "--without-daemons", "--lab", "tsignal", "--size", "300MB"], output: .null,
                    error: .null)
                pause(milliseconds: delay)
                child.signal(number)
                let status = try child.wait(timeout: 20)
                // It may have been quick: then the lab is up, and is meant to stay.
                if status.isSuccess { try Lab.down(name: "tsignal") } else { #expect(status == .exited(130)) }
                #expect(try leftovers("tsignal") == [])
            }
        }

        @Test func execGivesTheExitStatus() throws {
            try withNetwork("texec") { (_: Lab) throws in
                func run(_ command: String...) throws -> CommandResult {
                    try runCommand([labProgram(), "exec", "client", "--lab", "texec", "--"] + command)
                }
                #expect(try run("sh", "-c", "echo out; echo err >&2; exit 7").status == .exited(7))
                #expect(try run("sh", "-c", "echo out").output == "out\n")
                #expect(try run("sh", "-c", "kill -9 $$").status == .signalled(SIGKILL))
                #expect(try run("ip", "-br", "address", "show", "eth0").output.contains("198.51.100.2/24"))
            }
        }

        @Test(arguments: ["", "Upper", "with-hyphen", "a/b", "..", "abcdefghijklmnopqrstuvwxy"])
        func badNames(name: String) {
            #expect(throws: LabError.self) { try Lab(name: name) }
        }
    }
}
