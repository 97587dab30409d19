import Model

/// Appends fields in network byte order.
struct ControlWriter {
    private(set) var bytes: [UInt8] = []

    mutating func integer<Number: FixedWidthInteger & UnsignedInteger>(_ value: Number) {
        var shift = Number.bitWidth
        while shift > 0 {
            shift -= 8
            bytes.append(UInt8(truncatingIfNeeded: value >> Number(shift)))
        }
    }

    mutating func raw(_ value: some Collection<UInt8>) { bytes += value }

    mutating func flag(_ value: Bool) { bytes.append(value ? 1 : 0) }

    mutating func interval(_ value: Interval) { integer(UInt64(bitPattern: value.nanoseconds)) }

    /// An interval that may be unknown; unknown is all ones.
    mutating func interval(_ value: Interval?) { integer(value.map { UInt64(bitPattern: $0.nanoseconds) } ?? .max) }

    mutating func instant(_ value: Instant) { integer(value.nanoseconds) }

    mutating func address(_ value: IPAddress) {
        integer(value.high)
        integer(value.low)
    }

    mutating func mac(_ value: MACAddress) { bytes += value.bytes }

    mutating func endpoint(_ value: Endpoint) {
        address(value.address)
        integer(value.port)
    }

    /// Text of at most 255 bytes of UTF-8; what is longer is cut at a character.
    mutating func text(_ value: String, limit: Int) {
        var cut = value
        while cut.utf8.count > min(limit, 255) { cut.removeLast() }
        bytes.append(UInt8(truncatingIfNeeded: cut.utf8.count))
        // Readers refuse control characters, since the text goes into logs and onto terminals.
        bytes += cut.utf8.lazy.map { $0 < 0x20 || $0 == 0x7f ? 0x20 : $0 }
    }

    /// A list with a 16-bit count; what is beyond the limit is left out, since no peer would take it.
    mutating func list<Element>(_ elements: [Element], limit: Int, _ write: (inout ControlWriter, Element) -> Void) {
        let kept = elements.prefix(min(limit, 0xffff))
        integer(UInt16(truncatingIfNeeded: kept.count))
        for element in kept { write(&self, element) }
    }
}

/// Reads fields in network byte order; every read checks the length and throws, none traps.
struct ControlReader {
    private let bytes: ArraySlice<UInt8>
    private var position: Int
    /// The message being read, for the place in errors.
    var message: String

    init(_ bytes: ArraySlice<UInt8>, message: String) {
        self.bytes = bytes
        self.position = bytes.startIndex
        self.message = message
    }

    var remaining: Int { bytes.endIndex - position }

    func failure(_ field: String, _ cause: ControlDecodingError.Cause) -> ControlDecodingError {
        ControlDecodingError(place: message + "." + field, cause: cause)
    }

    mutating func take(_ count: Int, _ field: String) throws(ControlDecodingError) -> ArraySlice<UInt8> {
        guard count >= 0, count <= remaining else { throw failure(field, .truncated) }
        defer { position += count }
        return bytes[position..<position + count]
    }

    mutating func integer<Number: FixedWidthInteger & UnsignedInteger>(
        _ field: String,
        as type: Number.Type = Number.self
    ) throws(ControlDecodingError) -> Number {
        var value: Number = 0
        for byte in try take(Number.bitWidth / 8, field) {
            value = Number.bitWidth == 8 ? Number(byte) : value << 8 | Number(byte)
        }
        return value
    }

    mutating func flag(_ field: String) throws(ControlDecodingError) -> Bool {
        let value: UInt8 = try integer(field)
        guard value <= 1 else { throw failure(field, .unknownValue(UInt64(value))) }
        return value == 1
    }

    /// An interval from 0 to `limit`.
    mutating func interval(_ field: String, limit: Interval) throws(ControlDecodingError) -> Interval {
        let value: UInt64 = try integer(field)
        guard value <= UInt64(limit.nanoseconds) else { throw failure(field, .tooLong(value)) }
        return Interval(nanoseconds: Int64(value))
    }

    mutating func optionalInterval(_ field: String, limit: Interval) throws(ControlDecodingError) -> Interval? {
        let value: UInt64 = try integer(field)
        if value == .max { return nil }
        guard value <= UInt64(limit.nanoseconds) else { throw failure(field, .tooLong(value)) }
        return Interval(nanoseconds: Int64(value))
    }

    mutating func instant(_ field: String) throws(ControlDecodingError) -> Instant {
        Instant(nanoseconds: try integer(field))
    }

    /// An instant that may be unknown: all ones.
    mutating func optionalInstant(_ field: String) throws(ControlDecodingError) -> Instant? {
        let value = try instant(field)
        return value == .never ? nil : value
    }

    mutating func address(_ field: String) throws(ControlDecodingError) -> IPAddress {
        IPAddress(high: try integer(field), low: try integer(field))
    }

    mutating func mac(_ field: String) throws(ControlDecodingError) -> MACAddress {
        let high: UInt16 = try integer(field)
        let low: UInt32 = try integer(field)
        return MACAddress(rawValue: UInt64(high) << 32 | UInt64(low))
    }

    mutating func endpoint(_ field: String) throws(ControlDecodingError) -> Endpoint {
        Endpoint(address: try address(field), port: try integer(field))
    }

    /// Text without control characters.
    mutating func text(
        _ field: String,
        limit: Int,
        mayBeEmpty: Bool = false
    ) throws(ControlDecodingError) -> String {
        let count: UInt8 = try integer(field)
        guard Int(count) <= limit else { throw failure(field, .tooLong(UInt64(count))) }
        let raw = try take(Int(count), field)
        guard mayBeEmpty || !raw.isEmpty, raw.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }),
            let text = String(validating: raw, as: UTF8.self)
        else { throw failure(field, .badText) }
        return text
    }

    /// A list with a 16-bit count of at most `limit` elements.
    mutating func list<Element>(
        _ field: String,
        limit: Int,
        _ read: (inout ControlReader) throws(ControlDecodingError) -> Element
    ) throws(ControlDecodingError) -> [Element] {
        let count: UInt16 = try integer(field)
        guard Int(count) <= limit else { throw failure(field, .tooLong(UInt64(count))) }
        // No reserveCapacity: the count is the peer's word until its elements have been read.
        var elements: [Element] = []
        for _ in 0..<count { elements.append(try read(&self)) }
        return elements
    }

    func finish() throws(ControlDecodingError) {
        guard remaining == 0 else { throw ControlDecodingError(place: message, cause: .trailingBytes) }
    }
}
