import HTTP
import Model

extension Tracker {
    /// Traps when the tracker's structures contradict one another; walks through everything.
    public func checkInvariants() {
        var live = 0
        var chunks = 0
        var pieces = 0
        for place in connections.indices {
            guard let connection = connections[place] else { continue }
            live += 1
            chunks += connection.journal.chunkCount(in: store)
            pieces += connection.journal.checkInvariants(ranges)
            precondition(
                (find(connection.flow) == place) != connection.isDisplaced,
                "\(connection.flow) is not found at its place"
            )
            precondition(isPaired(connection, place), "\(connection.flow) and its twin do not know each other")
            check(connection)
        }
        precondition(live == count, "\(live) connections, but \(count) are counted")
        precondition(chunks == store.chunksInUse, "\(chunks) chunks held, but \(store.chunksInUse) in use")
        precondition(pieces == ranges.used, "\(pieces) pieces held, but \(ranges.used) in use")
        store.checkInvariants()
    }

    private func isPaired(_ connection: BackupConnection, _ place: Int) -> Bool {
        guard connection.twin != BackupConnection.noTwin else { return !connection.isDisplaced }
        guard let twin = connections[Int(connection.twin)] else { return false }
        return twin.twin == Int32(place) && twin.flow == connection.flow && twin.isDisplaced != connection.isDisplaced
    }

    private func check(_ connection: BackupConnection) {
        if let iss = connection.iss, let certain = connection.certainISS {
            precondition(iss == certain, "\(connection.flow): counted from \(iss), but ISS is \(certain)")
        }
        precondition(connection.clientSent >= connection.journalLength, "\(connection.flow): more bytes than were sent")
        if let fin = connection.finOffset {
            precondition(connection.journalLength <= fin, "\(connection.flow): bytes behind the FIN")
        }
        if let conversation = conversations[connection.conversation] {
            precondition(
                conversation.replayPoint >= connection.journal.base,
                "\(connection.flow): the replay point is forgotten"
            )
        }
        if connection.unprotected != nil {
            precondition(
                connection.journal.chunkCount(in: store) == 0,
                "\(connection.flow): unprotected, but a journal"
            )
        }
    }
}
