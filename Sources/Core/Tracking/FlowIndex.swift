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

    /// Multiply and fold, keyed, over the flow's five words.
    private func hash(_ flow: FlowKey) -> Int {
        var state = secret.0
        state = mix(state, flow.client.address.high)
        state = mix(state, flow.client.address.low)
        state = mix(state, flow.service.address.high)
        state = mix(state, flow.service.address.low)
        state = mix(state, UInt64(flow.client.port) << 16 | UInt64(flow.service.port))
        return Int(truncatingIfNeeded: state ^ state >> 29)
    }

    private func mix(_ state: UInt64, _ word: UInt64) -> UInt64 {
        let product = (state ^ word).multipliedFullWidth(by: secret.1 | 1)
        return product.high ^ product.low ^ word
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
