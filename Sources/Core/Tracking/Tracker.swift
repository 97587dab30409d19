import Model
import Wire

/// Follows the connections of predecessors from what their clients send ([Z] II-E).
///
/// A pure machine: it is given frames and a clock. One thread owns it. Nothing is allocated for a packet in order once
/// the journals' slabs are there.
public struct Tracker: ~Copyable {
    /// Bounds and time-outs.
    public struct Parameters: Sendable {
        public var connections = Limits.backupConnections
        /// Bytes of one journal.
        public var journalBytesPerConnection = Limits.journalBytesPerConnection
        /// Bytes of all journals.
        public var journalBytes = Limits.journalBytes
        /// Bytes that wait behind a hole, for each connection.
        public var waitingBytes = 256 << 10
        /// How long a connection is kept after the client's FIN without another frame ([Z] II-E).
        public var closedTimeout = Interval.seconds(60)
        public var idleTimeout = Interval.seconds(3600)

        public init() {}
    }

    public let parameters: Parameters
    public private(set) var counters = TrackerCounters()
    /// Connections that are tracked now.
    public private(set) var count = 0

    private var connections: [BackupConnection?] = []
    private var free: [Int] = []
    private var index: FlowIndex
    private var store: ChunkStore
    private var waiting: [Int: [WaitingRange]] = [:]
    private var profiles: [SlotID: HandshakeOptions] = [:]
    private var generation: UInt32 = 0
    private var sweepPlace = 0

    /// Client bytes that came before those in front of them.
    private struct WaitingRange {
        var start: UInt64
        var bytes: [UInt8]
        var end: UInt64 { start + UInt64(bytes.count) }
    }

    /// - Parameter secret: random numbers, so that clients cannot make the table slow.
    public init(parameters: Parameters = Parameters(), secret: (UInt64, UInt64)) {
        self.parameters = parameters
        index = FlowIndex(capacity: parameters.connections, secret: secret)
        store = ChunkStore(byteLimit: parameters.journalBytes)
        connections.reserveCapacity(min(parameters.connections, 4096))
    }

    /// Bytes of journals in use.
    public var journalBytesInUse: Int { store.chunksInUse * ChunkStore.chunkBytes }

    /// Bytes that a connection takes without its journal; stated in the documentation.
    public static var bytesPerConnection: Int { MemoryLayout<BackupConnection?>.stride + 2 * MemoryLayout<Int32>.stride }

    // MARK: Frames

    /// Takes one frame that a client sent to a slot.
    ///
    /// - Parameter bytes: what was captured; `frame.payload` is a range of it.
    public mutating func handle(_ frame: TCPFrame, in bytes: UnsafeRawBufferPointer, slot: SlotID, now: Instant) {
        counters.frames &+= 1
        let place = find(frame.flow)
        if frame.flags.contains(.syn) {
            if !frame.flags.contains(.ack) { handleSYN(frame, in: bytes, slot: slot, place: place, now: now) }
            return
        }
        guard let place, var connection = connections[place] else {
            counters.unknown &+= 1
            return
        }
        connections[place] = nil
        connection.lastSeen = now
        connection.slot = slot
        if frame.flags.contains(.rst) {
            connections[place] = connection
            if isAcceptable(frame, connection) { remove(place: place, counting: \.reset) }
            return
        }
        if frame.flags.contains(.ack) { acknowledge(frame, &connection) }
        receive(frame, in: bytes, place: place, &connection)
        connections[place] = connection
    }

    private mutating func handleSYN(
        _ frame: TCPFrame,
        in bytes: UnsafeRawBufferPointer,
        slot: SlotID,
        place: Int?,
        now: Instant
    ) {
        if let place, let connection = connections[place] {
            if connection.irs == frame.sequence {
                connections[place]?.lastSeen = now
                connections[place]?.slot = slot
                counters.retransmitted &+= 1
                return
            }
            remove(place: place, counting: \.replaced)
        }
        guard count < parameters.connections else {
            counters.tableFull &+= 1
            return
        }
        generation &+= 1
        var connection = BackupConnection(
            flow: frame.flow,
            slot: slot,
            irs: frame.sequence,
            client: frame.options,
            generation: generation,
            now: now
        )
        connection.timestamps = frame.timestamps
        let new = free.popLast() ?? connections.count
        if new == connections.count { connections.append(nil) }
        index.insert(frame.flow, at: new)
        count += 1
        counters.connections &+= 1
        // Data in a SYN (RFC 7413) belongs to the stream; whether the server took it, the client's next bytes tell.
        if frame.payloadLength > 0 { lose(&connection, .handshakeUnknown) }
        connections[new] = connection
    }

