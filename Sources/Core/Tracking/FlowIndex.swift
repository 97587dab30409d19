import Model

/// Finds a connection's place by its flow: open addressing with linear probing, keyed so that clients cannot choose
/// where they land. Fixed size; at most half full, so that probes stay short.
struct FlowIndex {
    private var places: [Int32]
    private let mask: Int
    private let secret: (UInt64, UInt64)

    init(capacity: Int, secret: (UInt64, UInt64)) {
        var size = 16
        while size < capacity * 2 { size *= 2 }
        places = Array(repeating: -1, count: size)
        mask = size - 1
        self.secret = secret
    }

    private func hash(_ flow: FlowKey) -> Int {
        var state = SipHash(secret)
        state.take(flow.client.address.high)
        state.take(flow.client.address.low)
        state.take(flow.service.address.high)
        state.take(flow.service.address.low)
        state.take(UInt64(flow.client.port) << 16 | UInt64(flow.service.port))
        return Int(truncatingIfNeeded: state.finish())
    }

    /// Where a flow is, as `matches` says of the places on its path.
    func find(_ flow: FlowKey, matches: (Int) -> Bool) -> Int? {
        var at = hash(flow) & mask
        while places[at] >= 0 {
            let place = Int(places[at])
            if matches(place) { return place }
            at = (at + 1) & mask
        }
        return nil
    }

    /// The caller has made sure that the flow is not there, and that the index is not more than half full.
    mutating func insert(_ flow: FlowKey, at place: Int) {
        var at = hash(flow) & mask
        while places[at] >= 0 { at = (at + 1) & mask }
        places[at] = Int32(place)
    }

    /// Removes a place and closes the gap (Knuth 6.4, algorithm R): no tombstones.
    mutating func remove(_ flow: FlowKey, at place: Int, flowAt: (Int) -> FlowKey) {
        var hole = hash(flow) & mask
        while places[hole] != Int32(place) {
            if places[hole] < 0 { return }
            hole = (hole + 1) & mask
        }
        places[hole] = -1
        var at = (hole + 1) & mask
        while places[at] >= 0 {
            let home = hash(flowAt(Int(places[at]))) & mask
            if (at - home) & mask >= (at - hole) & mask {
                places[hole] = places[at]
                places[at] = -1
                hole = at
            }
            at = (at + 1) & mask
        }
    }
}

/// SipHash (Aumasson, Bernstein 2012) of 64-bit words, with one round a word and three at the end, as Swift's own
/// dictionaries have it. All arithmetic wraps on purpose.
private struct SipHash {
    private var v0: UInt64
    private var v1: UInt64
    private var v2: UInt64
    private var v3: UInt64
    private var words: UInt64 = 0

    init(_ secret: (UInt64, UInt64)) {
        v0 = secret.0 ^ 0x736f_6d65_7073_6575
        v1 = secret.1 ^ 0x646f_7261_6e64_6f6d
        v2 = secret.0 ^ 0x6c79_6765_6e65_7261
        v3 = secret.1 ^ 0x7465_6462_7974_6573
    }

    @inline(__always)
    mutating func take(_ word: UInt64) {
        words &+= 1
        v3 ^= word
        round()
        v0 ^= word
    }

    @inline(__always)
    mutating func finish() -> UInt64 {
        take(words << 59)
        v2 ^= 0xff
        round()
        round()
        round()
        return v0 ^ v1 ^ v2 ^ v3
    }

    @inline(__always)
    private mutating func round() {
        v0 = v0 &+ v1
        v1 = (v1 << 13 | v1 >> 51) ^ v0
        v0 = v0 << 32 | v0 >> 32
        v2 = v2 &+ v3
        v3 = (v3 << 16 | v3 >> 48) ^ v2
        v0 = v0 &+ v3
        v3 = (v3 << 21 | v3 >> 43) ^ v0
        v2 = v2 &+ v1
        v1 = (v1 << 17 | v1 >> 47) ^ v2
        v2 = v2 << 32 | v2 >> 32
    }
}
