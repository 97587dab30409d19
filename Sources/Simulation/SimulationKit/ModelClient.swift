import Model
import Wire

/// A client's TCP and its application: asks, reads at its pace, and holds every byte that it accepts against the one
/// right reply stream.
///
/// What a stack answers to probes is that of facts.md 1.4 (Linux): old segments with data always draw an ACK, empty ones
/// twice a second at most; a RST counts at exactly RCV.NXT (RFC 5961). Timestamps are carried, not checked (no PAWS).
/// Offsets are counted from ISS + 1 and IRS + 1 without wrapping; a FIN counts as one byte.
final class ModelClient {
    enum State { case idle, synSent, open, over }

    enum Outcome: Hashable {
        case whole
        /// Reset by the other side.
        case reset
        /// Its own patience ended: keepalives or retransmissions unanswered.
        case gaveUp
    }

    let plan: ClientPlan
    private(set) var state = State.idle
    private(set) var outcome: Outcome?
    /// What a client must never see; nil while all is well.
    private(set) var fault: String?
    /// Packets to send, in order.
    var output: [[UInt8]] = []
    private(set) var received = 0

    private var first: SequenceNumber { SequenceNumber(plan.iss).advanced(by: 1) }
    private var replyFirst = SequenceNumber(0)
    private var scale: UInt8 = 0
    private var serverScale: UInt8 = 0
    private var usesTimestamps = false
    private var lastTimestamp: UInt32 = 0
    private var segmentBytes = 536

    private var outgoing: [UInt8] = []
    private var nextRequest = 0
    /// Where each reply begins; its request is sent once the client has everything before.
    private var replyStarts: [Int] = []
    /// Where HTTP is spoken.
    private(set) var web: WebReader?
    private var sndUna = 0
    private var sndNxt = 0
    private var sndEdge = 0
    private var closing = false

    private var rcvNxt = 0
    private var rightEdge: Int
    private var gaps: [Range<Int>] = []
    private var finAt: Int?
    private var readTo = 0
    private var pausedOnce = false

    private var rto: TrueTime = ModelClient.firstTimeout
    private var rtoAt = TrueTime.max
    private var retries = 0
    private var ackAt = TrueTime.max
    private var readAt = TrueTime.max
    private var keepaliveAt = TrueTime.max
    private var keepalives = 0
    private var invalidAckAt: TrueTime = 0

    static let firstTimeout: TrueTime = 200_000_000
    private static let longestTimeout: TrueTime = 2_000_000_000
    private static let keepaliveIdle: TrueTime = 6_000_000_000
    private static let keepaliveInterval: TrueTime = 1_000_000_000

    init(_ plan: ClientPlan) {
        self.plan = plan
        rightEdge = plan.buffer
        guard plan.web.isEmpty else {
            web = WebReader(plan.web)
            return
        }
        let sizes = plan.requests.map { Exchange.header(of: $0[...])?.replyBytes ?? 0 }
        var start = plan.expected.count - sizes.reduce(0, +)
        for size in sizes {
            replyStarts.append(start)
            start += size
        }
    }

    var deadline: TrueTime { min(min(rtoAt, ackAt), min(readAt, keepaliveAt)) }
    /// Client bytes that the other side has acknowledged or not: all that were sent.
    var sentBytes: Int { min(sndNxt, outgoing.count) }

    // MARK: Sending

    func start(_ now: TrueTime) {
        state = .synSent
        rightEdge = min(plan.buffer, 65_535)
        sendSYN(now)
    }

    private func sendSYN(_ now: TrueTime) {
        output.append(
            TCPPacket(
                from: plan.flow.client, to: plan.flow.service, sequence: SequenceNumber(plan.iss),
                acknowledgment: SequenceNumber(0), flags: [.syn], window: UInt16(rightEdge),
                timestamps: plan.options.timestamps ? TCPTimestamps(value: stamp(now), echo: 0) : nil,
                handshake: plan.options
            ).encode())
        rtoAt = now + rto
    }

