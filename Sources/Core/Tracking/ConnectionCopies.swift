import HTTP
import Model
import Wire

/// What became of an owner's copy.
public enum MergeOutcome: Hashable, Sendable {
    /// The connection was not known.
    case created
    case merged
    /// The connection had lost its protection, which came back.
    case restored
    case refused(Refusal)

    public enum Refusal: Hashable, Sendable {
        /// The flow has another initial sequence number here: one of both is over.
        case otherIncarnation
        case tableFull
        /// It contradicts itself.
        case malformed
    }
}

/// What a backup lacks of a connection that its owner has.
public enum Lack: Hashable, Sendable {
    case nothing
    /// Bytes, counted from IRS + 1; an empty range: the state alone.
    case bytes(Range<UInt64>)
}

// MARK: The owner's side

extension Tracker {
    /// Connections of a slot whose handshake is complete, from a place of the table on; looks at a bounded part of it.
    ///
    /// - Parameters:
    ///   - cursor: 0, or what the call before returned.
    ///   - activeWithin: leaves out connections of which no frame came for so long.
    /// - Returns: also where to go on; nil at the end of the table.
    public func summaries(
        of slot: SlotID,
        from cursor: Int,
        activeWithin: Interval?,
        now: Instant
    ) -> (connections: [ConnectionSummary], next: Int?) {
        var found: [ConnectionSummary] = []
        var place = max(cursor, 0)
        let stop = min(place + PeerLimits.places, connections.count)
        while place < stop, found.count < PeerLimits.summaries {
            if let summary = summary(place, slot: slot, activeWithin: activeWithin, now: now) { found.append(summary) }
            place += 1
        }
        return (found, place < connections.count ? place : nil)
    }

    private func summary(_ place: Int, slot: SlotID, activeWithin: Interval?, now: Instant) -> ConnectionSummary? {
        guard connections[place]?.slot == slot, let connection = connections[place], connection.iss != nil, !connection.isDisplaced
        else {
            return nil
        }
        let idle = max(now - connection.lastSeen, .zero)
        if let activeWithin, idle > activeWithin { return nil }
        return ConnectionSummary(
            flow: connection.flow,
            irs: connection.irs,
            certainISS: connection.certainISS,
            journalLength: connection.journalLength,
            idle: idle,
            hasFIN: connection.finOffset != nil,
            unprotected: connection.unprotected
        )
    }

    /// A copy of a connection with a piece of its journal; nil when the slot has no such connection.
    ///
    /// - Parameter limit: of the piece in bytes.
    public func copy(_ want: FetchRequest.Want, slot: SlotID, limit: Int, now: Instant) -> ConnectionCopy? {
        guard let handle = handle(of: want.flow), let connection = self[handle], connection.slot == slot,
            connection.irs == want.irs
        else { return nil }
        // What stands before the replay point is forgotten, but for a part of a chunk.
        let conversation = conversations[connection.conversation]
        let start = conversation?.replayPoint ?? 0
        let from = min(want.from < connection.journal.base ? start : want.from, connection.journalLength)
        let end = max(min(want.upTo, connection.journalLength, from + UInt64(max(limit, 0))), from)
        return ConnectionCopy(
            flow: connection.flow,
            slot: slot,
            irs: connection.irs,
            iss: connection.iss,
            isISSCertain: connection.iss != nil && connection.isISSCertain,
            client: connection.client,
            sndUna: connection.sndUna,
            rightEdge: connection.rightEdge,
            timestamps: connection.timestamps,
            finOffset: connection.finOffset,
            clientSent: connection.clientSent,
            unprotected: connection.unprotected,
            idle: max(now - connection.lastSeen, .zero),
            journalStart: start,
            replyStart: conversation?.replyStart ?? 0,
            conversation: conversation?.copy,
            journalLength: connection.journalLength,
            offset: from,
            bytes: journal(handle, from..<end)
        )
    }
}

// MARK: The backup's side

extension Tracker {
    /// What is missing here of a connection that its owner has named. Unsafe connections become so here as well.
    public mutating func compare(_ summary: ConnectionSummary, now: Instant) -> Lack {
        let everything = Lack.bytes(0..<(summary.unprotected == nil ? summary.journalLength : 0))
        guard let place = find(summary.flow), var connection = connections[place] else { return everything }
        guard connection.irs == summary.irs else {
            return isStale(connection, idle: summary.idle, now: now) ? everything : .nothing
        }
        if let iss = summary.certainISS {
            confirm(iss, &connection)
            connections[place] = connection
        }
        if let cause = summary.unprotected {
            guard isUnsafeEverywhere(cause), connection.unprotected == nil else { return .nothing }
            lose(&connection, cause)
            connections[place] = connection
            return .nothing
        }
        if connection.unprotected != nil { return mayRestore(connection) ? everything : .nothing }
        if connection.journalLength < summary.journalLength {
            let end = min(connection.journal.gapEnd(in: ranges) ?? .max, summary.journalLength)
            return .bytes(connection.journalLength..<max(end, connection.journalLength))
        }
        let lacksState = connection.iss == nil || summary.hasFIN && connection.finOffset == nil
        return lacksState ? .bytes(connection.journalLength..<connection.journalLength) : .nothing
    }

