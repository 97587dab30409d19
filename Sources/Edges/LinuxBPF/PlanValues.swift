public import CContract

// The structures of dispatch plans and loads in contract.h.

extension baton_plan_row {
    /// - Parameter places: at most BATON_PLAN_ROW; what is missing becomes BATON_NO_SLOT.
    public init(places: [UInt16]) {
        self.init()
        withUnsafeMutableBytes(of: &slots) { bytes in
            for place in 0..<bytes.count / 2 {
                let slot = place < places.count ? places[place] : UInt16(BATON_NO_SLOT)
                bytes.storeBytes(of: slot, toByteOffset: place * 2, as: UInt16.self)
            }
        }
    }

    public var places: [UInt16] {
        withUnsafeBytes(of: slots) { bytes in
            (0..<bytes.count / 2).map { bytes.load(fromByteOffset: $0 * 2, as: UInt16.self) }
        }
    }
}

extension baton_candidates {
    /// - Parameters:
    ///   - entries: slot and weight; weight 0: the flows count for the entry before. At most BATON_MAX_CANDIDATES.
    ///   - open: the slots that persistent clients may have new flows at.
    public init(entries: [(slot: UInt16, weight: UInt16)], open slots: [UInt16]) {
        self.init()
        let kept = entries.prefix(Int(BATON_MAX_CANDIDATES))
        count = UInt32(kept.count)
        // By offsets: the arrays are tuples of a thousand elements here.
        withUnsafeMutableBytes(of: &self) { bytes in
            for slot in slots where slot < UInt16(BATON_MAX_SLOTS) {
                let place = Self.openOffset + Int(slot) / 32 * 4
                let word = bytes.load(fromByteOffset: place, as: UInt32.self)
                bytes.storeBytes(of: word | 1 << UInt32(slot % 32), toByteOffset: place, as: UInt32.self)
            }
            for (index, entry) in kept.enumerated() {
                let place = Self.listOffset + index * 4
                bytes.storeBytes(of: entry.slot, toByteOffset: place, as: UInt16.self)
                bytes.storeBytes(of: entry.weight, toByteOffset: place + 2, as: UInt16.self)
            }
        }
    }

    private static let openOffset = 4
    private static let listOffset = openOffset + Int(BATON_MAX_SLOTS) / 8
}

extension baton_loads {
    public subscript(slot: Int) -> baton_load {
        get { withUnsafeBytes(of: self) { $0.load(fromByteOffset: slot * 8, as: baton_load.self) } }
        set {
            withUnsafeMutableBytes(of: &self) { bytes in
                bytes.storeBytes(of: newValue, toByteOffset: slot * 8, as: baton_load.self)
            }
        }
    }
}
