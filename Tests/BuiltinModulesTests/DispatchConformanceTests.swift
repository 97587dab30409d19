import BuiltinModules
import Model
import ModuleInterfaces
import Testing

/// What every dispatch policy must hold, whoever wrote it; options included.
struct PolicyUnderTest: Sendable, CustomTestStringConvertible {
    var name: String
    var options: ModuleOptions
    var make: DispatchFactory

    var testDescription: String { "\(name) \(options.values.sorted { $0.key < $1.key }.map { "\($0)=\($1)" })" }

    /// Every built-in policy, with and without each of its options.
    static let builtin: [PolicyUnderTest] = BuiltinModules.registry.dispatch.flatMap { module in
        let usual = PolicyUnderTest(name: module.name, options: ModuleOptions(), make: module.make)
        return [usual]
            + module.keys.flatMap { key -> [PolicyUnderTest] in
                let values: [Int] =
                    switch key.kind {
                    case .flag: [1]
                    case .number(let numbers): numbers
                    }
                return values.map {
                    PolicyUnderTest(name: module.name, options: ModuleOptions([key.name: $0]), make: module.make)
                }
            }
    }

    func plan(_ weights: [UInt16]) -> DispatchPlan { make(options).plan(for: Self.backends(weights)) }

    static func backends(_ weights: [UInt16]) -> [DispatchBackend] {
        weights.enumerated().map { DispatchBackend(slot: SlotID(rawValue: UInt16($0) * 3), weight: $1) }
    }

    /// Whether the share of a back-end follows its weight.
    var weighs: Bool { !["rr", "lc", "dh", "fo", "ovf"].contains(name) }
    /// Whether the plan itself fixes the shares, rather than the load that comes of them.
    var fixesShares: Bool { ["rr", "wrr", "sh", "dh", "mh", "p2c"].contains(name) }
}

@Suite("Conformance of dispatch policies")
struct DispatchConformanceTests {
    @Test("No back-end, or none with a weight: nobody", arguments: PolicyUnderTest.builtin)
    func nobody(_ policy: PolicyUnderTest) {
        for weights: [UInt16] in [[], [0], [0, 0]] { #expect(policy.plan(weights).slots == []) }
    }

    static let mixes: [[UInt16]] = [
        [1], [65535], [1, 0, 2], [7, 7, 7], [1, 65535, 3], [0, 0, 5], Array(repeating: 65535, count: 256),
        Array(1...64),
    ]

    @Test("Known slots with a weight alone, every one of them, a plan that can be run", arguments: PolicyUnderTest.builtin)
    func everybody(_ policy: PolicyUnderTest) {
        for weights in Self.mixes {
            // A table of 251 places cannot hold more back-ends than places.
            if let size = policy.options.values["size"], size < weights.count * 4 { continue }
            let plan = policy.plan(weights)
            let backends = PolicyUnderTest.backends(weights)
            #expect(plan.fault(for: backends) == nil)
            #expect(plan.slots == backends.filter { $0.weight > 0 }.map(\.slot), "\(weights.prefix(8))")
        }
    }

    @Test("The same back-ends, the same plan", arguments: PolicyUnderTest.builtin)
    func deterministic(_ policy: PolicyUnderTest) {
        for weights in Self.mixes.prefix(5) { #expect(policy.plan(weights) == policy.plan(weights)) }
    }

    @Test("What a back-end has taken over is weighed with it, and gets nothing", arguments: PolicyUnderTest.builtin)
    func takenOver(_ policy: PolicyUnderTest) {
        var backends = PolicyUnderTest.backends([2, 1])
        backends[1].takenOver = [SlotID(rawValue: 1), SlotID(rawValue: 9)]
        let plan = policy.make(policy.options).plan(for: backends)
        #expect(plan.slots == [0, 3].map { SlotID(rawValue: $0) })
        guard plan.kind.usesCandidates else { return }
        for candidate in plan.candidates {
            #expect(candidate.takenOver == backends.first { $0.slot == candidate.slot }?.takenOver)
        }
    }

    /// The bound: at most a place above the share, and as many below as there are back-ends, for each of the others may
    /// have one too many.
    @Test("Shares of the table follow the weights", arguments: PolicyUnderTest.builtin.filter(\.fixesShares))
    func shares(_ policy: PolicyUnderTest) {
        for weights: [UInt16] in [[1, 1], [1, 2, 3], [10, 0, 5, 5], [100, 100, 100, 50], [3, 1, 4, 1, 5, 9, 2, 6]] {
            let table = policy.plan(weights).table
            let shares = policy.weighs ? weights.map(Int.init) : weights.map { $0 > 0 ? 1 : 0 }
            let total = shares.reduce(0, +)
            for (index, share) in shares.enumerated() {
                let places = table.count { $0.rawValue == UInt16(index) * 3 }
                let wanted = Double(table.count * share) / Double(total)
                #expect(
                    Double(places) <= wanted + 1 && Double(places) >= wanted - Double(weights.count),
                    "\(weights): back-end \(index) has \(places) of \(table.count) places, \(wanted) are its share")
            }
        }
    }

    @Test("Candidates carry the weights", arguments: PolicyUnderTest.builtin.filter { !$0.fixesShares })
    func weights(_ policy: PolicyUnderTest) {
        let candidates = policy.plan([4, 0, 65535, 4]).candidates
        if policy.name == "lc" {
            #expect(candidates.map(\.weight) == [1, 1, 1])
        } else if policy.weighs {
            #expect(candidates.map(\.weight) == [4, 65535, 4])
        } else {
            #expect(candidates.map(\.weight) == [65535, 4, 4])
            #expect(candidates.map(\.slot.rawValue) == [6, 0, 9])
        }
    }
}

@Suite("Disruption of hash tables")
struct DisruptionTests {
    /// The share of the others' places that changes hands when one back-end leaves.
    private func disruption(of policy: PolicyUnderTest, count: Int, leaving: Int) -> Double {
        var weights = [UInt16](repeating: 1, count: count)
        let before = plan(policy, weights)
        weights[leaving] = 0
        let after = plan(policy, weights)
        let gone = SlotID(rawValue: UInt16(leaving))
        var kept = 0
        var moved = 0
        for (old, new) in zip(before, after) where old != gone {
            if old == new { kept += 1 } else { moved += 1 }
        }
        return Double(moved) / Double(moved + kept)
    }

