import Model
import Testing
import Tracking
import Wire

/// Frames that somebody else has made, or that say something other than what they seem to.
struct HostileFrameTests {
    // MARK: Keepalives

    /// The tap has missed the last byte, and the garbage of a keepalive stands where that is (RFC 9293 3.8.4).
    @Test func garbageOfAKeepaliveFillsNoHole() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack, .psh], pattern(0..<10))
        fixture.send([.ack], at: 10, [0])
        #expect(fixture.journal() == pattern(0..<10), "the server has another byte there")
        #expect(try fixture.connection().clientSent == 11)
        #expect(try fixture.connection().isProtected == false, "a byte is missing until the owner or the client gives it")
        // The client goes on: the byte never comes here again, the owner has to give it.
        fixture.send([.ack, .psh], at: 11, pattern(11..<20))
        #expect(fixture.journal() == pattern(0..<10))
        #expect(try fixture.connection().unprotected == nil)
    }

    /// What ends a write, as one byte typed at a terminal does, is data; so is a byte of a probe that is none of zero.
    @Test func oneByteIsData() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack, .psh], at: 0, [0])
        fixture.send([.ack], at: 1, [7])
        #expect(fixture.journal() == [0, 7])
        // A probe of a closed window is sent again, with more, once it opens.
        fixture.send([.ack], at: 2, [0])
        fixture.send([.ack, .psh], at: 2, [0, 8])
        #expect(fixture.journal() == [0, 7, 0, 8])
        #expect(try fixture.connection().isProtected)
    }

    // MARK: Forged handshakes

    /// While the handshake is not complete, another SYN is no proof either.
    @Test func aForgedSYNBeforeTheHandshakeEnds() throws {
        let fixture = TrackingFixture()
        fixture.send([.syn], handshake: TrackingFixture.offered)
        fixture.sendRaw([.syn], sequence: 0x7777_0000)
        fixture.send([.ack])
        fixture.send([.ack], pattern(0..<10))
        #expect(try fixture.connection().irs == SequenceNumber(1000))
        #expect(fixture.journal() == pattern(0..<10))
    }

    /// The other way round: the first SYN was lost on its way to the server, the second one begins the connection.
    @Test func theSecondSYNMayBeTheRightOne() throws {
        let fixture = TrackingFixture()
        fixture.send([.syn], handshake: TrackingFixture.offered)
        fixture.sendRaw([.syn], sequence: 0x7777_0000, handshake: HandshakeOptions(mss: 1000))
        fixture.sendRaw([.ack], sequence: 0x7777_0001, acknowledgment: 501, [9])
        #expect(try fixture.connection().irs == SequenceNumber(0x7777_0000))
        #expect(try fixture.connection().client.mss == 1000)
        #expect(fixture.journal() == [9])
    }

    /// Who forges a SYN and the ACK that follows it knows no more than the ports: the server obeys neither, and its
    /// client goes on.
    @Test func aForgedHandshakeDisplacesNobody() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], ack: 30, pattern(0..<100))
        let first = try #require(fixture.handle())
        fixture.sendRaw([.syn], sequence: 0x9000_0000)
        fixture.sendRaw([.ack], sequence: 0x9000_0001, acknowledgment: 77)
        fixture.sendRaw([.ack], sequence: 0x9000_0001, acknowledgment: 77, [6, 6, 6])
        fixture.send([.ack], at: 100, ack: 40, pattern(100..<200))
        #expect(fixture.handle() == first)
        #expect(fixture.journal() == pattern(0..<200))
        #expect(try fixture.connection().sndUna == 40)
        #expect(try fixture.connection().isProtected)
    }

    /// The same where the client answers a probe and says nothing else.
    @Test func thePureAckOfTheRightClientIsEnough() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], ack: 30, pattern(0..<100))
        fixture.sendRaw([.syn], sequence: 0x9000_0000)
        fixture.sendRaw([.ack], sequence: 0x9000_0001, acknowledgment: 77)
        #expect(fixture.tracker.connections(of: TrackingFixture.slot).count == 1, "one flow is one connection")
        #expect(fixture.tracker.census(of: [TrackingFixture.slot]).first?.connections == 1)
        fixture.send([.ack], at: 100, ack: 35)
        #expect(fixture.journal() == pattern(0..<100))
        #expect(try fixture.connection().sndUna == 35)
    }

    /// The port was used again in earnest: what comes late of the old connection does not bring it back for long, and
    /// nothing of one is taken for the other's.
    @Test func aNewConnectionOutlivesTheOldOne() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack, .fin], pattern(0..<100))
        fixture.sendRaw([.syn], sequence: 0x9000_0000)
        fixture.sendRaw([.ack], sequence: 0x9000_0001, acknowledgment: 77, [1, 2])
        // The client had closed the old one: a retransmission of its FIN is nothing to anybody.
        fixture.send([.ack, .fin], pattern(0..<100))
        #expect(try fixture.connection().irs == SequenceNumber(0x9000_0000))
        #expect(fixture.journal() == [1, 2])
        #expect(fixture.tracker.count == 1)
    }

    /// Nothing of a displaced connection is left when its flow is over, its slot is dropped, or its time is up.
    @Test(arguments: ["reset", "drop", "expiry", "remove"])
    func nothingIsLeft(end: String) throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], pattern(0..<100))
        fixture.sendRaw([.syn], sequence: 0x9000_0000)
        fixture.sendRaw([.ack], sequence: 0x9000_0001, acknowledgment: 77, [1, 2])
        switch end {
        case "reset":
            fixture.sendRaw([.rst], sequence: 0x9000_0003)
            #expect(fixture.journal() == pattern(0..<100), "who forged the one forges its end too")
            fixture.sendRaw([.rst], sequence: 1101)
        case "drop": fixture.tracker.drop(slot: TrackingFixture.slot)
        case "expiry":
            fixture.now = fixture.now + .seconds(8000)
            fixture.tracker.expire(now: fixture.now)
            fixture.tracker.expire(now: fixture.now)
        case _: fixture.tracker.remove(try #require(fixture.handle()))
        }
        fixture.tracker.checkInvariants()
        #expect(fixture.tracker.count == 0)
        #expect(fixture.handle() == nil)
        #expect(fixture.tracker.journalBytesInUse == 0)
    }
}
