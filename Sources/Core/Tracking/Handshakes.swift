import Model
import Wire

/// What the servers that made the connections of tracked slots announce in their SYN-ACKs. An adoption needs it, also
/// when the server that made the connection died long ago.
extension Tracker {
    /// Takes what a server of a slot announces; replaces what was known. Forgotten with the slot.
    public mutating func learn(_ handshake: ServiceHandshake, slot: SlotID) {
        handshakes.removeAll { $0.slot == slot && $0.handshake.service == handshake.service }
        handshakes.append(SlotHandshake(slot: slot, handshake: handshake))
    }

    /// What the server that a slot was made for announces; nil while nobody has said.
    public func handshake(of service: Endpoint, slot: SlotID) -> HandshakeOptions? {
        handshakes.first { $0.slot == slot && $0.handshake.service == service }?.handshake.options
    }
}

struct SlotHandshake {
    var slot: SlotID
    var handshake: ServiceHandshake
}