    private func plan(_ policy: PolicyUnderTest, _ weights: [UInt16]) -> [SlotID] {
        policy.make(policy.options).plan(
            for: weights.enumerated().map { DispatchBackend(slot: SlotID(rawValue: UInt16($0)), weight: $1) }
        ).table
    }

    private func policy(_ name: String, _ options: [String: Int] = [:]) throws -> PolicyUnderTest {
        PolicyUnderTest(
            name: name, options: ModuleOptions(options), make: try #require(BuiltinModules.registry.dispatch(named: name)))
    }

    @Test(
        "Maglev at 65,537: less than 0.6 % of the others' share moves when 1 of N leaves",
        arguments: [3, 4, 5, 7, 10, 16, 32, 50, 100, 200, 256, 333, 500, 750, 1000])
    func maglev(count: Int) throws {
        let mh = try policy("mh")
        for leaving in Set([0, count / 2, count - 1]) {
            let moved = disruption(of: mh, count: count, leaving: leaving)
            #expect(moved < 0.006, "N = \(count), back-end \(leaving) leaves: \(moved * 100) % move")
        }
    }

    @Test("sh and dh: a small table moves a little more, but never a tenth", arguments: ["sh", "dh"])
    func small(name: String) throws {
        for count in [2, 3, 4, 8, 16] {
            #expect(disruption(of: try policy(name), count: count, leaving: 1) < 0.05)
        }
    }

    @Test("Every size of mh: filled, with each back-end's share", arguments: [251, 509, 4093, 65521, 65537, 131_071])
    func sizes(size: Int) throws {
        let table = plan(try policy("mh", ["size": size]), [1, 1, 1, 1, 1])
        #expect(table.count == size)
        for slot in UInt16(0)..<5 {
            let places = table.count { $0.rawValue == slot }
            #expect((size / 5 - 4...size / 5 + 1).contains(places))
        }
    }
}
