import HTTP
import Model
import Takeover
import Testing
import Tracking
import Wire

/// Answers to probes that do not fit what the tap has believed.
struct HostileAnswerTests {
    private static let flow = TakeoverFixture.flow()

    private func head(_ lines: String...) -> [UInt8] { Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8) }

    // MARK: ACKs that are too high

    /// A forged ACK has moved SND.UNA to where the client never was. It cannot be served, but it must not hang: a RST
    /// counts at its RCV.NXT only, and its answers to the probes say where that is.
    @Test func aClientBelowAForgedACKIsReset() throws {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        fixture.send([.ack], at: 80, ack: 4000)
        fixture.send([.ack], at: 80, ack: 1_000_000)
        fixture.start()
        for _ in 0..<60 {
            fixture.run(.milliseconds(100))
            if !fixture.isFinished { fixture.send([.ack], at: 80, ack: 4500) }
        }
        #expect(fixture.entries.isEmpty)
        #expect(fixture.resets.map(\.frame.sequence).contains(SequenceNumber(fixture.iss).advanced(by: 4501)))
        #expect(fixture.machine.figures.resets(.acknowledgmentImpossible) == 1)
        #expect(fixture.isFinished)
    }

    /// It answers the RST only: the next one is where it stands.
    @Test func aResetIsRepeatedWhereTheClientStands() throws {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        fixture.send([.ack], at: 80, ack: 1_000_000)
        fixture.start()
        for _ in 0..<300 where fixture.resets.isEmpty { fixture.run(.milliseconds(20)) }
        #expect(fixture.resets.count == 1)
        fixture.send([.ack], at: 80, ack: 4500)
        #expect(fixture.resets.last?.frame.sequence == SequenceNumber(fixture.iss).advanced(by: 4501))
        fixture.run(.seconds(1))
        #expect(fixture.resets.last?.frame.sequence == SequenceNumber(fixture.iss).advanced(by: 4501), "repeated there")
    }

    /// A frame that was overtaken is no reason for anything.
    @Test func aLateFrameOfTheSameClientIsNoReason() {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        fixture.send([.ack], at: 80, ack: 4000)
        fixture.start()
        fixture.send([.ack], at: 80, ack: 3000)
        #expect(fixture.resets.isEmpty)
        fixture.send([.ack], at: 80, ack: 4000)
        #expect(fixture.machine.figures.live == 1)
        #expect(fixture.resets.isEmpty)
    }

    // MARK: A forged handshake

    /// The probe goes to the numbers of the forged one; the answer is of the right one, which is then taken over.
    @Test func theAnswerBringsTheRightConnectionBack() throws {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        fixture.send([.ack], at: 80, ack: 4000)
        fixture.sendRaw([.syn], sequence: 0x9000_0000)
        fixture.sendRaw([.ack], sequence: 0x9000_0001, acknowledgment: 77)
        fixture.start()
        for _ in 0..<3 {
            fixture.send([.ack], at: 80, ack: 4100)
            fixture.run(.milliseconds(100))
        }
        let entry = try #require(fixture.entries[Self.flow])
        #expect(entry.iss == SequenceNumber(fixture.iss) && entry.sndUna == 4100)
        #expect(fixture.sockets[Self.flow]?.received == pattern(0..<80))
        #expect(fixture.machine.figures.live == 1)
        #expect(fixture.machine.figures.resets.reduce(0, +) == 0)
        #expect(fixture.isSettled && fixture.isFinished)
    }

    /// It is forged while the client is being probed: the client's own answer counts.
    @Test func aHandshakeForgedMeanwhileChangesNothing() throws {
        let fixture = TakeoverFixture()
        fixture.connect(pattern(0..<80))
        fixture.start()
        fixture.sendRaw([.syn], sequence: 0x9000_0000)
        fixture.sendRaw([.ack], sequence: 0x9000_0001, acknowledgment: 77)
        fixture.send([.ack], at: 80, ack: 4100)
        #expect(fixture.entries[Self.flow]?.iss == SequenceNumber(fixture.iss))
        fixture.sendRaw([.ack], sequence: 0x9000_0001, acknowledgment: 77)
        fixture.run(.milliseconds(100))
        #expect(fixture.machine.figures.live == 1)
        #expect(fixture.sockets[Self.flow]?.received == pattern(0..<80))
        #expect(fixture.isSettled && fixture.isFinished)
    }

    // MARK: Holes that nobody can see

    /// Without SACK a client says nothing of what it holds behind a hole: the first segment of the dead server's reply
    /// was lost, and the second one waits in the client's queue for whatever fills the place before it.
    @Test(arguments: [true, false])
    func withoutSACKAReplyThatHasBegunIsNotBegunAnew(isReported: Bool) throws {
        let fixture = TakeoverFixture(replay: .http)
        fixture.goesLive = false
        let get = Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
        fixture.connect(get, HandshakeOptions(mss: 1460, windowScale: 4, sackPermitted: false, timestamps: true))
        let reply = head("HTTP/1.1 200 OK", "Content-Length: 10000000", "ETag: \"e\"")
        if isReported, case .facts(let facts) = ReplyHead.parse(reply) {
            fixture.tracker.reported(Self.flow, sequence: SequenceNumber(fixture.iss).advanced(by: 1), facts)
        }
        fixture.start()
        for _ in 0..<2 { fixture.send([.ack], at: get.count, ack: 0) }
        #expect(fixture.machine.figures.resets(.replyUnknown) == 1)
        #expect(fixture.entries.isEmpty)
    }

    /// Where nothing was asked, nothing can be on its way; and within a body that is shown to be the same any hole may be
    /// filled.
    @Test func withoutSACKWhatIsSafeIsServed() throws {
        let fixture = TakeoverFixture(replay: .http)
        fixture.connect([], HandshakeOptions(mss: 1460, windowScale: 4, sackPermitted: false, timestamps: true))
        fixture.start()
        for _ in 0..<2 { fixture.send([.ack]) }
        #expect(fixture.machine.figures.adopted == 1)

        let half = TakeoverFixture(replay: .http)
        half.connect(Array("GET / HTT".utf8), HandshakeOptions(mss: 1460, windowScale: 4, timestamps: true))
        half.start()
        for _ in 0..<2 { half.send([.ack], at: 9) }
        #expect(half.machine.figures.adopted == 1)
    }
}
