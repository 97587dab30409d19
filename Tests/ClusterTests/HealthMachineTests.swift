import Model
import Testing

@testable import Cluster

@Suite("Health machine")
struct HealthMachineTests {
    private static func instant(_ milliseconds: Int64) -> Instant {
        Instant(nanoseconds: 1_000_000_000_000) + .milliseconds(milliseconds)
    }

    struct Outcomes: CustomTestStringConvertible, Sendable {
        var name: String
        var rise: Int
        var fall: Int
        var startsUp: Bool
        /// `+` passed, `-` failed.
        var outcomes: String
        /// After each: `U` up, `d` down.
        var states: String
        var testDescription: String { name }
    }

    static let tables = [
        Outcomes(name: "down until it has risen", rise: 2, fall: 3, startsUp: false, outcomes: "+-++", states: "dddU"),
        Outcomes(name: "up until it has fallen", rise: 2, fall: 3, startsUp: false, outcomes: "++--+---", states: "dUUUUUUd"),
        Outcomes(name: "unknown: one failure", rise: 2, fall: 3, startsUp: true, outcomes: "-+-++", states: "ddddU"),
        Outcomes(name: "unknown: a pass first", rise: 2, fall: 3, startsUp: true, outcomes: "+--+---", states: "UUUUUUd"),
        Outcomes(name: "one suffices", rise: 1, fall: 1, startsUp: false, outcomes: "+-+-", states: "UdUd"),
    ]

    @Test("rise and fall", arguments: tables)
    func counts(_ table: Outcomes) {
        var tally = HealthTally(HealthRules(rise: table.rise, fall: table.fall), isUp: table.startsUp)
        var states = ""
        for (index, outcome) in table.outcomes.enumerated() {
            let before = tally.isUp
            let changed = tally.count(outcome == "+", now: Self.instant(Int64(index)))
            #expect(changed == (before != tally.isUp))
            states += tally.isUp ? "U" : "d"
        }
        #expect(states == table.states)
    }

    /// `#expect` cannot hold a mutating call.
    private final class Counting {
        var tally: HealthTally
        var heldUntil: Instant? { tally.heldUntil }

        init(_ rules: HealthRules, isUp: Bool) { tally = HealthTally(rules, isUp: isUp) }

        func count(_ passed: Bool, now: Instant) -> Bool { tally.count(passed, now: now) }
        func becomeDown(now: Instant) { tally.becomeDown(now: now) }
    }

    @Test("what is made down needs to rise again")
    func madeDown() {
        let tally = Counting(HealthRules(rise: 2, fall: 3), isUp: false)
        _ = tally.count(true, now: Self.instant(0))
        #expect(tally.count(true, now: Self.instant(1)))
        tally.becomeDown(now: Self.instant(2))
        #expect(!tally.count(true, now: Self.instant(2)))
        #expect(tally.count(true, now: Self.instant(3)))
    }

    // MARK: Dampening

    private static let dampened = HealthRules(
        rise: 1, fall: 1, dampening: .init(changes: 4, within: .seconds(10), hold: .seconds(5)))

