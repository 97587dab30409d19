import Wire

/// A heartbeat, an echo or a fence, after its seal was checked: a neighbour may still send anything.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzControlDatagram(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let bytes = UnsafeBufferPointer(start: data, count: size)
    guard let datagram = try? Datagram(decoding: bytes) else { return 0 }
    precondition((try? Datagram(decoding: datagram.encode())) == datagram, "what was read is not what is written")
    return 0
}
