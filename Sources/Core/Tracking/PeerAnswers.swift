import Model
import Wire

extension Tracker {
    /// The owner's answer to a backup's request; nil for what is no request. Takes a bounded time whatever is asked.
    ///
    /// The caller has made sure that the sender may know the slot's connections.
    public func answer(_ message: PeerMessage, now: Instant) -> PeerMessage? {
        switch message {
        case .list(let request): .listed(answer(request, now: now))
        case .fetch(let request): .copies(answer(request, now: now))
        case .hello, .listed, .copies, .refused: nil
        }
    }

    private func answer(_ request: ListRequest, now: Instant) -> ListAnswer {
        let (found, next) = summaries(
            of: request.slot, from: Int(request.cursor), activeWithin: request.activeWithin, now: now)
        return ListAnswer(
            slot: request.slot,
            serial: request.serial,
            next: next.map { UInt32(clamping: $0) },
            connections: found,
            handshakes: handshakes.filter { $0.slot == request.slot }.map(\.handshake)
        )
    }

    private func answer(_ request: FetchRequest, now: Instant) -> CopyAnswer {
        var answer = CopyAnswer(slot: request.slot, serial: request.serial, copies: [], unknown: [])
        var room = PeerLimits.bytes
        for want in request.wants.prefix(PeerLimits.wants) {
            guard room > 0 else { break }
            if let copy = copy(want, slot: request.slot, limit: room, now: now) {
                room -= copy.bytes.count
                answer.copies.append(copy)
            } else {
                answer.unknown.append(want.flow)
            }
        }
        return answer
    }

    /// How many connections each of these slots has here, and how many of them could be taken over; in their order.
    /// Looks at the whole table.
    public func census(of slots: [SlotID]) -> [Census] {
        var counts = slots.map { _ in Census() }
        guard !slots.isEmpty else { return counts }
        for place in connections.indices {
            guard let connection = connections[place], !connection.isDisplaced,
                let index = slots.firstIndex(of: connection.slot)
            else { continue }
            counts[index].connections += 1
            if connection.holeSince != nil { counts[index].incomplete += 1 }
            if isProtected(place) { counts[index].protected += 1 }
        }
        return counts
    }

    /// It could be taken over now: all is known of it, and how its server shakes hands.
    private func isProtected(_ place: Int) -> Bool {
        guard let connection = connections[place] else { return false }
        return connection.isProtected && handshake(of: connection.flow.service, slot: connection.slot) != nil
    }

    public struct Census: Hashable, Sendable {
        public var connections = 0
        public var protected = 0
        /// Bytes that the client has sent are missing.
        public var incomplete = 0
    }
}

extension BackupConnection {
    /// Its own handshake and all bytes are known.
    public var isProtected: Bool { iss != nil && isISSCertain && unprotected == nil && holeSince == nil }

    /// The server's SYN-ACK has told the ISS.
    public var isISSCertain: Bool { certainISS != nil }
}