    @Test("too many changes: held down, longer each time, and forgiven after a calm time")
    func dampening() throws {
        let tally = Counting(Self.dampened, isUp: false)
        for (index, passed) in [true, false, true].enumerated() {
            #expect(tally.count(passed, now: Self.instant(Int64(index) * 100)))
        }
        // The fourth change within 10 s.
        #expect(tally.count(false, now: Self.instant(300)))
        #expect(tally.heldUntil == Self.instant(5300))
        #expect(!tally.count(true, now: Self.instant(5299)))
        #expect(tally.count(true, now: Self.instant(5300)))
        #expect(tally.heldUntil == nil)
        // Again: twice as long.
        #expect(tally.count(false, now: Self.instant(5400)))
        #expect(tally.heldUntil == Self.instant(15_400))
        #expect(tally.count(true, now: Self.instant(15_400)))
        // Up for 20 s: the next fall is an ordinary one, and after it the first hold is a short one again.
        #expect(tally.count(false, now: Self.instant(35_400)))
        #expect(tally.heldUntil == nil)
        for step in 1...2 { #expect(tally.count(step == 1, now: Self.instant(35_400 + Int64(step)))) }
        #expect(tally.heldUntil == nil, "three changes within 10 s")
        for step in 3...4 { #expect(tally.count(step == 3, now: Self.instant(35_400 + Int64(step)))) }
        #expect(tally.heldUntil == Self.instant(40_404))
    }

    @Test("what is made down counts as a change, and once only")
    func madeDownTooOften() {
        let tally = Counting(Self.dampened, isUp: false)
        for step in 0..<2 {
            #expect(tally.heldUntil == nil)
            #expect(tally.count(true, now: Self.instant(Int64(step) * 100)))
            tally.becomeDown(now: Self.instant(Int64(step) * 100 + 50))
            tally.becomeDown(now: Self.instant(Int64(step) * 100 + 60))
        }
        #expect(tally.heldUntil == Self.instant(5150))
        #expect(tally.tally.changeCount == 4 && tally.tally.changedAt == Self.instant(150))
        #expect(!tally.count(true, now: Self.instant(5149)))
        #expect(tally.count(true, now: Self.instant(5150)))
    }

    @Test("without rules: outcomes are nobody's business here, only the pace is kept")
    func uncounted() {
        var machine = HealthMachine(
            HealthSchedule(rules: nil, interval: .seconds(1), jitter: 0, timeout: .milliseconds(100)))
        var effects: [HealthEffect] = []
        machine.handle(.start, now: Self.instant(0), random: 0, into: &effects)
        machine.handle(.timer, now: Self.instant(100), random: 0, into: &effects)
        machine.handle(.timer, now: Self.instant(1000), random: 0, into: &effects)
        machine.handle(.ended(attempt: 2, passed: false), now: Self.instant(1001), random: 0, into: &effects)
        #expect(
            effects == [
                .begin(attempt: 1), .timer(Self.instant(100)), .cancel(attempt: 1), .timer(Self.instant(1000)),
                .begin(attempt: 2), .timer(Self.instant(1100)), .timer(Self.instant(2000)),
            ])
        #expect(machine.isUp)
    }

    @Test("a hold is never longer than eight times the first")
    func longestHold() throws {
        let tally = Counting(
            HealthRules(rise: 1, fall: 1, dampening: .init(changes: 2, within: .seconds(3600), hold: .seconds(1))),
            isUp: false)
        var now = Self.instant(0)
        var holds: [Int64] = []
        for _ in 0..<7 {
            #expect(tally.count(true, now: now))
            #expect(tally.count(false, now: now))
            let until = try #require(tally.heldUntil)
            holds.append((until - now).nanoseconds / 1_000_000_000)
            now = until
        }
        #expect(holds == [1, 2, 4, 8, 8, 8, 8])
    }

    // MARK: Schedule

    private func machine(jitter: Int = 0, rise: Int = 1, fall: Int = 1) -> HealthMachine {
        HealthMachine(
            HealthSchedule(
                rules: HealthRules(rise: rise, fall: fall), interval: .milliseconds(1000), jitter: jitter,
                timeout: .milliseconds(300)))
    }

    @Test("attempts follow one another at the interval, and outcomes of earlier ones are ignored")
    func schedule() {
        var machine = machine()
        var effects: [HealthEffect] = []
        func step(_ input: HealthInput, _ milliseconds: Int64) -> [HealthEffect] {
            effects = []
            machine.handle(input, now: Self.instant(milliseconds), random: 77, into: &effects)
            return effects
        }
        #expect(step(.start, 0) == [.begin(attempt: 1), .timer(Self.instant(300))])
        #expect(step(.ended(attempt: 1, passed: true), 20) == [.timer(Self.instant(1000))])
        #expect(step(.timer, 999) == [.timer(Self.instant(1000))])
        #expect(step(.timer, 1000) == [.begin(attempt: 2), .timer(Self.instant(1300))])
        #expect(step(.ended(attempt: 1, passed: false), 1100) == [])
        // Too late: it has failed, whatever comes then.
        #expect(
            step(.timer, 1300) == [.cancel(attempt: 2), .changed(isUp: false), .timer(Self.instant(2000))])
        #expect(step(.ended(attempt: 2, passed: true), 1301) == [])
        #expect(!machine.isUp)
        #expect(step(.timer, 2000) == [.begin(attempt: 3), .timer(Self.instant(2300))])
        #expect(
            step(.ended(attempt: 3, passed: true), 2010) == [.changed(isUp: true), .timer(Self.instant(3000))])
    }

    @Test("jitter: starts are spread over twice its width and no further, and the mean is the interval")
    func jitter() {
        var random = ClusterRandom(seed: 3)
        var gaps: [Int64] = []
        var machine = machine(jitter: 20)
        var now = Self.instant(0)
        var effects: [HealthEffect] = []
        machine.handle(.start, now: now, random: random.next(), into: &effects)
        var last: Instant?
        for _ in 0..<4000 {
            let ended = effects.compactMap { if case .begin(let attempt) = $0 { attempt } else { nil } }.first
            if let ended {
                if let last { gaps.append((now - last).nanoseconds) }
                last = now
                effects = []
                machine.handle(.ended(attempt: ended, passed: true), now: now, random: random.next(), into: &effects)
            }
            guard case .timer(let instant)? = effects.last else { break }
            now = instant
            effects = []
            machine.handle(.timer, now: now, random: random.next(), into: &effects)
        }
        #expect(gaps.count > 1500)
        #expect(gaps.allSatisfy { (800_000_000...1_200_000_000).contains($0) })
        #expect((gaps.min() ?? 0) < 820_000_000 && (gaps.max() ?? 0) > 1_180_000_000)
        let mean = gaps.reduce(0, +) / Int64(max(gaps.count, 1))
        #expect((990_000_000...1_010_000_000).contains(mean), "\(mean)")
    }

    @Test("a hold is told with the change that causes it")
    func held() {
        var rules = HealthRules(rise: 1, fall: 1)
        rules.dampening = .init(changes: 2, within: .seconds(60), hold: .seconds(9))
        var machine = HealthMachine(
            HealthSchedule(rules: rules, interval: .seconds(1), jitter: 0, timeout: .milliseconds(100)), isUp: false)
        var seen: [HealthEffect] = []
        for attempt in UInt64(1)...2 {
            let now = Self.instant(Int64(attempt) * 1000)
            machine.handle(attempt == 1 ? .start : .timer, now: now, random: 0, into: &seen)
            machine.handle(.ended(attempt: attempt, passed: attempt == 1), now: now, random: 0, into: &seen)
        }
        #expect(seen.contains(.changed(isUp: true)))
        #expect(seen.suffix(3).prefix(2) == [.changed(isUp: false), .held(until: Self.instant(11_000))])
    }
}
