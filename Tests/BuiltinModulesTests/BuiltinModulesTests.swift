import BuiltinModules
import Model
import ModuleInterfaces
import Testing

@Suite("Registry")
struct RegistryTests {
    @Test("Every built-in module is found by its name")
    func names() {
        let registry = BuiltinModules.registry
        #expect(registry.dispatch.map(\.name) == ["rr", "wrr", "sh"])
        #expect(registry.forwarding.map(\.name) == ["selective", "multicast", "duplicate", "owner"])
        #expect(registry.detection.map(\.name) == ["window", "phi"])
        #expect(registry.ring.map(\.name) == ["successor"])
        #expect(registry.dispatch(named: "rr") != nil)
        #expect(registry.forwarding(named: "selective")?().dataPlaneNumber == 2)
        #expect(registry.forwarding(named: "multicast")?().dataPlaneNumber == 1)
        #expect(registry.forwarding(named: "duplicate")?().dataPlaneNumber == 0)
        #expect(registry.forwarding(named: "duplicate")?().usesGroups == false)
        #expect(registry.forwarding(named: "owner")?().dataPlaneNumber == 3)
        #expect(registry.ring(named: "phi") == nil)
    }

    @Test("A name that is taken is refused")
    func twice() {
        var registry = BuiltinModules.registry
        let another = ModuleDescriptor<DispatchFactory>(name: "rr", version: "9", summary: "", make: { Nobody() })
        let taken = registry.register(dispatch: another)
        #expect(!taken)
        #expect(registry.dispatch.count == 3)
        let plan = registry.dispatch(named: "rr")?().plan(for: [DispatchBackend(slot: SlotID(rawValue: 4), weight: 1)])
        #expect(plan?.table == [SlotID(rawValue: 4)])
    }

    private struct Nobody: DispatchPolicy {
        func plan(for backends: [DispatchBackend]) -> DispatchPlan { .nobody }
    }
}

/// What every dispatch policy must hold.
@Suite("Dispatch policies")
struct DispatchTests {
    static let policies = BuiltinModules.registry.dispatch.map(\.name)

    private func plan(_ name: String, _ weights: [UInt16]) -> DispatchPlan? {
        BuiltinModules.registry.dispatch(named: name)?().plan(
            for: weights.enumerated().map { DispatchBackend(slot: SlotID(rawValue: UInt16($0) * 3), weight: $1) })
    }

    @Test("No back-end, or none with a weight: an empty table", arguments: policies)
    func nobody(_ name: String) {
        #expect(plan(name, [])?.table == [])
        #expect(plan(name, [0, 0])?.table == [])
    }

    @Test("Only slots with a weight, every one of them, within the bound, the same each time", arguments: policies)
    func everybody(_ name: String) throws {
        for weights: [UInt16] in [[1], [1, 0, 2], [7, 7, 7], [1, 65535, 3], Array(repeating: 65535, count: 256)] {
            let plan = try #require(self.plan(name, weights))
            let wanted = Set(weights.indices.filter { weights[$0] > 0 }.map { SlotID(rawValue: UInt16($0) * 3) })
            #expect(Set(plan.table) == wanted)
            #expect(plan.table.count <= DispatchPlan.longestTable)
            #expect(self.plan(name, weights) == plan)
        }
    }

    @Test("rr: each once, by slot")
    func roundRobin() {
        #expect(plan("rr", [5, 1, 0, 2])?.table.map(\.rawValue) == [0, 3, 9])
    }

    @Test("wrr: in proportion, interleaved")
    func weighted() {
        #expect(plan("wrr", [10, 5, 5])?.table.map(\.rawValue) == [0, 3, 6, 0])
        #expect(plan("wrr", [5, 1, 1])?.table.map(\.rawValue) == [0, 0, 3, 0, 6, 0, 0])
    }

    @Test("sh: a leaving back-end moves its own places only, and each has a fair share")
    func sourceHash() throws {
        let before = try #require(plan("sh", [1, 1, 1, 1]))
        let after = try #require(plan("sh", [1, 0, 1, 1]))
        for (old, new) in zip(before.table, after.table) where old.rawValue != 3 { #expect(old == new) }
        for slot: UInt16 in [0, 3, 6, 9] {
            let share = before.table.count { $0.rawValue == slot }
            #expect((200...310).contains(share))
        }
    }
}

@Suite("Window detector")
struct WindowTests {
    @Test("Suspects after the window of silence, neither earlier nor later, and forgives a late heartbeat")
    func window() {
        let start = Instant(nanoseconds: 1_000_000_000)
        var detector = WindowDetector(
            DetectorParameters(interval: .milliseconds(10), window: .milliseconds(50), start: start))
        #expect(detector.deadline == start + .milliseconds(50))
        #expect(!detector.suspects(at: start + .milliseconds(50) - Interval(nanoseconds: 1)))
        #expect(detector.suspects(at: start + .milliseconds(50)))
        detector.heartbeat(at: start + .milliseconds(60))
        #expect(!detector.suspects(at: start + .milliseconds(109)))
        // A clock that seems to go back must not bring the deadline forward.
        detector.heartbeat(at: start)
        #expect(detector.deadline == start + .milliseconds(110))
    }
}

@Suite("Successor ring")
struct RingTests {
    private func backups(_ count: Int, _ successors: Int) -> [[Int]] {
        SuccessorRing().backups(of: (0..<count).map { BackendID(rawValue: UInt16($0)) }, count: successors)
            .map { $0.map { Int($0.rawValue) } }
    }

    @Test("The next N, round the ring, never oneself")
    func successors() {
        #expect(backups(0, 1) == [])
        #expect(backups(1, 2) == [[]])
        #expect(backups(2, 1) == [[1], [0]])
        #expect(backups(3, 1) == [[1], [2], [0]])
        #expect(backups(4, 2) == [[1, 2], [2, 3], [3, 0], [0, 1]])
        #expect(backups(3, 3) == [[1, 2], [2, 0], [0, 1]])
        #expect(backups(3, 0) == [[], [], []])
    }

    @Test("Every member backs up as many as back it up")
    func balance() {
        for count in 2...9 {
            for successors in 1..<count {
                let all = backups(count, successors).flatMap { $0 }
                for member in 0..<count { #expect(all.count { $0 == member } == successors) }
            }
        }
    }
}
