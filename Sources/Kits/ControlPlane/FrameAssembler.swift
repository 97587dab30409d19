import NIOCore

/// Cuts a stream of bytes into frames: a length of four bytes, big-endian, then that many bytes of body.
///
/// A length of 0 is a keepalive and carries nothing. The buffer never grows past one frame of the limit and what was
/// read with its end.
struct FrameAssembler {
    enum Step: Equatable {
        /// More bytes are needed.
        case wait
        case keepalive
        case frame([UInt8])
        /// A length above the limit: the stream cannot be followed any further.
        case tooLong(Int)
    }

    /// Bytes before each body.
    static let headerBytes = 4

    private let limit: Int
    private var buffer = ByteBuffer()

    /// - Parameter limit: Bytes of the longest body.
    init(limit: Int) { self.limit = limit }

    mutating func append(_ bytes: inout ByteBuffer) {
        if buffer.readableBytes == 0 {
            buffer = bytes
        } else {
            buffer.discardReadBytes()
            buffer.writeBuffer(&bytes)
        }
    }

    /// The next frame that is whole.
    mutating func next() -> Step {
        guard let length = buffer.getInteger(at: buffer.readerIndex, as: UInt32.self) else { return .wait }
        guard length <= limit else { return .tooLong(Int(length)) }
        guard buffer.readableBytes >= FrameAssembler.headerBytes + Int(length) else { return .wait }
        buffer.moveReaderIndex(forwardBy: FrameAssembler.headerBytes)
        guard length > 0, let body = buffer.readBytes(length: Int(length)) else { return .keepalive }
        return .frame(body)
    }
}