    private func stamp(_ now: TrueTime) -> UInt32 { plan.iss ^ 0x5555 &+ UInt32(truncatingIfNeeded: now / 1_000_000) }

    private func send(_ flags: TCPFlags, at offset: Int, _ payload: ArraySlice<UInt8>, _ now: TrueTime) {
        let window = advertise()
        output.append(
            TCPPacket(
                from: plan.flow.client, to: plan.flow.service, sequence: first.advanced(by: offset),
                acknowledgment: replyFirst.advanced(by: rcvNxt), flags: flags, window: window,
                timestamps: usesTimestamps ? TCPTimestamps(value: stamp(now), echo: lastTimestamp) : nil,
                payload: Array(payload)
            ).encode())
        ackAt = .max
        if state == .open { keepaliveAt = min(keepaliveAt, now + Self.keepaliveIdle) }
    }

    /// Linux, __tcp_select_window and tcp_select_window: rounded up to the scale, never taken back, and zero rather
    /// than silly.
    private func advertise() -> UInt16 {
        let unit = 1 << Int(scale)
        let roundUp = { (bytes: Int) in (bytes + unit - 1) / unit * unit }
        let free = max(0, plan.buffer - (received - readTo))
        let current = max(0, rightEdge - rcvNxt)
        var window = free < min(segmentBytes, plan.buffer / 2) || free < plan.buffer / 16 ? 0 : roundUp(free)
        window = max(window, roundUp(current))
        window = min(window, 65_535 << Int(scale))
        rightEdge = max(rightEdge, rcvNxt + window)
        return UInt16(window >> Int(scale))
    }

    private func push(_ now: TrueTime) {
        guard state == .open else { return }
        let limit = min(sndEdge, sndUna + 10 * segmentBytes)
        while sndNxt < outgoing.count, sndNxt < limit {
            let end = min(sndNxt + segmentBytes, outgoing.count, limit)
            send([.ack, .psh], at: sndNxt, outgoing[sndNxt..<end], now)
            sndNxt = end
        }
        if closing, sndNxt == outgoing.count {
            send([.ack, .fin], at: sndNxt, [], now)
            sndNxt += 1
        }
        if rtoAt == .max, sndUna < sndNxt || sndNxt < outgoing.count { rtoAt = now + rto }
    }

    private func nextStep(_ now: TrueTime) {
        while nextRequest < plan.requests.count, maySend(nextRequest) {
            outgoing += plan.requests[nextRequest]
            nextRequest += 1
        }
        let hasAll = web?.hasAll ?? (received == plan.expected.count)
        if hasAll, outcome == nil, !plan.serverCloses || finAt.map({ rcvNxt > $0 }) == true { outcome = .whole }
        if outcome == .whole { closing = true }
        push(now)
    }

    private func maySend(_ number: Int) -> Bool {
        if let web { return number < web.completed + plan.depth }
        return received >= replyStarts[number]
    }

    // MARK: Receiving

    func receive(_ segment: Segment, _ now: TrueTime) {
        switch state {
        case .idle: return
        case .over:
            if !segment.flags.contains(.rst) { refuse(segment) }
        case .synSent: receiveInHandshake(segment, now)
        case .open: receiveOpen(segment, now)
        }
    }

    /// A connection that is gone: RFC 9293 3.10.7.1.
    private func refuse(_ segment: Segment) {
        guard segment.flags.contains(.ack) else { return }
        output.append(
            TCPPacket(
                from: plan.flow.client, to: plan.flow.service, sequence: segment.acknowledgment,
                acknowledgment: SequenceNumber(0), flags: [.rst], window: 0
            ).encode())
    }