    /// Takes an owner's copy in: an unknown connection is created, of a known one the gaps are filled. Bytes that came
    /// first win; where they differ, the connection is unsafe. Whatever the copy says, nothing traps.
    ///
    /// A connection that is followed here without a gap stays protected when the owner's own tap has missed something
    /// of it; but what the owner calls unprotected never becomes protected by its copy.
    @discardableResult
    public mutating func merge(_ copy: ConnectionCopy, now: Instant) -> MergeOutcome {
        let outcome = take(copy, now: now)
        switch outcome {
        case .refused: counters.copiesRefused &+= 1
        case .created, .merged: counters.copies &+= 1
        case .restored:
            counters.copies &+= 1
            counters.restored &+= 1
        }
        return outcome
    }

    private mutating func take(_ copy: ConnectionCopy, now: Instant) -> MergeOutcome {
        guard isConsistent(copy) else { return .refused(.malformed) }
        if let place = find(copy.flow), let known = connections[place], known.irs != copy.irs {
            guard isStale(known, idle: copy.idle, now: now) || known.rival?.irs == copy.irs else {
                return .refused(.otherIncarnation)
            }
            remove(place: place, counting: \.replaced)
        }
        var outcome = MergeOutcome.merged
        var found = find(copy.flow)
        if found == nil {
            if count >= parameters.connections { evict() }
            guard count < parameters.connections else {
                counters.tableFull &+= 1
                return .refused(.tableFull)
            }
            found = create(copy.flow, irs: copy.irs, copy.client, nil, slot: copy.slot, now: now - copy.idle)
            outcome = .created
        }
        guard let place = found, var connection = connections[place] else { return .refused(.tableFull) }
        if copy.isISSCertain, let iss = copy.iss { confirm(iss, &connection) }
        if restore(&connection, by: copy) { outcome = .restored }
        if outcome != .merged || isBehind(connection, copy) { begin(&connection, with: copy) }
        mergeState(copy, &connection, isNew: outcome == .created, now: now)
        mergeBytes(copy, &connection)
        noteHole(&connection, at: place, now: now)
        connections[place] = connection
        return outcome
    }

    /// Places that contradict one another make no connection. The sums cannot overflow: places are below 2^62.
    private func isConsistent(_ copy: ConnectionCopy) -> Bool {
        let farthest: UInt64 = 1 << 62
        let places = [
            copy.sndUna, copy.rightEdge, copy.clientSent, copy.journalLength, copy.offset, copy.finOffset ?? 0,
            copy.journalStart, copy.replyStart,
        ]
        guard places.allSatisfy({ $0 <= farthest }) else { return false }
        guard copy.offset + UInt64(copy.bytes.count) <= copy.journalLength else { return false }
        if let fin = copy.finOffset, fin < copy.journalLength { return false }
        if copy.iss == nil, copy.isISSCertain || copy.sndUna > 0 || copy.journalLength > 0 { return false }
        guard copy.journalStart <= copy.journalLength, copy.replyStart <= copy.sndUna else { return false }
        return copy.unprotected == nil || copy.bytes.isEmpty
    }

    /// Ours has been silent for longer than the owner's of another incarnation: the port was used again unseen.
    private func isStale(_ connection: borrowing BackupConnection, idle: Interval, now: Instant) -> Bool {
        now - connection.lastSeen > idle + .seconds(1)
    }

    /// True of what the client did, wherever it was seen; the other causes are about what one tap has missed.
    private func isUnsafeEverywhere(_ cause: ResetCause) -> Bool {
        switch cause {
        case .conflictingBytes, .acknowledgmentImpossible, .optionUnsupported, .requestNotUnderstood: true
        case _: false
        }
    }

    /// Whether the owner's copy can bring back what was lost here: its own tap has missed something, and the rest came
    /// to no contradiction.
    private func mayRestore(_ connection: borrowing BackupConnection) -> Bool {
        guard connection.isRestorable, connection.restorations < 3 else { return false }
        switch connection.unprotected {
        case .replyUnknown: return conversations.services.contains(connection.flow.service)
        case .handshakeUnknown, .journalHole, .journalFull: return true
        case _: return false
        }
    }

    private mutating func restore(_ connection: inout BackupConnection, by copy: ConnectionCopy) -> Bool {
        guard copy.unprotected == nil, let iss = copy.iss, copy.offset <= copy.journalStart, mayRestore(connection),
            connection.client == copy.client,
            copy.journalLength - copy.journalStart <= UInt64(parameters.journalBytesPerConnection)
        else { return false }
        let isHTTP = conversations.services.contains(connection.flow.service)
        guard isHTTP == (copy.conversation != nil), (connection.certainISS ?? iss) == iss else { return false }
        // A new owner is no fault of our tap.
        if connection.unprotected != .replyUnknown { connection.restorations += 1 }
        connection.unprotected = nil
        if connection.iss != iss {
            // Ours was a guess, and so is what was counted from it.
            connection.iss = nil
            connection.sndUna = 0
            connection.rightEdge = 0
        }
        return true
    }

