import Model

/// Frames that are wrong in all ways: pure noise, and TCP frames for the VIP of which some field was spoilt.
struct RandomFrames {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    private mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }

    mutating func bytes(_ count: ClosedRange<Int>) -> [UInt8] {
        let length = count.lowerBound + Int(next() % UInt64(count.count))
        return (0..<length).map { _ in UInt8(truncatingIfNeeded: next()) }
    }

    /// At least an Ethernet header, at most 1,514 bytes.
    mutating func frame() -> [UInt8] {
        guard next() % 4 != 0 else { return bytes(14...1514) }
        var frame = tcp()
        for _ in 0..<(next() % 4) {
            let place = Int(next() % UInt64(frame.count))
            frame[place] = UInt8(truncatingIfNeeded: next())
        }
        if next() % 4 == 0 { frame = Array(frame[..<(14 + Int(next() % UInt64(frame.count - 13)))]) }
        return frame
    }

    /// Broadcast Ethernet, IPv4 to the VIP from anywhere, TCP with random flags. Checksums are random: nobody on the
    /// way may depend on them.
    private mutating func tcp() -> [UInt8] {
        let payload = bytes(0...200)
        let total = 40 + payload.count
        var frame: [UInt8] = Array(repeating: 0xff, count: 6) + [2, 0, 0, 0, 0, 9, 8, 0]
        frame += [0x45, 0, UInt8(total >> 8), UInt8(total & 255)] + bytes(4...4) + [64, 6] + bytes(2...2)
        frame += bytes(4...4) + [192, 0, 2, 100]
        frame += bytes(2...2) + [0, 80] + bytes(8...8)
        frame += [UInt8(truncatingIfNeeded: next()), UInt8(truncatingIfNeeded: next())] + bytes(6...6)
        return frame + payload
    }
}