    private func receiveInHandshake(_ segment: Segment, _ now: TrueTime) {
        guard segment.flags.contains(.ack), segment.acknowledgment == first else { return }
        if segment.flags.contains(.rst) {
            finish(.reset)
            return
        }
        guard segment.flags.contains(.syn) else { return }
        replyFirst = segment.sequence.advanced(by: 1)
        if let own = plan.options.windowScale, let other = segment.options.windowScale {
            scale = own
            serverScale = other
        }
        usesTimestamps = plan.options.timestamps && segment.timestamps != nil
        lastTimestamp = segment.timestamps?.value ?? 0
        segmentBytes = Int(min(segment.options.mss, 1460)) - (usesTimestamps ? 12 : 0)
        sndEdge = Int(segment.window)
        state = .open
        rto = Self.firstTimeout
        rtoAt = .max
        retries = 0
        keepaliveAt = now + Self.keepaliveIdle
        send([.ack], at: 0, [], now)
        nextStep(now)
    }

    private func receiveOpen(_ segment: Segment, _ now: TrueTime) {
        keepaliveAt = now + Self.keepaliveIdle
        keepalives = 0
        let start = place(of: segment.sequence, first: replyFirst, near: rcvNxt)
        let end = start + segment.payload.count
        if segment.flags.contains(.rst) {
            if start == rcvNxt { finish(.reset) } else if start > rcvNxt, start < rightEdge { challenge(now) }
            return
        }
        if segment.flags.contains(.syn) {
            challenge(now)
            return
        }
        let isFIN = segment.flags.contains(.fin)
        let isOld = segment.payload.isEmpty && !isFIN ? start < rcvNxt : end + (isFIN ? 1 : 0) <= rcvNxt
        if isOld || start > max(rightEdge, rcvNxt) {
            // Data is answered at once, what is empty twice a second at most (tcp_oow_rate_limited).
            if segment.payload.isEmpty { challenge(now) } else { send([.ack], at: sndNxt, [], now) }
            if isOld, segment.flags.contains(.ack) { acknowledge(segment, now) }
            return
        }
        if let stamp = segment.timestamps?.value, start <= rcvNxt { lastTimestamp = stamp }
        guard segment.flags.contains(.ack) else { return }
        acknowledge(segment, now)
        guard state == .open else { return }
        if !segment.payload.isEmpty || isFIN { take(segment, start, isFIN: isFIN, now) }
        nextStep(now)
    }

    private func challenge(_ now: TrueTime) {
        guard now >= invalidAckAt else { return }
        invalidAckAt = now + 500_000_000
        send([.ack], at: sndNxt, [], now)
    }

    private func acknowledge(_ segment: Segment, _ now: TrueTime) {
        let ack = place(of: segment.acknowledgment, first: first, near: sndUna)
        guard ack >= sndUna, ack <= sndNxt else { return }
        sndEdge = max(sndEdge, ack + Int(segment.window) << Int(serverScale))
        guard ack > sndUna else { return }
        sndUna = ack
        rto = Self.firstTimeout
        retries = 0
        rtoAt = sndUna < sndNxt || sndNxt < outgoing.count ? now + rto : .max
        if closing, ack == outgoing.count + 1, outcome != nil { finish(.whole) }
    }

    private func take(_ segment: Segment, _ start: Int, isFIN: Bool, _ now: TrueTime) {
        let from = max(start, rcvNxt)
        let to = min(start + segment.payload.count, rightEdge)
        let before = rcvNxt
        if web != nil, start > rcvNxt {
            // A receiver may forget what is out of order. One that does not says so by SACK, which has tests elsewhere.
            send([.ack], at: sndNxt, [], now)
            return
        }
        if from < to {
            let skipped = segment.payload.startIndex + from - start
            verify(segment.payload[skipped..<skipped + to - from], at: from)
            gaps.append(from..<to)
        }
        if isFIN, start + segment.payload.count <= rightEdge {
            finAt = start + segment.payload.count
            if web == nil, finAt != plan.expected.count, fault == nil {
                fault = "FIN at byte \(start + segment.payload.count) of \(plan.expected.count)"
            }
        }
        advance()
        if web == nil, received > plan.expected.count, fault == nil { fault = "bytes behind the end of the reply" }
        let inOrder = start == before && rcvNxt == start + segment.payload.count && gaps.isEmpty
        if isFIN || !inOrder || ackAt != .max {
            send([.ack], at: sndNxt, [], now)
        } else {
            ackAt = now + 20_000_000
        }
        read(now)
    }

