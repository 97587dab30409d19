import HTTP
import Model
import Takeover
import Testing
import Wire

/// A take-over of some connections of a slot: those that a crash of the local application has cut off.
struct ReadoptionTests {
    @Test func onlyWhatIsMeantIsProbed() {
        let fixture = TakeoverFixture()
        let meant = TakeoverFixture.flow(40_001)
        fixture.machine = TakeoverMachine(slot: TakeoverFixture.slot, only: [meant]) { _ in
            AdoptionProfile(
                replay: .stream,
                server: HandshakeOptions(mss: 1460, windowScale: 7, sackPermitted: true, timestamps: true),
                http: HTTPReplay())
        }
        for port in 40_000...40_002 as ClosedRange<UInt16> { fixture.connect(port: port, pattern(0..<80)) }
        fixture.start()
        #expect(fixture.probes.map(\.frame.flow.service) == [meant.client])
        // What comes of the others meanwhile is their own sockets' business.
        fixture.send([.ack], at: 80, ack: 10, port: 40_002)
        fixture.run(.milliseconds(10))
        #expect(fixture.machine.figures.connections == 1)
        #expect(fixture.entries.keys.allSatisfy { $0 == meant })
        #expect(fixture.resets.isEmpty)
    }
}
