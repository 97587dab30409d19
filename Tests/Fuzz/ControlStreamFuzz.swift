import Model
import Wire

/// The stream between director and agent, in pieces: the first byte of each piece is its length.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzControlStream(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let bytes = UnsafeBufferPointer(start: data, count: size)
    if let message = try? StreamMessage(decoding: bytes) { check(message) }
    if let message = try? PeerMessage(decoding: bytes) {
        precondition((try? PeerMessage(decoding: message.encodeBody())) == message, "what was read is not what is written")
    }
    var decoder = StreamMessageDecoder()
    var at = 0
    while at < size {
        let end = min(at + 1 + Int(bytes[at]), size)
        decoder.append(bytes[(at + 1)..<end])
        at = end
        do {
            while let message = try decoder.next() { check(message) }
        } catch {
            return 0
        }
        precondition(decoder.pending <= Limits.controlMessageBytes + 4 + 255, "the decoder keeps more than a message")
    }
    return 0
}

private func check(_ message: StreamMessage) {
    let written = message.encode()
    precondition(written.count <= Limits.controlMessageBytes + 4, "a message that is too long was read")
    let again = try? StreamMessage(decoding: written.dropFirst(4))
    precondition(again == message, "what was read is not what is written")
}
