import HTTP
import Model
import Wire

/// Follows the connections of predecessors from what their clients send ([Z] II-E).
///
/// A pure machine: it is given frames and a clock. One thread owns it. Nothing is allocated for a packet once the slabs
/// of the journals and the list of gaps have grown to what the load needs.
///
/// ISS comes from the client's first ACK, as in [Z], but only for counting: its tap may have missed that one, and a later
/// one would make ISS too high where the server speaks first. It is certain when the server's SYN-ACK has told it.
public struct Tracker: ~Copyable {
    public let parameters: TrackerParameters
    public internal(set) var counters = TrackerCounters()
    /// Connections that are tracked now.
    public internal(set) var count = 0

    var connections: [BackupConnection?] = []
    private var free: [Int] = []
    var index: FlowIndex
    var store: ChunkStore
    var ranges: RangeStore
    private var generation: UInt32 = 0
    private var sweepPlace = 0
    var conversations = Conversations()
    var handshakes: [SlotHandshake] = []
    /// Connections with missing bytes, to be asked for.
    var holes: [HoleNote] = []

    /// - Parameter secret: random numbers, so that clients cannot make the table slow.
    public init(parameters: TrackerParameters = TrackerParameters(), secret: (UInt64, UInt64)) {
        var parameters = parameters
        parameters.connections = max(parameters.connections, 1)
        parameters.journalBytesPerConnection = min(parameters.journalBytesPerConnection, ChunkMap.byteLimit)
        self.parameters = parameters
        index = FlowIndex(capacity: parameters.connections, secret: secret)
        store = ChunkStore(byteLimit: parameters.journalBytes)
        ranges = RangeStore(capacity: parameters.gaps)
        // Address space only: pages are used as connections come.
        connections.reserveCapacity(parameters.connections)
        free.reserveCapacity(parameters.connections)
    }

    /// Bytes of journals in use, in whole chunks.
    public var journalBytesInUse: Int { store.chunksInUse * ChunkStore.chunkBytes }

    /// Bytes that a connection takes without its journal; stated in the documentation.
    public static var bytesPerConnection: Int {
        MemoryLayout<BackupConnection?>.stride + MemoryLayout<Int>.stride + 2 * MemoryLayout<Int32>.stride
    }

    // MARK: Frames

    /// Takes one frame that a client sent to a slot.
    ///
    /// - Parameter bytes: what was captured; `frame.payload` is a range of it.
    public mutating func handle(_ frame: TCPFrame, in bytes: UnsafeRawBufferPointer, slot: SlotID, now: Instant) {
        counters.frames &+= 1
        let payload = UnsafeRawBufferPointer(rebasing: bytes[frame.payload])
        let place = find(frame.flow)
        if frame.flags.contains(.syn) {
            // A client sends SYN with none of the others; Linux drops such combinations too.
            guard frame.flags.isDisjoint(with: [.ack, .rst, .fin]) else {
                counters.unfitting &+= 1
                return
            }
            handleSYN(frame, payload, slot: slot, place: place, now: now)
            return
        }
        guard var place, let known = connections[place] else {
            counters.unknown &+= 1
            return
        }
        if let rival = known.rival, isOf(rival, frame, known) {
            place = displace(place, by: rival, slot: slot, now: now) ?? place
        } else {
            place = choose(place, for: frame)
        }
        guard var connection = connections[place] else { return }
        if frame.flags.contains(.rst) {
            if isObeyed(frame, connection) { end(place, counting: \.reset) } else { counters.unfitting &+= 1 }
            return
        }
        handleSegment(frame, payload, slot: slot, &connection, now: now)
        noteHole(&connection, at: place, now: now)
        connections[place] = connection
    }

    private mutating func handleSYN(
        _ frame: TCPFrame,
        _ payload: UnsafeRawBufferPointer,
        slot: SlotID,
        place: Int?,
        now: Instant
    ) {
        if let place, var connection = connections[place] {
            // A rival is remembered without the data of its SYN.
            guard connection.irs != frame.sequence && connection.iss == nil && frame.payloadLength > 0 else {
                meet(frame, slot: slot, &connection, now: now)
                connections[place] = connection
                return
            }
            // Nothing but another SYN is lost.
            remove(place: place, counting: \.replaced)
        }
        if count >= parameters.connections { evict() }
        guard count < parameters.connections else {
            counters.tableFull &+= 1
            return
        }
        let new = create(frame.flow, irs: frame.sequence, frame.options, frame.timestamps, slot: slot, now: now)
        guard frame.payloadLength > 0, var connection = connections[new] else { return }
        // Data in a SYN (RFC 7413): whether the server took it, its SYN-ACK tells.
        connection.synBytes = UInt16(clamping: frame.payloadLength)
        receive(frame, payload, at: 0, &connection)
        connections[new] = connection
    }

