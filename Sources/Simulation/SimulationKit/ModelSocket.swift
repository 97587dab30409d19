import Model
import Wire

/// A server's TCP socket, made by a SYN or by an adoption.
///
/// Small but honest: send and receive windows with scaling, slow start, retransmission after RTO and after three
/// duplicate ACKs, zero-window probes, FIN; an ACK above SND.NXT discards the whole segment (facts.md 1.2, rule 1).
/// Offsets are counted from ISS + 1 and IRS + 1 without wrapping; a FIN counts as one byte.
final class ModelSocket {
    enum State { case handshake, open, timeWait, closed }

    let id: Int
    let flow: FlowKey
    let first: SequenceNumber
    let clientFirst: SequenceNumber
    private(set) var state: State
    let options: HandshakeOptions
    private let segmentBytes: Int
    private let clientScale: Int
    private let scale: Int
    private let usesTimestamps: Bool
    private let stampOffset: UInt32
    private var lastTimestamp: UInt32

    /// What the application has written, from the first byte on.
    private(set) var stream: [UInt8] = []
    private var closing = false
    private(set) var sndUna = 0
    private(set) var sndNxt = 0
    private var sndEdge: Int
    private var windowSequence = Int.min
    private var congestionWindow: Int
    private var duplicateACKs = 0
    private var recovering = false

    private(set) var rcvNxt = 0
    private var gaps: [(start: Int, bytes: ArraySlice<UInt8>)] = []
    private var unread: [UInt8] = []
    private var finAt: Int?
    private var announcedEdge = 0

    private var rto = ModelSocket.firstTimeout
    private(set) var deadline = TrueTime.max
    private var isProbing = false
    /// The application that held it is gone.
    var isOrphan = false
    var isAdopted = false
    /// When its next timer event comes.
    var timerAt = TrueTime.max
    /// Set when the application has something to look at.
    var wantsApplication = false
    /// Segments on their way to the egress hook.
    var output: [TCPPacket] = []

    private static let firstTimeout: TrueTime = 200_000_000
    private static let longestTimeout: TrueTime = 1_000_000_000
    private static let receiveBuffer = 65_535
    private static let sendBuffer = 24_000
    /// What every server of the model announces in its SYN-ACK.
    static let announced = HandshakeOptions(mss: 1460, windowScale: 5, sackPermitted: true, timestamps: true)

    /// - Parameters:
    ///   - open: the socket is an adopted one; its handshake lies behind it.
    ///   - stamp: where its timestamp clock stands now; nil where the option is not in use.
    init(
        id: Int, flow: FlowKey, iss: SequenceNumber, irs: SequenceNumber, options: HandshakeOptions,
        scales: (client: UInt8, own: UInt8), stamp: UInt32?, clientStamp: UInt32, window: Int, open: Bool,
        flight: Int = 10, now: TrueTime
    ) {
        self.id = id
        self.flow = flow
        self.options = options
        first = iss.advanced(by: 1)
        clientFirst = irs.advanced(by: 1)
        state = open ? .open : .handshake
        clientScale = Int(scales.client)
        scale = Int(scales.own)
        usesTimestamps = stamp != nil
        stampOffset = (stamp ?? 0) &- UInt32(truncatingIfNeeded: now / 1_000_000)
        lastTimestamp = clientStamp
        segmentBytes = max(Int(min(options.mss, 1460)) - (stamp != nil ? 12 : 0), 100)
        congestionWindow = flight * segmentBytes
        sndEdge = window
        if open { wantsApplication = true } else { sendHandshake(now) }
    }

    var freeSendBuffer: Int { state == .open ? max(0, Self.sendBuffer - (stream.count - sndUna)) : 0 }
    /// The client will send nothing more, and everything has been read.
    var isAtEnd: Bool { unread.isEmpty && finAt.map { rcvNxt > $0 } == true }
    var isClosing: Bool { closing }

    // MARK: Application

    func read() -> [UInt8] {
        defer { unread = [] }
        return unread
    }

    func write(_ bytes: ArraySlice<UInt8>, _ now: TrueTime) {
        stream += bytes
        push(now)
    }

    func close(_ now: TrueTime) {
        guard !closing else { return }
        closing = true
        push(now)
        finishIfDone(now)
    }

