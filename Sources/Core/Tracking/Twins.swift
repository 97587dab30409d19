import Model
import Wire

// A SYN and the ACK that belongs to it are no proof that a flow has begun anew: whoever knows the ports can send both,
// and the server obeys neither while it knows the connection (RFC 9293 3.10.7.4). Only the server's own number in that
// ACK would tell, and a backup does not see what the server says. So the connection that was there is kept beside the
// new one, as its twin: each frame goes to the one that it fits, and that one is the flow's until a frame fits the other.

extension Tracker {
    /// A rival SYN has got its ACK: its connection is the flow's from now on.
    ///
    /// - Returns: the place of the new connection; nil when the table is full.
    mutating func displace(_ place: Int, by rival: RivalSYN, slot: SlotID, now: Instant) -> Int? {
        guard var old = connections[place] else { return nil }
        old.rival = nil
        connections[place] = old
        let flow = old.flow
        counters.replaced &+= 1
        var twin = old.twin
        if twin != BackupConnection.noTwin {
            // The first one stays: two forged ones must not do what one cannot.
            removeOne(place)
        } else if old.iss == nil || old.finOffset != nil || old.unprotected != nil {
            // The client has closed it, or nothing of it could be continued.
            removeOne(place)
        } else {
            if count >= parameters.connections { evict() }
            guard count < parameters.connections else {
                counters.tableFull &+= 1
                return nil
            }
            index.remove(flow, at: place) { connections[$0]?.flow ?? flow }
            connections[place]?.isDisplaced = true
            twin = Int32(place)
        }
        let new = create(flow, irs: rival.irs, rival.options, rival.timestamps, slot: slot, now: now)
        if !rival.isISSDisputed { connections[new]?.certainISS = rival.iss }
        pair(new, with: twin)
        return new
    }

    private mutating func pair(_ place: Int, with twin: Int32) {
        guard twin != BackupConnection.noTwin, connections[Int(twin)] != nil else { return }
        connections[place]?.twin = twin
        connections[Int(twin)]?.twin = Int32(place)
    }

    /// Makes the twin the flow's connection where a frame fits it, and not the one that is the flow's now.
    ///
    /// - Returns: the place of the connection that the frame is for.
    mutating func choose(_ place: Int, for frame: TCPFrame) -> Int {
        guard let current = connections[place], current.twin != BackupConnection.noTwin, !fits(frame, current),
            let twin = connections[Int(current.twin)], fits(frame, twin)
        else { return place }
        index.remove(current.flow, at: place) { connections[$0]?.flow ?? current.flow }
        connections[place]?.isDisplaced = true
        let chosen = Int(current.twin)
        promote(chosen)
        return chosen
    }

    /// Ends a connection, and gives the flow back to its twin: the frame that ended it may be as forged as it was.
    mutating func end(_ place: Int, counting counter: WritableKeyPath<TrackerCounters, UInt64>) {
        guard let connection = connections[place] else { return }
        let twin = connection.twin
        removeOne(place)
        counters[keyPath: counter] &+= 1
        guard !connection.isDisplaced, twin != BackupConnection.noTwin else { return }
        promote(Int(twin))
    }

    private mutating func promote(_ place: Int) {
        guard var connection = connections[place] else { return }
        connection.isDisplaced = false
        // Its hole may have been dropped from the list; twice on it is no harm.
        connection.isHoleListed = false
        connections[place] = connection
        index.insert(connection.flow, at: place)
    }

    private func fits(_ frame: TCPFrame, _ connection: BackupConnection) -> Bool {
        if frame.flags.contains(.rst) { return isObeyed(frame, connection) }
        let start = connection.place(of: frame.sequence)
        let end = Int64(bitPattern: connection.journalLength) + Int64(parameters.windowBytes)
        guard frame.flags.contains(.ack), start >= -1, start <= end else { return false }
        guard let known = connection.acknowledged else { return true }
        let moved = frame.acknowledgment.distance(from: known)
        return moved >= -(1 << 30) && moved <= 3 << 29
    }
}
