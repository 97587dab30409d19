import Model
import Testing

@testable import LabKit

@Suite struct KernelTextTests {
    @Test func socketLine() throws {
        let line = "   2: 640200C0:0050 026433C6:99D4 01 00000000:00000000 02:000A 00000000 33 0 4711 2 0"
        let entry = try #require(KernelSockets.parse(Substring(line)))
        #expect(entry.local == Endpoint("192.0.2.100:80"))
        #expect(entry.remote == LabPlan.clientAddress && entry.remotePort == 0x99d4 && entry.state == 1)
        #expect(KernelSockets.parse("sl local_address rem_address st") == nil)
        #expect(KernelSockets.parse("") == nil)
    }

    @Test func socketLineOfIPv6() throws {
        let line = "   0: B80D0120000002000000000064000000:0050 B80D0120000064000000000002000000:99D4 01 0:0 0 0 0 1"
        let entry = try #require(KernelSockets.parse(Substring(line)))
        #expect(entry.local == Endpoint(address: LabPlan.virtualAddress6, port: 80))
        #expect(entry.remote == LabPlan.clientAddress6 && entry.remotePort == 0x99d4)
        let mapped = "   0: 0000000000000000FFFF0000640200C0:0050 00000000000000000000000000000000:0000 0A 0:0 0"
        let listener = try #require(KernelSockets.parse(Substring(mapped)))
        #expect(listener.local == Endpoint(address: LabPlan.virtualAddress, port: 80) && listener.remotePort == 0)
    }

    @Test func ownProcess() throws {
        let own = try #require(ProcessIdentity(current: 1))
        #expect(own.isAlive)
        #expect(!ProcessIdentity(process: 1, startTime: own.startTime + 1).isAlive)
    }

    @Test func statusText() {
        #expect(ExitStatus(waitStatus: 0x0700) == .exited(7))
        #expect(ExitStatus(waitStatus: 9) == .signalled(9))
        #expect(ExitStatus(waitStatus: 0x8b) == .signalled(11))
        #expect(ExitStatus.signalled(15).shellCode == 143)
    }

    @Test func configurationOfTheDaemons() throws {
        var options = LabOptions()
        options.extraServices = [.init(name: "ssh", port: 22, replay: "none")]
        let files = DaemonConfiguration(plan: try LabPlan(name: "lab", backends: 3), options: options)
        #expect(files.director.contains("address: 192.0.2.100:80"))
        #expect(files.director.contains("- name: ssh\n    address: 192.0.2.100:22\n    policy: rr\n    replay: none"))
        #expect(files.director.contains("interval: 10ms") && files.director.contains("window: 50ms"))
        #expect(files.agent("web2").contains("name: web2\ndirector: 192.0.2.2\n"))
    }
}