    /// ISS, SND.UNA and the window.
    private mutating func acknowledge(_ frame: TCPFrame, _ connection: inout BackupConnection) {
        guard let iss = connection.iss else {
            learnISS(frame, &connection)
            return
        }
        let known = iss.advanced(by: 1 + Int(truncatingIfNeeded: connection.sndUna))
        let moved = frame.acknowledgment.distance(from: known)
        guard moved >= 0 else { return }
        connection.sndUna += UInt64(moved)
        update(frame, &connection)
    }

    /// [Z] II-E: the ACK that completes the handshake has SEQ = IRS + 1 and ACK = ISS + 1.
    ///
    /// When that ACK was lost on the client's side, the first data does the same duty: a server that has not seen the
    /// handshake complete cannot have sent a byte yet. A frame that is further on tells nothing for certain, and an ISS
    /// that is wrong by a byte would splice a reply in the wrong place.
    private mutating func learnISS(_ frame: TCPFrame, _ connection: inout BackupConnection) {
        guard connection.unprotected != .handshakeUnknown else { return }
        guard frame.sequence == connection.irs.advanced(by: 1) else {
            lose(&connection, .handshakeUnknown)
            return
        }
        connection.iss = frame.acknowledgment.advanced(by: -1)
        update(frame, &connection)
    }

    private func update(_ frame: TCPFrame, _ connection: inout BackupConnection) {
        let scale = UInt64(connection.client.windowScale ?? 0)
        connection.rightEdge = max(connection.rightEdge, connection.sndUna + UInt64(frame.window) << scale)
        guard let timestamps = frame.timestamps else { return }
        if let known = connection.timestamps, Int32(bitPattern: timestamps.value &- known.value) < 0 { return }
        connection.timestamps = timestamps
    }

    // MARK: Client bytes

    private mutating func receive(
        _ frame: TCPFrame,
        in bytes: UnsafeRawBufferPointer,
        place: Int,
        _ connection: inout BackupConnection
    ) {
        guard connection.unprotected == nil else { return }
        let first = connection.irs.advanced(by: 1)
        // Where the segment starts, counted from IRS + 1; nearest to what is expected, so that a long upload may wrap.
        let expected = first.advanced(by: Int(truncatingIfNeeded: connection.journal.length))
        let start = Int64(bitPattern: connection.journal.length) + Int64(frame.sequence.distance(from: expected))
        if frame.payloadLength > 0 {
            guard !frame.isCutShort else {
                lose(&connection, .journalHole)
                return
            }
            guard start >= 0 else { return }
            let payload = UnsafeRawBufferPointer(rebasing: bytes[frame.payload])
            take(payload, at: UInt64(start), place: place, &connection)
        }
        if frame.flags.contains(.fin), start >= 0, connection.unprotected == nil {
            connection.finOffset = UInt64(start) + UInt64(frame.payloadLength)
        }
    }

    private mutating func take(
        _ payload: UnsafeRawBufferPointer,
        at start: UInt64,
        place: Int,
        _ connection: inout BackupConnection
    ) {
        let end = start + UInt64(payload.count)
        let known = connection.journal.length
        if start > known {
            wait(payload, at: start, place: place, &connection)
            return
        }
        if start < known {
            counters.retransmitted &+= 1
            guard agrees(payload, at: start, connection) else {
                lose(&connection, .conflictingBytes)
                return
            }
        }
        guard end > known else { return }
        append(UnsafeRawBufferPointer(rebasing: payload[Int(known - start)...]), &connection)
        if connection.waitingRanges > 0 { takeWaiting(place: place, &connection) }
    }

    private mutating func append(_ bytes: UnsafeRawBufferPointer, _ connection: inout BackupConnection) {
        let limit = UInt64(parameters.journalBytesPerConnection)
        guard connection.journal.length + UInt64(bytes.count) <= limit,
            connection.journal.append(bytes, to: &store)
        else {
            lose(&connection, .journalFull)
            return
        }
    }

    /// Whether bytes that came again are those that came first.
    private func agrees(_ payload: UnsafeRawBufferPointer, at start: UInt64, _ connection: BackupConnection) -> Bool {
        let end = min(start + UInt64(payload.count), connection.journal.length)
        var at = 0
        var same = true
        connection.journal.visit(start..<end, in: store) { piece in
            for byte in piece {
                if payload[at] != byte { same = false }
                at += 1
            }
        }
        return same
    }

