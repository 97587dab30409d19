/// Why bytes are not a control message: the field at fault, and what is wrong with it.
///
/// Decoders throw this for anything that a peer may send; they never trap.
public struct ControlDecodingError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Cause: Hashable, Sendable {
        /// The bytes end within the field.
        case truncated
        /// Bytes follow the end of the message.
        case trailingBytes
        /// Not a message of Baton.
        case badMagic
        /// A version that this program does not speak.
        case unsupportedVersion(UInt16)
        /// A number that names no kind of message or no case of the field.
        case unknownValue(UInt64)
        /// A count or a length above its bound.
        case tooLong(UInt64)
        /// Text that is empty, not UTF-8, or holds control characters.
        case badText
    }

    /// The message and the field, as `welcome.services`.
    public var place: String
    public var cause: Cause

    public init(place: String, cause: Cause) {
        self.place = place
        self.cause = cause
    }

    public var description: String {
        switch cause {
        case .truncated: "\(place): the bytes end too early"
        case .trailingBytes: "\(place): bytes follow the end of the message"
        case .badMagic: "\(place): not a Baton message"
        case .unsupportedVersion(let version):
            "\(place): version \(version) is not spoken here; run the same release of Baton everywhere"
        case .unknownValue(let value): "\(place): \(value) means nothing here"
        case .tooLong(let count): "\(place): \(count) is above the bound"
        case .badText: "\(place): the text is empty, not UTF-8, or holds control characters"
        }
    }
}
