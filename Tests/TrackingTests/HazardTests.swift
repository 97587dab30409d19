import Model
import Testing
import Tracking
import Wire

extension TrackingFixture {
    /// A frame whose numbers have nothing to do with the fixture's connection.
    func sendRaw(
        _ flags: TCPFlags,
        sequence: UInt32,
        acknowledgment: UInt32 = 0,
        _ payload: [UInt8] = [],
        port: UInt16 = 40_000,
        handshake: HandshakeOptions? = nil
    ) {
        let flow = TrackingFixture.flow(port)
        let bytes = TCPPacket(
            from: flow.client,
            to: flow.service,
            sequence: SequenceNumber(sequence),
            acknowledgment: SequenceNumber(acknowledgment),
            flags: flags,
            window: 9,
            handshake: handshake,
            payload: payload
        ).encode()
        bytes.withUnsafeBytes { raw in
            guard let frame = FrameParser.parse(packet: raw).frame else {
                Issue.record("the frame does not parse")
                return
            }
            tracker.handle(frame, in: raw, slot: TrackingFixture.slot, now: now)
        }
        tracker.checkInvariants()
    }
}

/// Frames that could lead to a splice in the wrong place, or take the protection from a connection that is well.
struct HazardTests {
    // MARK: Another SYN

    /// One forged or stray SYN does not end the protection; the connection goes on as if it had not come.
    @Test func aStraySYNChangesNothing() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], pattern(0..<100))
        let first = try #require(fixture.handle())
        for sequence in [0, 1000 + 50, 0xffff_ffff, 0x8000_0000] as [UInt32] {
            fixture.sendRaw([.syn], sequence: sequence)
        }
        fixture.send([.ack], at: 100, ack: 30, pattern(100..<200))
        #expect(fixture.handle() == first)
        #expect(fixture.journal() == pattern(0..<200))
        #expect(try fixture.connection().sndUna == 30)
        #expect(fixture.tracker.counters.replaced == 0)
    }

    /// The server refused the new SYN (challenge ACK), the client's RST ends the old connection, its next SYN begins
    /// the new one.
    @Test func aClientThatLostItsStateBeginsAgain() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], pattern(0..<100))
        fixture.sendRaw([.syn], sequence: 77)
        fixture.sendRaw([.rst], sequence: 1101)
        #expect(fixture.handle() == nil)
        fixture.sendRaw([.syn], sequence: 77)
        fixture.sendRaw([.ack], sequence: 78, acknowledgment: 501, [9])
        #expect(try fixture.connection().iss == SequenceNumber(500))
        #expect(fixture.journal() == [9])
    }

    /// The first data of a new connection whose last ACK of the handshake was lost.
    @Test func theFirstDataProvesTheNewConnection() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack, .fin], pattern(0..<100))
        fixture.sendRaw([.syn], sequence: 0x9000_0000, handshake: HandshakeOptions(mss: 1000, windowScale: 2))
        fixture.sendRaw([.ack], sequence: 0x9000_0001, acknowledgment: 31, [1, 2])
        let connection = try fixture.connection()
        #expect(connection.irs == SequenceNumber(0x9000_0000))
        #expect(connection.client.mss == 1000)
        #expect(connection.finOffset == nil)
        #expect(fixture.journal() == [1, 2])
    }

    /// A rival whose first number is what the old connection sends next proves nothing.
    @Test func aRivalAtTheNextByteProvesNothing() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], pattern(0..<100))
        let first = try #require(fixture.handle())
        fixture.sendRaw([.syn], sequence: 1100)
        fixture.send([.ack], at: 100, pattern(100..<110))
        #expect(fixture.handle() == first)
        #expect(fixture.journal() == pattern(0..<110))
    }

    /// What a client offers less when it tries again may be what the server took.
    @Test func aSYNThatComesAgainWithOtherOptions() throws {
        let fixture = TrackingFixture()
        fixture.send([.syn], handshake: HandshakeOptions(mss: 1460, windowScale: 7, sackPermitted: true))
        fixture.send([.syn], handshake: HandshakeOptions(mss: 1460, windowScale: 7, sackPermitted: true))
        #expect(try fixture.connection().unprotected == nil)
        fixture.send([.syn], handshake: HandshakeOptions(mss: 1460))
        #expect(try fixture.connection().unprotected == .handshakeUnknown)
        fixture.send([.ack])
        #expect(try fixture.connection().acknowledged == SequenceNumber(5001), "its client can still be reset")
    }

    // MARK: Frames that are not the connection's

    struct Stray: Sendable {
        var place: Int
        var fits: Bool
    }

    static let strays = [
        Stray(place: -2, fits: false), Stray(place: -1, fits: true), Stray(place: 0, fits: true),
        Stray(place: 5000, fits: true), Stray(place: 100 + (64 << 20), fits: true),
        Stray(place: 101 + (64 << 20), fits: false), Stray(place: -(1 << 20), fits: false),
        Stray(place: 1 << 31, fits: false),
    ]

    /// An ACK counts only where the frame can be the connection's: one of an earlier use of the port would move SND.UNA
    /// anywhere, and the probe's byte would be new data to the client.
    @Test(arguments: strays)
    func onlyFramesOfTheConnectionAcknowledge(stray: Stray) throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack], pattern(0..<100))
        fixture.send([.ack], at: stray.place, ack: 1_000_000)
        #expect(try fixture.connection().sndUna == (stray.fits ? 1_000_000 : 0))
        #expect(fixture.tracker.counters.unfitting == (stray.fits ? 0 : 1))
    }

    @Test func aKeepaliveBeforeTheHandshakeEndedTellsNoISS() throws {
        let fixture = TrackingFixture()
        fixture.ownerTells = false
        fixture.send([.syn])
        fixture.send([.ack], at: -1, ack: 220)
        #expect(try !fixture.connection().isProtected)
        #expect(try fixture.connection().acknowledged == SequenceNumber(5221))
    }

    // MARK: Bytes

    /// A byte out of band is in the stream or not, as the application has set.
    @Test func urgentBytesAreNotReplayed() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack, .urg], pattern(0..<10))
        #expect(try fixture.connection().unprotected == .optionUnsupported)
        #expect(try fixture.connection().clientNext == SequenceNumber(1011))
    }

    /// Garbage of a keepalive stands where the FIN is.
    @Test func aKeepaliveBehindTheFIN() throws {
        let fixture = TrackingFixture()
        fixture.connect()
        fixture.send([.ack, .fin], pattern(0..<10))
        fixture.send([.ack], at: 10, [0xee])
        #expect(try fixture.connection().unprotected == nil)
        #expect(try fixture.connection().clientNext == SequenceNumber(1012))
        #expect(fixture.journal() == pattern(0..<10))
        fixture.send([.ack], at: 10, [0xee, 0xef])
        #expect(try fixture.connection().unprotected == .conflictingBytes)
    }
}