    /// A SYN of a flow that has a connection.
    private mutating func meet(
        _ frame: TCPFrame,
        slot: SlotID,
        _ connection: inout BackupConnection,
        now: Instant
    ) {
        guard connection.irs == frame.sequence else {
            var rival = RivalSYN(irs: frame.sequence, options: frame.options, timestamps: frame.timestamps)
            if let former = connection.rival, former.irs == rival.irs {
                (rival.iss, rival.isISSDisputed) = (former.iss, former.isISSDisputed)
            }
            connection.rival = rival
            return
        }
        connection.lastSeen = now
        connection.slot = slot
        counters.retransmitted &+= 1
        // Some clients offer less when they try again, and which of both the server took is not known.
        if connection.client != frame.options {
            connection.isRestorable = false
            lose(&connection, .handshakeUnknown)
        }
    }

    /// Whether a frame is the first of the connection that a rival SYN began.
    private func isOf(_ rival: RivalSYN, _ frame: TCPFrame, _ connection: BackupConnection) -> Bool {
        frame.flags.contains(.ack) && !frame.flags.contains(.rst) && frame.sequence == rival.irs.advanced(by: 1)
            && frame.sequence != connection.clientNext
    }

    /// The caller has made sure that there is room and that the flow is not there.
    @discardableResult
    mutating func create(
        _ flow: FlowKey,
        irs: SequenceNumber,
        _ options: HandshakeOptions,
        _ timestamps: TCPTimestamps?,
        slot: SlotID,
        now: Instant
    ) -> Int {
        generation &+= 1
        var connection = BackupConnection(
            flow: flow,
            slot: slot,
            irs: irs,
            client: options,
            generation: generation,
            now: now
        )
        connection.timestamps = timestamps
        connection.conversation = conversations.open(for: flow.service)
        let new = free.popLast() ?? connections.count
        if new == connections.count { connections.append(nil) }
        index.insert(flow, at: new)
        count += 1
        counters.connections &+= 1
        connections[new] = connection
        return new
    }

    private mutating func handleSegment(
        _ frame: TCPFrame,
        _ payload: UnsafeRawBufferPointer,
        slot: SlotID,
        _ connection: inout BackupConnection,
        now: Instant
    ) {
        let start = connection.place(of: frame.sequence)
        let length = Int64(bitPattern: connection.journalLength)
        // A keepalive before the first byte stands at IRS. What is elsewhere is of another connection, or of nobody's.
        guard frame.flags.contains(.ack), start >= -1, start <= length + Int64(parameters.windowBytes) else {
            counters.unfitting &+= 1
            return
        }
        connection.lastSeen = now
        connection.slot = slot
        if connection.iss == nil { learnISS(frame, &connection) }
        acknowledge(frame, &connection)
        // A keepalive's SEQ is one below what the client sends next, any other segment's is that or older.
        if start > 0 { connection.clientSent = max(connection.clientSent, UInt64(start)) }
        if frame.payloadLength > 0 || frame.flags.contains(.fin) { receive(frame, payload, at: start, &connection) }
        // The sequence number of the FIN is no byte of the stream.
        if let fin = connection.finOffset { connection.clientSent = min(connection.clientSent, fin) }
    }

    // MARK: The reply's side

    /// [Z] II-E: the ACK that completes the handshake has SEQ = IRS + 1 and ACK = ISS + 1. Whether it is this one that was
    /// seen first, nobody can say but the server: an ISS that is wrong by a byte would splice a reply in the wrong place.
    private mutating func learnISS(_ frame: TCPFrame, _ connection: inout BackupConnection) {
        connection.iss = connection.certainISS ?? frame.acknowledgment.advanced(by: -1)
        // A server that refused timestamps gets segments without them.
        if frame.timestamps == nil { connection.timestamps = nil }
    }

    /// SND.UNA, the window, the clocks.
    private mutating func acknowledge(_ frame: TCPFrame, _ connection: inout BackupConnection) {
        guard let known = connection.acknowledged else { return }
        let moved = frame.acknowledgment.distance(from: known)
        guard moved >= 0 else { return }
        // The director shows the group an ACK at least every 2^29 bytes (BATON_GROUP_ACK_DISTANCE), and no window is
        // longer than 2^30.
        if moved > 3 << 29 { lose(&connection, .acknowledgmentImpossible) }
        connection.sndUna += UInt64(moved)
        if moved > 0 { converse(&connection) }
        let scale = UInt64(connection.client.windowScale ?? 0)
        connection.rightEdge = max(connection.rightEdge, connection.sndUna + UInt64(frame.window) << scale)
        guard let timestamps = frame.timestamps, let latest = connection.timestamps else { return }
        if Int32(bitPattern: timestamps.value &- latest.value) >= 0 { connection.timestamps = timestamps }
    }