    private func advance() {
        var moved = true
        while moved {
            moved = false
            for (index, gap) in gaps.enumerated() where gap.lowerBound <= rcvNxt {
                rcvNxt = max(rcvNxt, gap.upperBound)
                gaps.remove(at: index)
                moved = true
                break
            }
        }
        received = rcvNxt
        if finAt == rcvNxt {
            if web?.hasAll == false, fault == nil { fault = "FIN before the end of the replies" }
            rcvNxt += 1
        }
    }

    private func verify(_ bytes: ArraySlice<UInt8>, at offset: Int) {
        guard fault == nil else { return }
        if web != nil {
            web?.take(bytes)
            fault = web?.fault
            return
        }
        guard offset + bytes.count <= plan.expected.count else {
            fault = "byte \(offset + bytes.count) of a reply of \(plan.expected.count)"
            return
        }
        if plan.expected[offset..<offset + bytes.count] == bytes { return }
        let at = zip(bytes, plan.expected[offset...]).enumerated().first { $1.0 != $1.1 }?.offset ?? 0
        fault = "wrong byte at \(offset + at) of \(plan.expected.count)"
    }

    // MARK: Application and time

    /// At once, or a piece every so often; a pause may close the window.
    private func read(_ now: TrueTime) {
        if !pausedOnce, received >= plan.pauseAt {
            pausedOnce = true
            readAt = now + plan.pauseFor
            return
        }
        guard readAt == .max else { return }
        if plan.readInterval == 0 {
            readTo = received
        } else if readTo < received {
            readAt = now + plan.readInterval
        }
    }

    private func readPiece(_ now: TrueTime) {
        let before = max(0, rightEdge - rcvNxt)
        readTo = plan.readInterval == 0 ? received : min(received, readTo + plan.readBytes)
        readAt = readTo < received ? now + plan.readInterval : .max
        // tcp_cleanup_rbuf: tell when the window at least doubles.
        let free = plan.buffer - (received - readTo)
        if free >= 2 * max(before, segmentBytes / 2), free >= min(segmentBytes, plan.buffer / 2) {
            send([.ack], at: sndNxt, [], now)
        }
    }

    func tick(_ now: TrueTime) {
        guard state == .synSent || state == .open else { return }
        if now >= readAt { readPiece(now) }
        if now >= ackAt { send([.ack], at: sndNxt, [], now) }
        if now >= rtoAt { retransmit(now) }
        if now >= keepaliveAt, state == .open { keepalive(now) }
    }

    private func retransmit(_ now: TrueTime) {
        retries += 1
        rto = min(rto * 2, Self.longestTimeout)
        rtoAt = now + rto
        guard retries < 20 else {
            finish(.gaveUp)
            return
        }
        if state == .synSent {
            sendSYN(now)
        } else if sndUna < outgoing.count {
            // With a closed window this is the window probe.
            let end = min(sndUna + (sndEdge > sndUna ? segmentBytes : 1), outgoing.count)
            send([.ack, .psh], at: sndUna, outgoing[sndUna..<end], now)
            sndNxt = max(sndNxt, end)
        } else if closing, sndUna < sndNxt {
            if retries > 4, outcome != nil { finish(.whole) } else { send([.ack, .fin], at: sndUna, [], now) }
        } else {
            rtoAt = .max
        }
    }

    /// Without it a client that only receives would wait for ever for a connection that nobody knows any more.
    private func keepalive(_ now: TrueTime) {
        keepalives += 1
        guard keepalives <= 12 else {
            finish(.gaveUp)
            return
        }
        send([.ack], at: sndNxt - 1, [], now)
        keepaliveAt = now + Self.keepaliveInterval
    }

    private func finish(_ outcome: Outcome) {
        if self.outcome == nil { self.outcome = outcome }
        state = .over
        (rtoAt, ackAt, readAt, keepaliveAt) = (.max, .max, .max, .max)
    }
}
