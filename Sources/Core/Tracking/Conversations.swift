import HTTP
import Model

/// The connections of services that are replayed as HTTP, beside the connections themselves: those of other services
/// stay small.
struct Conversations {
    static let none = UInt32.max

    private var items: [Conversation?] = []
    private var free: [UInt32] = []
    private(set) var services: [Endpoint] = []

    mutating func set(_ services: [Endpoint]) { self.services = services }

    mutating func open(for service: Endpoint, _ conversation: Conversation = Conversation()) -> UInt32 {
        guard services.contains(service) else { return Self.none }
        let place = free.popLast() ?? UInt32(items.count)
        if place == items.count { items.append(nil) }
        items[Int(place)] = conversation
        return place
    }

    mutating func close(_ place: inout UInt32) {
        guard place != Self.none else { return }
        items[Int(place)] = nil
        free.append(place)
        place = Self.none
    }

    subscript(_ place: UInt32) -> Conversation? { place == Self.none ? nil : items[Int(place)] }

    /// Moves a conversation out, to be changed and put back.
    mutating func take(_ place: UInt32) -> Conversation? {
        guard place != Self.none else { return nil }
        return items[Int(place)].take()
    }

    mutating func put(_ conversation: consuming Conversation, at place: UInt32) { items[Int(place)] = conversation }
}

extension Tracker {
    /// The services whose connections are followed request by request, from their next SYN on.
    public mutating func setHTTP(_ services: [Endpoint]) { conversations.set(services) }

    /// What is known of a connection's requests; nil where its service is not replayed as HTTP, or its protection is
    /// lost.
    public func conversation(_ handle: ConnectionHandle) -> Conversation? {
        self[handle].flatMap { conversations[$0.conversation] }
    }

    /// The primary says that a reply starts at a sequence number. May come late, more than once, and for connections
    /// that are not known.
    public mutating func reported(_ flow: FlowKey, sequence: SequenceNumber, _ facts: ReplyFacts) {
        guard let index = find(flow), var connection = connections[index], let known = connection.acknowledged,
            connection.conversation != Conversations.none
        else { return }
        let place = Int64(bitPattern: connection.sndUna) + Int64(sequence.distance(from: known))
        guard place >= 0 else { return }
        guard var conversation = conversations.take(connection.conversation) else { return }
        conversation.reported(ReplyReport(place: UInt64(place), facts: facts))
        conversations.put(conversation, at: connection.conversation)
        settle(&connection)
        connections[index] = connection
    }

    /// Another server answers from now on what its client has nothing of.
    public mutating func regenerates(_ flow: FlowKey) {
        guard let place = find(flow), var connection = connections[place],
            var conversation = conversations.take(connection.conversation)
        else { return }
        conversation.forgetReplies(from: connection.sndUna)
        conversations.put(conversation, at: connection.conversation)
        settle(&connection)
        connections[place] = connection
    }

    /// The slot has another owner: which replies it has sent where the former one had begun others, only it can tell.
    mutating func distrustReplies(of slot: SlotID) {
        for place in connections.indices {
            guard var connection = connections[place], connection.slot == slot, connection.unprotected == nil,
                connection.conversation != Conversations.none
            else { continue }
            lose(&connection, .replyUnknown)
            connection.journal.follow(to: min(connection.clientSent, connection.finOffset ?? .max))
            connections[place] = connection
        }
    }

    /// Shows new journal bytes, or a new ACK, to the conversation, and forgets what it does not need any more.
    ///
    /// - Parameter isCopied: the bytes came from the owner. What the client had acknowledged when it sent them is not
    ///   known, and the least that it can be is taken: a request that begins there shows no place of a reply.
    mutating func converse(_ connection: inout BackupConnection, from start: UInt64? = nil, isCopied: Bool = false) {
        guard var conversation = conversations.take(connection.conversation) else { return }
        let acknowledged = connection.sndUna
        if let start, start < connection.journal.length {
            let shown = isCopied ? min(conversation.replyStart, acknowledged) : acknowledged
            connection.journal.visit(start..<connection.journal.length, in: store) {
                conversation.received($0, acknowledged: shown)
            }
        }
        conversation.acknowledged(to: acknowledged)
        conversations.put(conversation, at: connection.conversation)
        settle(&connection)
    }

    private mutating func settle(_ connection: inout BackupConnection) {
        guard let conversation = conversations[connection.conversation] else { return }
        if conversation.hasEnded || conversation.stream.fault == .tunnel {
            lose(&connection, .requestNotUnderstood)
        } else {
            connection.journal.forget(before: conversation.replayPoint, store: &store)
        }
    }
}
