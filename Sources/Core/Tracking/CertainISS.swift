import Model
import Wire

// The client's ACKs tell a backup the ISS only as long as the server has said nothing, and which ACK is the first the
// backup cannot know: its tap may have missed one. The server's own SYN-ACK tells it for certain. So what the client's
// first frame says is a guess, good for counting its ACKs from, and the owner's word makes it certain. Nothing is adopted
// without. docs/design/0016-certain-iss.md.

extension Tracker {
    /// An owner has answered a flow's SYN. May come more than once, before the connection's first ACK, and for connections
    /// that are not known (yet).
    ///
    /// - Parameter acknowledged: the SYN-ACK's ACK. It tells which of a port's connections is meant, and whether the server
    ///   has taken the data of the SYN (RFC 7413 4.2).
    public mutating func announced(_ flow: FlowKey, iss: SequenceNumber, acknowledged: SequenceNumber) {
        guard let place = find(flow), let known = connections[place] else { return }
        let data = acknowledged.distance(from: known.irs.advanced(by: 1))
        if data == 0 || data == Int(known.synBytes) {
            confirm(iss, at: place)
        } else if let rival = known.rival, acknowledged == rival.irs.advanced(by: 1) {
            connections[place]?.rival?.note(iss)
        } else if known.twin != BackupConnection.noTwin, let twin = connections[Int(known.twin)],
            acknowledged == twin.irs.advanced(by: 1)
        {
            confirm(iss, at: Int(known.twin))
        }
    }

    private mutating func confirm(_ iss: SequenceNumber, at place: Int) {
        guard var connection = connections[place], connection.certainISS != iss else { return }
        confirm(iss, &connection)
        connections[place] = connection
    }

    /// The ISS is known for certain. What was counted from a guess is counted from it now.
    mutating func confirm(_ iss: SequenceNumber, _ connection: inout BackupConnection) {
        if let known = connection.certainISS {
            guard known != iss else { return }
            // Two servers, or one that had forgotten the SYN, have answered it: which one the client took is not known.
            connection.isRestorable = false
            loseHandshake(&connection)
            return
        }
        connection.certainISS = iss
        guard let guess = connection.iss, guess != iss else { return }
        connection.iss = iss
        let moved = Int64(guess.distance(from: iss))
        connection.sndUna = UInt64(clamping: Int64(clamping: connection.sndUna) + moved)
        connection.rightEdge = UInt64(clamping: Int64(clamping: connection.rightEdge) + moved)
        // As in `acknowledge`.
        if moved > 3 << 29 { lose(&connection, .acknowledgmentImpossible) }
        // Where replies start was counted from the guess, and bytes may have been forgotten by it.
        if connection.conversation != Conversations.none { loseHandshake(&connection) }
    }

    private mutating func loseHandshake(_ connection: inout BackupConnection) {
        guard connection.unprotected == nil else { return }
        lose(&connection, .handshakeUnknown)
        connection.holeSince = nil
        connection.journal.follow(to: min(connection.clientSent, connection.finOffset ?? .max))
    }
}
