/// One compiled eBPF object (ELF with BTF), carried within the binary.
///
/// The build plug-in adds a static member for each `bpf/NAME.bpf.c`: `BPFObject.director`, `BPFObject.agent`. The bytes
/// stand as base64 in a static string: a literal of bytes takes the compiler seconds, a resource needs Foundation.
public struct BPFObject: Sendable {
    /// The name of its source, without `.bpf.c`.
    public let name: String
    let base64: StaticString

    init(name: String, base64: StaticString) {
        self.name = name
        self.base64 = base64
    }

    /// The ELF object, decoded at every call (about 10 ns a byte): ask once, at load.
    public var bytes: [UInt8] {
        base64.withUTF8Buffer { decodeBase64($0) }
    }
}

/// RFC 4648 section 4; the text was made by `bpf-embed`, so there is nothing to refuse in it.
func decodeBase64(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count / 4 * 3)
    var bits: UInt32 = 0
    var count = 0
    for character in text {
        guard let digit = base64Digit(character) else { break }
        bits = bits << 6 | UInt32(digit)
        count += 6
        if count >= 8 {
            count -= 8
            bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
        }
    }
    return bytes
}

private func base64Digit(_ character: UInt8) -> UInt8? {
    switch character {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): character - UInt8(ascii: "A")
    case UInt8(ascii: "a")...UInt8(ascii: "z"): character - UInt8(ascii: "a") + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0") + 52
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: nil
    }
}
