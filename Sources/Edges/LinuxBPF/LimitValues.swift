public import CContract

// Thresholds and limits of new flows in contract.h.

extension baton_thresholds {
    public subscript(slot: Int) -> baton_threshold {
        get { withUnsafeBytes(of: self) { $0.load(fromByteOffset: slot * 8, as: baton_threshold.self) } }
        set {
            withUnsafeMutableBytes(of: &self) { bytes in
                bytes.storeBytes(of: newValue, toByteOffset: slot * 8, as: baton_threshold.self)
            }
        }
    }
}

extension baton_full_slots {
    public subscript(slot: Int) -> Bool {
        get {
            withUnsafeBytes(of: self) { bytes in
                bytes.load(fromByteOffset: slot / 32 * 4, as: UInt32.self) & 1 << UInt32(slot % 32) != 0
            }
        }
        set {
            withUnsafeMutableBytes(of: &self) { bytes in
                let word = bytes.load(fromByteOffset: slot / 32 * 4, as: UInt32.self)
                let bit = UInt32(1) << UInt32(slot % 32)
                bytes.storeBytes(of: newValue ? word | bit : word & ~bit, toByteOffset: slot / 32 * 4, as: UInt32.self)
            }
        }
    }

    /// The marks as they have to be: set from the upper threshold on, cleared below the lower one, else as they were.
    public func judged(_ limits: baton_thresholds, flows: (Int) -> UInt32) -> baton_full_slots {
        var marks = self
        for slot in 0..<Int(BATON_MAX_SLOTS) {
            let limit = limits[slot]
            guard limit.upper > 0 else {
                marks[slot] = false
                continue
            }
            let count = flows(slot)
            if count >= limit.upper { marks[slot] = true } else if count < limit.lower { marks[slot] = false }
        }
        return marks
    }
}

extension baton_flow_limit {
    /// - Parameters:
    ///   - rate: new flows a second; nil: as many as come.
    ///   - burst: so many at once, 1 or more.
    ///   - sorry: the slot for flows that no other slot takes.
    public init(rate: Int?, burst: Int, sorry slot: UInt16? = nil) {
        self.init()
        if let rate, rate > 0 {
            interval_ns = max(1, 1_000_000_000 / UInt64(rate))
            burst_ns = UInt64(max(burst, 1) - 1) * interval_ns
        }
        sorry = slot.map { UInt32($0) + 1 } ?? 0
    }
}