    /// Bytes are missing here that the owner has forgotten, because their requests are answered.
    private func isBehind(_ connection: borrowing BackupConnection, _ copy: ConnectionCopy) -> Bool {
        let (length, iss, place) = (connection.journalLength, connection.iss, connection.conversation)
        guard connection.unprotected == nil, copy.unprotected == nil, copy.conversation != nil else { return false }
        return iss == copy.iss && length < copy.journalStart && copy.offset <= copy.journalStart
            && conversations[place] != nil
    }

    /// Starts journal and conversation at the owner's replay point: the owner has proved it, and nothing before it is
    /// needed. What is known here of the replies from there on stays known.
    private mutating func begin(_ connection: inout BackupConnection, with copy: ConnectionCopy) {
        var reports = conversations[connection.conversation]?.copy.reports ?? []
        connection.journal.release(to: &store, &ranges)
        connection.journal = Journal(at: copy.unprotected == nil ? copy.journalStart : 0)
        conversations.close(&connection.conversation)
        guard copy.unprotected == nil, let theirs = copy.conversation else { return }
        var conversation = Conversation(theirs, start: copy.journalStart, replyStart: copy.replyStart)
        reports.removeAll { $0.place < copy.replyStart }
        for report in reports { conversation.reported(report) }
        connection.conversation = conversations.open(for: connection.flow.service, conversation)
    }

    private mutating func mergeState(
        _ copy: ConnectionCopy,
        _ connection: inout BackupConnection,
        isNew: Bool,
        now: Instant
    ) {
        connection.lastSeen = max(connection.lastSeen, now - copy.idle)
        if connection.client != copy.client { lose(&connection, .handshakeUnknown) }
        let edge = min(max(copy.rightEdge, copy.sndUna), copy.sndUna + 1 << 30)
        if let iss = copy.iss, connection.iss == nil, (connection.certainISS ?? iss) == iss {
            connection.iss = iss
            connection.sndUna = copy.sndUna
            connection.rightEdge = edge
            connection.timestamps = copy.timestamps
        } else if let iss = copy.iss, connection.iss == iss {
            connection.sndUna = max(connection.sndUna, copy.sndUna)
            connection.rightEdge = max(connection.rightEdge, edge)
            if let theirs = copy.timestamps, let ours = connection.timestamps,
                Int32(bitPattern: theirs.value &- ours.value) > 0
            {
                connection.timestamps = theirs
            }
        }
        // Otherwise one of both is a guess, and of the other's ACKs nothing is known.
        if let cause = copy.unprotected, isNew || isUnsafeEverywhere(cause) { lose(&connection, cause) }
        if connection.unprotected == nil, conversations[connection.conversation] == nil {
            // An owner that does not follow the connection as HTTP knows nothing of its replies, and one that does has
            // no more than HTTP needs.
            if conversations.services.contains(connection.flow.service) { lose(&connection, .replyUnknown) }
            if connection.journal.base > 0 { lose(&connection, .journalHole) }
        }
        if let fin = copy.finOffset {
            if connection.clientSent > fin { lose(&connection, .conflictingBytes) }
            noteFIN(at: fin, &connection)
        }
        connection.clientSent = max(connection.clientSent, copy.clientSent, copy.journalLength)
        if let fin = connection.finOffset { connection.clientSent = min(connection.clientSent, fin) }
    }

    private mutating func mergeBytes(_ copy: ConnectionCopy, _ connection: inout BackupConnection) {
        if connection.unprotected == nil, !copy.bytes.isEmpty {
            let end = copy.offset + UInt64(copy.bytes.count)
            if end > connection.journal.base + UInt64(parameters.journalBytesPerConnection) {
                lose(&connection, .journalFull)
            } else if let fin = connection.finOffset, end > fin {
                lose(&connection, .conflictingBytes)
            } else {
                keep(copy, &connection)
            }
        }
        if copy.bytes.isEmpty { converse(&connection) }
        connection.clientSent = max(connection.clientSent, connection.journalLength)
        if connection.unprotected != nil {
            connection.journal.follow(to: min(connection.clientSent, connection.finOffset ?? .max))
        }
    }

    private mutating func keep(_ copy: ConnectionCopy, _ connection: inout BackupConnection) {
        let length = connection.journal.length
        let outcome = copy.bytes.withUnsafeBytes { bytes in
            connection.journal.keep(
                bytes,
                at: Int(copy.offset),
                store: &store,
                ranges: &ranges,
                gapLimit: parameters.gapsPerConnection
            )
        }
        switch outcome {
        case .kept(let new):
            counters.copiedBytes &+= UInt64(new)
            guard connection.journal.length > length else { return }
            connection.holeSince = nil
            converse(&connection, from: length, isCopied: true)
        case .conflict: lose(&connection, .conflictingBytes)
        case .full: lose(&connection, .journalFull)
        case .tooManyGaps: lose(&connection, .journalHole)
        }
    }
}
