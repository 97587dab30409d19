import Model
import Takeover
import Testing
import Tracking
import Wire

struct TakeoverScaleTests {
    /// All at once: every connection ends served, none costs the others time. Quadratic work would take a hundred times
    /// as long for ten times as many.
    @Test func tenThousandConnections() {
        let few = takeOver(1000)
        let many = takeOver(10_000)
        #expect(many < few * 40, "\(few) for 1,000 connections, \(many) for 10,000")
    }

    /// Answers are looked at in between: who has answered meanwhile is not probed, and nobody is probed twice because of
    /// the others.
    @Test func probesGoOutInParts() {
        let fixture = TakeoverFixture()
        for port in 1...1000 { fixture.connect(port: UInt16(port), pattern(0..<80)) }
        fixture.start()
        // The fixture ticks once.
        #expect(fixture.probes.count == 2 * TakeoverParameters().deadlinesAtATime)
        #expect(fixture.nextTick == fixture.now)
        fixture.send([.ack], at: 80, ack: 30, port: 1000)
        #expect(fixture.machine.figures.live == 1)
        fixture.run(.zero)
        #expect(fixture.probes.count == 999)
    }

    private func takeOver(_ count: Int) -> Duration {
        let fixture = TakeoverFixture()
        for port in 1...count { fixture.connect(port: UInt16(port), pattern(0..<80)) }
        let begun = ContinuousClock.now
        fixture.start()
        while fixture.probes.count < count { fixture.tick() }
        for port in 1...count { fixture.send([.ack], at: 80, ack: 30, port: UInt16(port)) }
        let elapsed = ContinuousClock.now - begun
        #expect(fixture.isSettled && fixture.isFinished)
        #expect(fixture.machine.figures.live == count)
        #expect(fixture.mostInFlight <= TakeoverParameters().adoptionsInFlight)
        return elapsed
    }

    /// Losses of every kind: each connection ends with its socket holding exactly the client's bytes, or reset.
    @Test(arguments: 0..<12)
    func everyConnectionEnds(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        var parameters = TakeoverParameters()
        parameters.adoptionsInFlight = 3
        let fixture = TakeoverFixture(
            irs: UInt32.random(in: 0...UInt32.max, using: &random),
            iss: UInt32.random(in: 0...UInt32.max, using: &random),
            parameters: parameters
        )
        fixture.socketWindow = Int.random(in: 32_768...200_000, using: &random)
        let clients = (1...12).map { port in
            (port: UInt16(port), bytes: Int.random(in: 0...60_000, using: &random), closes: Bool.random(using: &random))
        }
        for client in clients {
            fixture.connect(port: client.port, pattern(0..<client.bytes))
            if client.closes { fixture.send([.ack, .fin], at: client.bytes, port: client.port) }
        }
        var loss = SeededGenerator(seed: UInt64(seed) &+ 1000)
        fixture.dropsInjected = { _ in Int.random(in: 0..<10, using: &loss) == 0 }
        fixture.start()
        for _ in 0..<200 where !fixture.isFinished {
            fixture.accepts = Int.random(in: 0..<4, using: &random) > 0
            for client in clients where Int.random(in: 0..<8, using: &random) == 0 {
                fixture.send([.ack], at: client.bytes + (client.closes ? 1 : 0), ack: 50, port: client.port)
            }
            fixture.run(.milliseconds(Int64.random(in: 1...60, using: &random)))
        }
        fixture.run(.seconds(40))
        #expect(fixture.isFinished)
        let figures = fixture.machine.figures
        #expect(figures.live + figures.resets.reduce(0, +) == clients.count)
        for client in clients {
            let flow = TakeoverFixture.flow(client.port)
            guard fixture.entries[flow] != nil else { continue }
            let isWhole = fixture.sockets[flow]?.received == pattern(0..<client.bytes)
            #expect(isWhole, "port \(client.port)")
            #expect(fixture.sockets[flow]?.hasFIN == client.closes)
        }
        #expect(figures.live == fixture.entries.count)
        // What is served goes on being tracked by its new owner; what is over is forgotten.
        let tracked = fixture.tracker.count
        #expect(tracked == figures.live)
        fixture.tracker.checkInvariants()
    }
}
