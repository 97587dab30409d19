import Model
import Wire

/// A connection on the tracker's list of holes.
struct HoleNote {
    let handle: ConnectionHandle
    /// Not asked for before.
    var askAt: Instant
    var asks = 0
    /// The journal's length when it was last asked for: above it, something has come.
    var length: UInt64
}

/// Bytes that a client has sent and this tracker has not seen.
public struct JournalHole: Hashable, Sendable {
    public var slot: SlotID
    public var flow: FlowKey
    public var irs: SequenceNumber
    /// The first gap, counted from IRS + 1.
    public var range: Range<UInt64>
    public var since: Instant
}

extension Tracker {
    /// Connections with holes that are listed at a time; more are listed as these are filled.
    static let holesLimit = 4096
    /// Segments that overtake one another are no hole yet.
    static let holePatience = Interval.milliseconds(20)
    /// Nobody has the bytes: the client would have sent them again by now, had the server not taken them.
    static let holeTimeout = Interval.seconds(5)

    /// Called after each segment.
    mutating func noteHole(_ connection: inout BackupConnection, at place: Int, now: Instant) {
        guard connection.unprotected == nil, connection.journalLength < connection.clientSent else {
            connection.holeSince = nil
            return
        }
        if connection.holeSince == nil { connection.holeSince = now }
        guard !connection.isHoleListed, holes.count < Self.holesLimit else { return }
        connection.isHoleListed = true
        let handle = ConnectionHandle(index: place, generation: connection.generation)
        let askAt = now + Self.holePatience
        holes.append(HoleNote(handle: handle, askAt: askAt, length: connection.journalLength))
    }

    /// Whether some connection may have a hole.
    public var hasHoles: Bool { !holes.isEmpty }

    /// The holes that should be asked for now, at most `limit`; each comes again after a while, later each time, unless
    /// something of it has come.
    ///
    /// - Parameter isWanted: whether there is somebody to ask about the slot.
    public mutating func dueHoles(now: Instant, limit: Int, isWanted: (SlotID) -> Bool) -> [JournalHole] {
        var due: [JournalHole] = []
        var kept: [HoleNote] = []
        for note in holes {
            guard var connection = self[note.handle] else { continue }
            guard let since = connection.holeSince else {
                connection.isHoleListed = false
                connections[note.handle.index] = connection
                continue
            }
            var note = note
            if connection.journalLength > note.length {
                note.length = connection.journalLength
                note.asks = 0
                note.askAt = min(note.askAt, now)
            }
            if note.askAt <= now, due.count < limit, isWanted(connection.slot) {
                let end = connection.journal.gapEnd(in: ranges) ?? connection.clientSent
                due.append(
                    JournalHole(
                        slot: connection.slot, flow: connection.flow, irs: connection.irs,
                        range: connection.journalLength..<max(end, connection.journalLength), since: since))
                note.askAt = now + min(.milliseconds(50 << Int64(min(note.asks, 5))), .seconds(1))
                note.asks += 1
            }
            kept.append(note)
        }
        holes = kept
        return due
    }

    /// The owner has been asked and does not have what is missing either. After a while the connection is not counted
    /// as protected any more.
    public mutating func holeStays(_ flow: FlowKey, irs: SequenceNumber, now: Instant) {
        guard let place = find(flow), var connection = connections[place], connection.irs == irs,
            let since = connection.holeSince, now - since >= Self.holeTimeout
        else { return }
        lose(&connection, .journalHole)
        connection.holeSince = nil
        counters.holesUnfilled &+= 1
        connection.journal.follow(to: min(connection.clientSent, connection.finOffset ?? .max))
        connections[place] = connection
    }
}