    private mutating func wait(
        _ payload: UnsafeRawBufferPointer,
        at start: UInt64,
        place: Int,
        _ connection: inout BackupConnection
    ) {
        counters.outOfOrder &+= 1
        var ranges = waiting[place] ?? []
        let held = ranges.reduce(0) { $0 + $1.bytes.count }
        guard ranges.count < 64, held + payload.count <= parameters.waitingBytes else {
            counters.outOfOrderDropped &+= 1
            return
        }
        ranges.append(WaitingRange(start: start, bytes: Array(payload)))
        connection.waitingRanges = UInt8(ranges.count)
        waiting[place] = ranges
    }

    /// Moves what waited and is now in order into the journal; two copies that differ end the protection there too.
    private mutating func takeWaiting(place: Int, _ connection: inout BackupConnection) {
        var moved = true
        while moved, connection.unprotected == nil, var ranges = waiting[place] {
            moved = false
            for (at, range) in ranges.enumerated() where range.start <= connection.journal.length {
                ranges.remove(at: at)
                connection.waitingRanges = UInt8(ranges.count)
                waiting[place] = ranges.isEmpty ? nil : ranges
                range.bytes.withUnsafeBytes { bytes in
                    if !agrees(bytes, at: range.start, connection) {
                        lose(&connection, .conflictingBytes)
                    } else if range.end > connection.journal.length {
                        let fresh = Int(connection.journal.length - range.start)
                        append(UnsafeRawBufferPointer(rebasing: bytes[fresh...]), &connection)
                    }
                }
                moved = true
                break
            }
        }
        if connection.unprotected != nil { waiting[place] = nil }
    }

    /// RFC 9293 3.10.7.4: a RST counts when it is in the window; here: at the next byte, or up to a window behind it.
    private func isAcceptable(_ frame: TCPFrame, _ connection: BackupConnection) -> Bool {
        (0...65_535).contains(frame.sequence.distance(from: connection.clientNext))
    }

    /// The connection cannot be replayed any more: its bytes are given back, it stays known so that its client can be
    /// told in time.
    private mutating func lose(_ connection: inout BackupConnection, _ cause: ResetCause) {
        guard connection.unprotected == nil else { return }
        connection.unprotected = cause
        connection.journal.release(to: &store)
        connection.waitingRanges = 0
        counters.unprotected &+= 1
    }

    // MARK: Connections

    private func find(_ flow: FlowKey) -> Int? {
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

    /// The connections of a slot, in the order of their places.
    public func connections(of slot: SlotID) -> [ConnectionHandle] {
        connections.indices.compactMap { place in
            guard let connection = connections[place], connection.slot == slot else { return nil }
            return ConnectionHandle(index: place, generation: connection.generation)
        }
    }

    /// Copies journalled bytes, counted from IRS + 1; what lies beyond the journal is left out.
    public func journal(_ handle: ConnectionHandle, _ range: Range<UInt64>) -> [UInt8] {
        guard let connection = self[handle] else { return [] }
        let range = range.clamped(to: 0..<connection.journal.length)
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
    }

    private mutating func remove(place: Int, counting counter: WritableKeyPath<TrackerCounters, UInt64>?) {
        guard var connection = connections[place] else { return }
        index.remove(connection.flow, at: place) { connections[$0]?.flow ?? connection.flow }
        connection.journal.release(to: &store)
        waiting[place] = nil
        connections[place] = nil
        free.append(place)
        count -= 1
        if let counter { counters[keyPath: counter] &+= 1 }
    }

    /// Forgets connections whose time is up; looks at `limit` places, going on where it stopped.
    public mutating func expire(now: Instant, limit: Int = 1024) {
        for _ in 0..<min(limit, connections.count) {
            sweepPlace = sweepPlace + 1 < connections.count ? sweepPlace + 1 : 0
            guard let connection = connections[sweepPlace] else { continue }
            let timeout = connection.finOffset == nil ? parameters.idleTimeout : parameters.closedTimeout
            if now - connection.lastSeen > timeout { remove(place: sweepPlace, counting: \.expired) }
        }
    }

    // MARK: What backups cannot see

    /// The options of a slot's SYN-ACKs, as its owner tells them.
    public mutating func setProfile(_ options: HandshakeOptions, of slot: SlotID) { profiles[slot] = options }

    public func profile(of slot: SlotID) -> HandshakeOptions? { profiles[slot] }
}