    // MARK: Client bytes

    private mutating func receive(
        _ frame: TCPFrame,
        _ payload: UnsafeRawBufferPointer,
        at start: Int64,
        _ connection: inout BackupConnection
    ) {
        let end = start + Int64(frame.payloadLength)
        if frame.flags.contains(.fin), end >= 0 { noteFIN(at: UInt64(end), &connection) }
        guard frame.payloadLength > 0, end > 0 else { return }
        // An urgent byte may be taken out of the stream or left in it (RFC 6093): which, is not known.
        if frame.flags.contains(.urg) { lose(&connection, .optionUnsupported) }
        if isKeepalive(frame), let fin = connection.finOffset, start == Int64(bitPattern: fin) { return }
        if let fin = connection.finOffset, end > Int64(bitPattern: fin) { lose(&connection, .conflictingBytes) }
        let length = Int64(bitPattern: connection.journalLength)
        connection.clientSent = max(connection.clientSent, UInt64(end))
        // Garbage or a byte of the stream, nobody can say: it stays missing until the owner or the client gives it.
        if connection.unprotected == nil, end > length, isGarbage(frame, payload) { return }
        if connection.unprotected == nil, end > length || !isKeepalive(frame) {
            keep(frame, payload, start: start, end: end, &connection)
        }
        // Nothing is left to be replayed: RCV.NXT goes on as if the gaps were filled.
        if connection.unprotected != nil {
            connection.journal.follow(to: min(connection.clientSent, connection.finOffset ?? .max))
        }
    }

    private mutating func keep(
        _ frame: TCPFrame,
        _ payload: UnsafeRawBufferPointer,
        start: Int64,
        end: Int64,
        _ connection: inout BackupConnection
    ) {
        let length = Int64(bitPattern: connection.journalLength)
        if frame.isCutShort {
            if end > length { lose(&connection, .journalHole) }
            return
        }
        guard end - Int64(connection.journal.base) <= parameters.journalBytesPerConnection else {
            lose(&connection, .journalFull)
            return
        }
        if start > length { counters.outOfOrder &+= 1 }
        let fresh = UnsafeRawBufferPointer(rebasing: payload[Int(max(0, -start))...])
        let outcome = connection.journal.keep(
            fresh,
            at: Int(max(0, start)),
            store: &store,
            ranges: &ranges,
            gapLimit: parameters.gapsPerConnection
        )
        switch outcome {
        case .kept(let new):
            if new < fresh.count { counters.retransmitted &+= 1 }
            // What is missing behind it is another hole.
            if connection.journalLength > UInt64(length) { connection.holeSince = nil }
            converse(&connection, from: UInt64(length))
        case .conflict: lose(&connection, .conflictingBytes)
        case .full: lose(&connection, .journalFull)
        case .tooManyGaps:
            counters.outOfOrderDropped &+= 1
            lose(&connection, .journalHole)
        }
    }

    /// The garbage of a keepalive is a byte of zero that pushes nothing. A client that asks about a closed window with such a
    /// byte of its own loses its protection where the byte is not sent again; it is one in 256.
    private func isGarbage(_ frame: TCPFrame, _ payload: UnsafeRawBufferPointer) -> Bool {
        isKeepalive(frame) && !frame.flags.contains(.psh) && payload.first == 0
    }

    /// A keepalive may carry one byte of garbage where the last byte was (RFC 9293 3.8.4; Windows sends such).
    private func isKeepalive(_ frame: TCPFrame) -> Bool {
        frame.payloadLength == 1 && !frame.flags.contains(.fin)
    }

    mutating func noteFIN(at end: UInt64, _ connection: inout BackupConnection) {
        if let known = connection.finOffset {
            if known != end { lose(&connection, .conflictingBytes) }
            return
        }
        if end < connection.journal.end(in: ranges) {
            lose(&connection, .conflictingBytes)
            return
        }
        connection.finOffset = end
        connection.clientSent = end
    }

    /// A server obeys a RST at exactly RCV.NXT (RFC 5961 3.2). That may be anywhere up to what the client has sent,
    /// where the tap missed bytes. Elsewhere the connection lives on; if it does not, the probe will tell.
    func isObeyed(_ frame: TCPFrame, _ connection: BackupConnection) -> Bool {
        let start = connection.place(of: frame.sequence)
        let length = Int64(bitPattern: connection.journalLength)
        let end = Int64(bitPattern: max(connection.clientSent, connection.journalLength))
        return start >= length && start <= end + (connection.finOffset == nil ? 0 : 1)
    }

