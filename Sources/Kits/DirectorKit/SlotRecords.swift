import CContract
import Cluster
import Model
import Wire

// Between the machine's slot records and `struct baton_slot_record` of contract.h.

extension baton_slot_record {
    init(_ record: SlotRecord) {
        self.init()
        withUnsafeMutableBytes(of: &backend) { Self.write(record.backend, to: $0) }
        withUnsafeMutableBytes(of: &owner_name) { Self.write(record.ownerName, to: $0) }
        life = record.life.rawValue
        epoch = record.epoch.rawValue
        state = UInt32(record.state.rawValue)
        owner = record.owner?.rawValue ?? UInt16(BATON_NO_SLOT)
        let proven = record.proven.prefix(SlotRecord.provenLimit)
        proven_count = UInt8(proven.count)
        withUnsafeMutableBytes(of: &self.proven) { bytes in
            for (index, slot) in proven.enumerated() {
                bytes.storeBytes(of: slot.rawValue, toByteOffset: index * 2, as: UInt16.self)
            }
        }
        flags = record.draining ? UInt16(BATON_RECORD_DRAINING.rawValue) : 0
        let contenders = record.contenders.prefix(SlotRecord.contenderLimit)
        contender_count = UInt8(contenders.count)
        withUnsafeMutableBytes(of: &self.contenders) { bytes in
            for (index, slot) in contenders.enumerated() {
                bytes.storeBytes(of: slot.rawValue, toByteOffset: index * 2, as: UInt16.self)
            }
        }
    }

    private static func write(_ name: String, to bytes: UnsafeMutableRawBufferPointer) {
        for (index, byte) in name.utf8.prefix(bytes.count).enumerated() { bytes[index] = byte }
    }
}

extension SlotRecord {
    /// Nil when the record's slot was never used, or when it says what no director writes.
    init?(slot: SlotID, _ record: baton_slot_record) {
        guard let state = SlotState(rawValue: UInt8(truncatingIfNeeded: record.state)) else { return nil }
        let text = { (bytes: UnsafeRawBufferPointer) in String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) }
        let slots = { (bytes: UnsafeRawBufferPointer, count: UInt8, limit: Int) in
            (0..<min(Int(count), limit)).map { SlotID(rawValue: bytes.load(fromByteOffset: $0 * 2, as: UInt16.self)) }
        }
        self.init(
            slot: slot,
            state: state,
            backend: withUnsafeBytes(of: record.backend) { text($0) },
            life: Life(rawValue: record.life),
            owner: record.owner == UInt16(BATON_NO_SLOT) ? nil : SlotID(rawValue: record.owner),
            ownerName: withUnsafeBytes(of: record.owner_name) { text($0) },
            epoch: Epoch(rawValue: record.epoch),
            proven: withUnsafeBytes(of: record.proven) { slots($0, record.proven_count, SlotRecord.provenLimit) },
            contenders: withUnsafeBytes(of: record.contenders) {
                slots($0, record.contender_count, SlotRecord.contenderLimit)
            },
            draining: record.flags & UInt16(BATON_RECORD_DRAINING.rawValue) != 0
        )
    }
}
