import Model
import Wire

/// What a tap hands over: the first two bytes add to the length on the wire, as if the capture had been cut short.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzFrameParser(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let all = UnsafeRawBufferPointer(start: data, count: size)
    check(FrameParser.parse(packet: all), all)
    guard size >= 2 else { return 0 }
    let frame = UnsafeRawBufferPointer(rebasing: all[2...])
    let missing = Int(all[0]) << 8 | Int(all[1])
    check(FrameParser.parse(ethernet: frame, wireLength: frame.count + missing), frame)
    return 0
}

/// What parses must be consistent, and what is written from it must parse to the same.
private func check(_ parsing: FrameParsing, _ bytes: UnsafeRawBufferPointer) {
    guard let frame = parsing.frame else { return }
    precondition(frame.payload.lowerBound >= 0 && frame.payload.upperBound <= bytes.count, "a payload outside the bytes")
    precondition(frame.payload.count <= frame.payloadLength, "more was captured than sent")
    guard frame.payload.count <= 65_000 else { return }
    let isSYN = frame.flags.contains(.syn)
    let written = TCPPacket(
        from: frame.flow.client,
        to: frame.flow.service,
        sequence: frame.sequence,
        acknowledgment: frame.acknowledgment,
        flags: frame.flags,
        window: frame.window,
        timestamps: frame.timestamps,
        handshake: isSYN ? frame.options : nil,
        payload: Array(bytes[frame.payload])
    ).encode()
    written.withUnsafeBytes { raw in
        guard let again = FrameParser.parse(packet: raw).frame else { fatalError("what was written does not parse") }
        precondition(again.flow == frame.flow && again.sequence == frame.sequence && again.flags == frame.flags)
        precondition(again.timestamps == frame.timestamps)
        precondition(!isSYN || again.options == frame.options)
        precondition(raw[again.payload].elementsEqual(bytes[frame.payload]))
    }
}