    /// The connection cannot be replayed any more: its bytes are given back, it stays known so that its client can be
    /// told in time.
    mutating func lose(_ connection: inout BackupConnection, _ cause: ResetCause) {
        guard connection.unprotected == nil else { return }
        connection.unprotected = cause
        connection.journal.release(to: &store, &ranges)
        conversations.close(&connection.conversation)
        counters.unprotected &+= 1
    }

    // MARK: Connections

    func find(_ flow: FlowKey) -> Int? {
        index.find(flow) { connections[$0]?.flow == flow }
    }

    /// The connection of a flow; nil when it is not tracked.
    public func handle(of flow: FlowKey) -> ConnectionHandle? {
        guard let place = find(flow), let connection = connections[place] else { return nil }
        return ConnectionHandle(index: place, generation: connection.generation)
    }

    public subscript(handle: ConnectionHandle) -> BackupConnection? {
        guard handle.index < connections.count, let connection = connections[handle.index],
            connection.generation == handle.generation
        else { return nil }
        return connection
    }

    /// The connections of a slot, in the order of their places. Looks at the whole table.
    public func connections(of slot: SlotID) -> [ConnectionHandle] {
        connections.indices.compactMap { place in
            guard let connection = connections[place], connection.slot == slot, !connection.isDisplaced else {
                return nil
            }
            return ConnectionHandle(index: place, generation: connection.generation)
        }
    }

    /// Copies journalled bytes, counted from IRS + 1; what lies beyond the journal is left out, and an unprotected
    /// connection has none.
    public func journal(_ handle: ConnectionHandle, _ range: Range<UInt64>) -> [UInt8] {
        guard let connection = self[handle], connection.unprotected == nil else { return [] }
        let range = range.clamped(to: connection.journal.base..<connection.journal.length)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(range.count)
        connection.journal.visit(range, in: store) { bytes.append(contentsOf: $0) }
        return bytes
    }

    public mutating func remove(_ handle: ConnectionHandle) {
        if self[handle] != nil { remove(place: handle.index, counting: nil) }
    }

    /// Forgets all connections of a slot.
    public mutating func drop(slot: SlotID) {
        for place in connections.indices where connections[place]?.slot == slot { remove(place: place, counting: nil) }
        handshakes.removeAll { $0.slot == slot }
    }

    /// Removes the connection of a flow, and the twin that it may have.
    mutating func remove(place: Int, counting counter: WritableKeyPath<TrackerCounters, UInt64>?) {
        guard let connection = connections[place] else { return }
        removeOne(place)
        if !connection.isDisplaced, connection.twin != BackupConnection.noTwin { removeOne(Int(connection.twin)) }
        if let counter { counters[keyPath: counter] &+= 1 }
    }

    mutating func removeOne(_ place: Int) {
        guard var connection = connections[place] else { return }
        if !connection.isDisplaced {
            index.remove(connection.flow, at: place) { connections[$0]?.flow ?? connection.flow }
        }
        if connection.twin != BackupConnection.noTwin {
            connections[Int(connection.twin)]?.twin = BackupConnection.noTwin
        }
        connection.journal.release(to: &store, &ranges)
        conversations.close(&connection.conversation)
        connections[place] = nil
        free.append(place)
        count -= 1
    }

    // MARK: Expiry

    /// Forgets connections whose time is up; looks at `limit` places, going on where it stopped.
    public mutating func expire(now: Instant, limit: Int = 1024) {
        for _ in 0..<min(limit, connections.count) {
            sweepPlace = sweepPlace + 1 < connections.count ? sweepPlace + 1 : 0
            guard let connection = connections[sweepPlace] else { continue }
            if now - connection.lastSeen > timeout(of: connection) { end(sweepPlace, counting: \.expired) }
        }
    }

    private func timeout(of connection: borrowing BackupConnection) -> Interval {
        if connection.iss == nil { return parameters.handshakeTimeout }
        return connection.finOffset == nil ? parameters.idleTimeout : parameters.closedTimeout
    }

    /// Makes room in a full table as a SYN queue does, so that a flood of SYNs costs only SYNs: an unfinished handshake
    /// near the sweep's place goes.
    mutating func evict() {
        for _ in 0..<min(64, connections.count) {
            sweepPlace = sweepPlace + 1 < connections.count ? sweepPlace + 1 : 0
            if let connection = connections[sweepPlace], connection.iss == nil || connection.isDisplaced {
                remove(place: sweepPlace, counting: \.evicted)
                return
            }
        }
    }
}