    /// After reading, when the window had shrunk: tcp_cleanup_rbuf.
    func updateWindow(_ now: TrueTime) {
        guard state == .open, rcvNxt + Self.receiveBuffer - unread.count - announcedEdge > 16_000 else { return }
        acknowledge(now)
    }

    // MARK: Sending

    private func packet(
        _ flags: TCPFlags, at offset: Int, _ payload: ArraySlice<UInt8>, _ now: TrueTime
    ) -> TCPPacket {
        let window = min(max(0, Self.receiveBuffer - unread.count) >> scale, 65_535)
        announcedEdge = rcvNxt + window << scale
        return TCPPacket(
            from: flow.service, to: flow.client, sequence: first.advanced(by: offset),
            acknowledgment: clientFirst.advanced(by: rcvNxt), flags: flags, window: UInt16(window),
            timestamps: usesTimestamps
                ? TCPTimestamps(value: stampOffset &+ UInt32(truncatingIfNeeded: now / 1_000_000), echo: lastTimestamp)
                : nil,
            payload: Array(payload)
        )
    }

    private func sendHandshake(_ now: TrueTime) {
        var synAck = packet([.syn, .ack], at: -1, [], now)
        synAck.window = 65_535
        synAck.handshake = HandshakeOptions(
            mss: Self.announced.mss, windowScale: options.windowScale == nil ? nil : Self.announced.windowScale,
            sackPermitted: options.sackPermitted, timestamps: options.timestamps)
        output.append(synAck)
        deadline = now + rto
    }

    private func acknowledge(_ now: TrueTime) { output.append(packet([.ack], at: sndNxt, [], now)) }

    private func push(_ now: TrueTime) {
        guard state == .open else { return }
        while sndNxt < stream.count, sndNxt < sndUna + congestionWindow {
            let end = min(sndNxt + segmentBytes, stream.count)
            // tcp_snd_wnd_test(): a segment is not cut for a smaller window; the probe timer does that.
            guard end <= sndEdge else { break }
            let closes = closing && end == stream.count
            output.append(packet(closes ? [.ack, .psh, .fin] : [.ack, .psh], at: sndNxt, stream[sndNxt..<end], now))
            sndNxt = closes ? end + 1 : end
        }
        if closing, sndNxt == stream.count {
            output.append(packet([.ack, .fin], at: sndNxt, [], now))
            sndNxt += 1
        }
        isProbing = sndUna == sndNxt && sndNxt < stream.count
        if deadline == .max, sndUna < sndNxt || isProbing { deadline = now + rto }
    }

    func tick(_ now: TrueTime) {
        guard now >= deadline else { return }
        rto = min(rto * 2, Self.longestTimeout)
        deadline = now + rto
        switch state {
        case .handshake: sendHandshake(now)
        case .open:
            if sndUna < sndNxt {
                congestionWindow = segmentBytes
                resend(now)
            } else if isProbing {
                probeWindow(now)
            } else {
                deadline = .max
            }
        case .timeWait:
            state = .closed
            deadline = .max
        case .closed: deadline = .max
        }
    }

    /// tcp_write_wakeup(): what fits into the window, else an empty segment one below SND.UNA.
    private func probeWindow(_ now: TrueTime) {
        guard sndEdge > sndNxt else {
            output.append(packet([.ack], at: sndUna - 1, [], now))
            return
        }
        let end = min(sndNxt + segmentBytes, stream.count, sndEdge)
        output.append(packet([.ack, .psh], at: sndNxt, stream[sndNxt..<end], now))
        sndNxt = end
    }

    private func resend(_ now: TrueTime) {
        // Never beyond SND.NXT: an ACK of that would be discarded.
        let end = min(sndUna + segmentBytes, stream.count, sndNxt, max(sndEdge, sndUna + 1))
        let closes = closing && end >= stream.count && sndNxt > stream.count
        let flags: TCPFlags = closes ? [.ack, .psh, .fin] : [.ack, .psh]
        output.append(packet(flags, at: sndUna, stream[min(sndUna, end)..<end], now))
    }

    // MARK: Receiving

    func receive(_ segment: Segment, _ now: TrueTime) {
        switch state {
        case .closed: return
        case .timeWait:
            if !segment.payload.isEmpty || segment.flags.contains(.fin) { acknowledge(now) }
        case .handshake: receiveInHandshake(segment, now)
        case .open: receiveOpen(segment, now)
        }
    }

