import BuiltinModules
import Model
import ModuleInterfaces
import Testing

@Suite("Registry")
struct RegistryTests {
    @Test("Every built-in module is found by its name")
    func names() {
        let registry = BuiltinModules.registry
        #expect(registry.dispatch.map(\.name) == [
            "rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "dh", "lblc", "lblcr", "fo", "ovf", "mh", "p2c",
        ])
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
        let another = ModuleDescriptor<DispatchFactory>(name: "rr", version: "9", summary: "", make: { _ in Nobody() })
        let taken = registry.register(dispatch: another)
        #expect(!taken)
        #expect(registry.dispatch.count == 14)
        let plan = registry.dispatch(named: "rr")?(ModuleOptions())
            .plan(for: [DispatchBackend(slot: SlotID(rawValue: 4), weight: 1)])
        #expect(plan?.table == [SlotID(rawValue: 4)])
    }

    private struct Nobody: DispatchPolicy {
        func plan(for backends: [DispatchBackend]) -> DispatchPlan { .nobody }
    }
}

/// Plans of single policies, told place by place.
@Suite("Dispatch policies")
struct DispatchTests {
    private func plan(_ name: String, _ weights: [UInt16], _ options: [String: Int] = [:]) -> DispatchPlan? {
        BuiltinModules.registry.dispatch(named: name)?(ModuleOptions(options))
            .plan(for: PolicyUnderTest.backends(weights))
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

    /// What ipvsadm(8) says of each scheduler, as the kind and rule of the plan that says it to the data plane.
    static let documented: [(String, [String: Int], DispatchPlan.Kind, DispatchPlan.Rule)] = [
        ("rr", [:], .counter, .overhead), ("wrr", [:], .counter, .overhead),
        ("lc", [:], .least, .overhead), ("wlc", [:], .least, .overhead),
        ("sed", [:], .least, .delay), ("nq", [:], .least, .idleFirst),
        ("sh", [:], .hashSource, .overhead), ("sh", ["port": 1], .hashClient, .overhead),
        ("mh", [:], .hashSource, .overhead), ("mh", ["port": 1], .hashClient, .overhead),
        ("dh", [:], .hashDestination, .overhead),
        ("lblc", [:], .cache, .overhead), ("lblcr", [:], .cacheSet, .overhead),
        ("fo", [:], .first, .any), ("ovf", [:], .first, .overflow), ("p2c", [:], .twoChoices, .delay),
    ]

    @Test("Kinds and rules", arguments: documented)
    func kinds(_ name: String, _ options: [String: Int], _ kind: DispatchPlan.Kind, _ rule: DispatchPlan.Rule) throws {
        let plan = try #require(self.plan(name, [1, 2], options))
        #expect(plan.kind == kind && plan.rule == rule)
        #expect(!plan.fallsBack)
        if ["sh", "mh"].contains(name) { #expect(self.plan(name, [1, 2], ["fallback": 1])?.fallsBack == true) }
        #expect(plan.cacheSeconds == (["lblc", "lblcr"].contains(name) ? 86_400 : 0))
    }

    @Test("A plan that cannot be run is found out")
    func faults() {
        let backends = PolicyUnderTest.backends([1, 0, 1])
        let slot = { SlotID(rawValue: $0) }
        let faulty = [
            DispatchPlan(kind: .counter, table: [slot(3)]), DispatchPlan(kind: .counter, table: [slot(4)]),
            DispatchPlan(kind: .counter, table: [slot(0xffff)]), DispatchPlan(kind: .least, table: [slot(0)]),
            DispatchPlan(kind: .counter, candidates: [.init(slot: slot(0), weight: 1)]),
            DispatchPlan(kind: .least, candidates: [.init(slot: slot(0), weight: 0)]),
            DispatchPlan(
                kind: .least, candidates: [.init(slot: slot(0), weight: 1), .init(slot: slot(0), weight: 1)]),
            DispatchPlan(kind: .twoChoices, table: [slot(0)], candidates: [.init(slot: slot(6), weight: 1)]),
            DispatchPlan(kind: .counter, table: Array(repeating: slot(0), count: DispatchPlan.longestTable + 1)),
        ]
        for plan in faulty { #expect(plan.fault(for: backends) != nil) }
        #expect(DispatchPlan.nobody.fault(for: backends) == nil)
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
