import Cluster
import Logging
import Model
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import HealthKit

@Suite("Health monitor", .serialized)
struct HealthMonitorTests {
    /// Passes and fails as it is told; or never ends.
    private final class Switch: HealthCheck {
        enum Manner: Sendable { case passing, failing, hanging }

        let manner: Mutex<Manner>

        init(_ manner: Manner) { self.manner = Mutex(manner) }

        func set(_ new: Manner) { manner.withLock { $0 = new } }

        func begin(_ run: CheckRun) {
            switch manner.withLock({ $0 }) {
            case .passing: run.pass()
            case .failing: run.fail("told to")
            case .hanging: break
            }
        }
    }

    private final class Changes: Sendable {
        private let all = Mutex<[String]>([])
        func add(_ text: String) { all.withLock { $0.append(text) } }
        var list: [String] { all.withLock { $0 } }
    }

    private func item(_ check: Switch, backend: String = "web1", kind: String = "tcp") -> HealthMonitor.Item {
        let endpoint = Endpoint(address: IPAddress(ipv4: 0x7f00_0001), port: 80)
        return HealthMonitor.Item(
            target: CheckTarget(service: "web", backend: backend, endpoint: endpoint),
            kind: kind,
            schedule: HealthSchedule(
                rules: HealthRules(rise: 2, fall: 2), interval: .milliseconds(20), jitter: 10,
                timeout: .milliseconds(10)),
            check: check
        )
    }

    private func wait(_ what: String, until holds: () -> Bool) async throws {
        for _ in 0..<500 {
            if holds() { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record("\(what): not within five seconds")
    }

    @Test("a subject is up while all of its checks are; changes are told once, with why")
    func subjects() async throws {
        let changes = Changes()
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let monitor = HealthMonitor(loop: loop, logger: Logger(label: "test")) { subject, isUp in
            changes.add("\(subject.service) \(subject.backend) \(isUp ? "up" : "down")")
        }
        let (first, second, other) = (Switch(.passing), Switch(.passing), Switch(.passing))
        monitor.set([item(first), item(second, kind: "http"), item(other, backend: "web2")])
        try await wait("some outcomes") { monitor.states.count == 3 && monitor.states.allSatisfy { $0.passed > 3 } }
        #expect(changes.list == [])
        first.set(.failing)
        try await wait("down") { changes.list == ["web web1 down"] }
        #expect(monitor.states[0].failure == "told to" && monitor.states[2].isUp)
        second.set(.hanging)
        try await wait("the other check down too") { !monitor.states[1].isUp }
        #expect(monitor.states[1].failure == "no answer within the timeout")
        first.set(.passing)
        try await wait("the first check up") { monitor.states[0].isUp }
        #expect(changes.list == ["web web1 down"], "one of two fails still")
        second.set(.passing)
        try await wait("up") { changes.list == ["web web1 down", "web web1 up"] }
        #expect(monitor.states[0].changes == 2)
        monitor.stop()
        try await wait("the end") { monitor.states.isEmpty }
    }

    @Test("a check that is taken away does not keep its subject down")
    func taken() async throws {
        let changes = Changes()
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let monitor = HealthMonitor(loop: loop, logger: Logger(label: "test")) { subject, isUp in
            changes.add("\(subject.backend) \(isUp ? "up" : "down")")
        }
        monitor.set([item(Switch(.failing)), item(Switch(.passing), backend: "web2")])
        try await wait("down") { changes.list == ["web1 down"] }
        monitor.set([item(Switch(.passing), backend: "web2")])
        try await wait("up") { changes.list == ["web1 down", "web1 up"] }
        monitor.stop()
    }
}