    private func receiveInHandshake(_ segment: Segment, _ now: TrueTime) {
        if segment.flags.contains(.syn) {
            sendHandshake(now)
            return
        }
        let start = place(of: segment.sequence, first: clientFirst, near: 0)
        if segment.flags.contains(.rst) {
            if start == 0 { end() }
            return
        }
        guard segment.flags.contains(.ack), segment.acknowledgment == first, start >= 0, start < 65_536 else { return }
        state = .open
        deadline = .max
        rto = Self.firstTimeout
        sndEdge = Int(segment.window) << clientScale
        wantsApplication = true
        receiveOpen(segment, now)
    }

    private func receiveOpen(_ segment: Segment, _ now: TrueTime) {
        let start = place(of: segment.sequence, first: clientFirst, near: rcvNxt)
        let isFIN = segment.flags.contains(.fin)
        if segment.flags.contains(.rst) {
            if start == rcvNxt { end() }
            return
        }
        if segment.flags.contains(.syn) || start + segment.payload.count < rcvNxt
            || (start < rcvNxt && segment.payload.isEmpty && !isFIN) || start > rcvNxt + Self.receiveBuffer {
            acknowledge(now)
            return
        }
        guard segment.flags.contains(.ack), acknowledged(segment, start, now) else { return }
        if let stamp = segment.timestamps?.value, start <= rcvNxt { lastTimestamp = stamp }
        if !segment.payload.isEmpty || isFIN { take(segment, start, isFIN, now) }
        push(now)
        finishIfDone(now)
    }

    /// False when the segment acknowledges what was never sent: tcp_ack() discards it whole.
    private func acknowledged(_ segment: Segment, _ start: Int, _ now: TrueTime) -> Bool {
        let ack = place(of: segment.acknowledgment, first: first, near: sndUna)
        guard ack <= sndNxt else {
            acknowledge(now)
            return false
        }
        guard ack >= sndUna else { return true }
        let edge = ack + Int(segment.window) << clientScale
        // tcp_may_update_window(): a newer ACK counts even where it takes the edge back.
        let isNewer = ack > sndUna || start > windowSequence || edge > sndEdge
        if ack > sndUna {
            sndUna = ack
            duplicateACKs = 0
            recovering = false
            congestionWindow = min(congestionWindow + segmentBytes, 1 << 20)
            rto = Self.firstTimeout
            deadline = sndUna < sndNxt ? now + rto : .max
            if stream.count - sndUna < Self.sendBuffer / 2 { wantsApplication = true }
        } else if segment.payload.isEmpty, sndUna < sndNxt, edge == sndEdge {
            duplicateACKs += 1
            if duplicateACKs == 3, !recovering {
                recovering = true
                resend(now)
            }
        }
        if isNewer {
            windowSequence = start
            if edge > sndEdge {
                isProbing = false
                if sndUna == sndNxt { (deadline, rto) = (.max, Self.firstTimeout) }
            }
            sndEdge = edge
        }
        return true
    }

    private func take(_ segment: Segment, _ start: Int, _ isFIN: Bool, _ now: TrueTime) {
        if isFIN { finAt = start + segment.payload.count }
        if !segment.payload.isEmpty, gaps.count < 64 { gaps.append((start, segment.payload)) }
        var moved = true
        while moved {
            moved = false
            for (index, gap) in gaps.enumerated() where gap.start <= rcvNxt {
                let end = gap.start + gap.bytes.count
                if end > rcvNxt, unread.count + end - rcvNxt <= Self.receiveBuffer {
                    unread += gap.bytes.dropFirst(rcvNxt - gap.start)
                    rcvNxt = end
                    wantsApplication = true
                }
                gaps.remove(at: index)
                moved = true
                break
            }
        }
        if finAt == rcvNxt {
            rcvNxt += 1
            wantsApplication = true
        }
        acknowledge(now)
    }

    private func finishIfDone(_ now: TrueTime) {
        guard state == .open, closing, sndUna == stream.count + 1, finAt.map({ rcvNxt > $0 }) == true else { return }
        state = .timeWait
        deadline = now + 500_000_000
    }

    private func end() {
        state = .closed
        deadline = .max
    }

    /// SOCK_DESTROY: gone without a frame.
    func destroy() { end() }
}
