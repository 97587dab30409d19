import Cluster
import Model
import Wire

/// One back-end: kernel, agent (control thread and data thread) and server application, each of which may die alone.
final class Host {
    static let serviceName = "www"
    static let service = Endpoint(address: IPAddress(ipv4: 0x0a00_00fe), port: 80)
    /// The director is host 0.
    static let director = 0

    let index: Int
    let clock: HostClock
    /// What its way to the clients takes more than others', in nanoseconds.
    let pathDelay: TrueTime
    var powered = true
    var frozenUntil: TrueTime = 0
    var kernel: ModelKernel?
    /// Counts power-ons: what was meant for a former kernel is dropped.
    var kernelLife = 0
    /// Counts the agents (or directors) that ran here.
    var incarnation = 0
    var agent: AgentMachine?
    var data: DataThread?
    var application: ModelApplication?
    var session: Int?

    // Control thread
    var timerGeneration = 0
    var timerWaiting = false
    var inbox: [AgentInput] = []
    // Data thread
    var wakeAt = TrueTime.max
    var dataInbox: [DataInput] = []
    /// When the last input of each source arrives, so that a source keeps its order.
    var lastArrival: [TrueTime] = [0, 0, 0, 0, 0, 0, 0, 0]

    init(index: Int, clock: HostClock, pathDelay: TrueTime) {
        self.index = index
        self.pathDelay = pathDelay
        self.clock = clock
    }

    var name: String { index == 0 ? "director" : "web\(index)" }
    var mac: MACAddress { MACAddress(rawValue: 0x0200_0000_0000 + UInt64(index)) }
    var address: IPAddress { IPAddress(ipv4: 0x0a00_0000 + UInt32(index)) }
    var isAlive: Bool { powered && agent != nil }
}

/// The server application: one value for each connection; the reply is a pure function of the request.
final class ModelApplication {
    private struct Connection {
        var hasGreeted = false
        var request: [UInt8] = []
        var reply: [UInt8] = []
        var written = 0
        var thinkingUntil: TrueTime?
        var closes = false
        /// Requests that were answered.
        var answered = 0
    }

    private unowned let world: Simulation
    private let host: Int
    private var connections: [Int: Connection] = [:]
    private var scheduled: Set<Int> = []

    init(_ world: Simulation, host: Int) {
        self.world = world
        self.host = host
    }

    /// Whether the caller has to wake it; at most one wake-up for each socket is on its way.
    func schedules(_ socket: ModelSocket) -> Bool { scheduled.insert(socket.id).inserted }

    /// Until when it thinks; nil when it has thought enough.
    private func think(_ connection: inout Connection, milliseconds: Int) -> TrueTime? {
        if milliseconds > 0, connection.thinkingUntil == nil {
            connection.thinkingUntil = world.now + UInt64(milliseconds) * 1_000_000
        }
        if let until = connection.thinkingUntil, world.now < until { return until }
        connection.thinkingUntil = nil
        return nil
    }

    /// Reads what is there, writes what fits. Returns when to come again.
    func serve(_ socket: ModelSocket, _ kernel: ModelKernel) -> TrueTime? {
        var connection = connections[socket.id] ?? Connection()
        defer { connections[socket.id] = socket.state == .closed ? nil : connection }
        // Before anything is written: acknowledgments that come of it wake it again.
        scheduled.remove(socket.id)
        guard socket.state == .open, !socket.isClosing else { return nil }
        if world.scenario.greeting, !connection.hasGreeted {
            connection.hasGreeted = true
            connection.reply = Exchange.greeting
        }
        connection.request += socket.read()
        kernel.run(socket) { $0.updateWindow(world.now) }
        while true {
            if connection.written < connection.reply.count {
                let end = min(connection.reply.count, connection.written + socket.freeSendBuffer)
                guard connection.written < end else { return nil }
                let piece = connection.reply[connection.written..<end]
                connection.written = end
                kernel.run(socket) { $0.write(piece, world.now) }
                if connection.written < connection.reply.count { return nil }
            }
            if let site = world.site {
                let (parsed, length) = WebRequest.parse(connection.request) ?? (WebRequest(), 0)
                if connection.closes, world.scenario.strikesLast,
                    let until = think(&connection, milliseconds: 5 + Int(socket.first.rawValue % 120))
                {
                    return until
                }
                if connection.closes || (socket.isAtEnd && length == 0) {
                    kernel.run(socket) { $0.close(world.now) }
                    return nil
                }
                guard length > 0 else { return nil }
                if let until = think(&connection, milliseconds: parsed.thinking) { return until }
                connection.reply = site.reply(to: parsed, on: host, number: connection.answered, at: world.now)
                connection.written = 0
                connection.answered += 1
                connection.closes = parsed.closes
                connection.request.removeFirst(length)
                continue
            }
            if connection.closes || (socket.isAtEnd && connection.request.count < Exchange.headerBytes) {
                kernel.run(socket) { $0.close(world.now) }
                return nil
            }
            guard let header = Exchange.header(of: connection.request[...]),
                connection.request.count >= header.requestBytes
            else { return nil }
            if let until = think(&connection, milliseconds: header.thinking * 2) { return until }
            connection.reply = Exchange.reply(to: connection.request[..<header.requestBytes])
            connection.written = 0
            connection.closes = header.serverCloses
            connection.request.removeFirst(header.requestBytes)
        }
    }
}
