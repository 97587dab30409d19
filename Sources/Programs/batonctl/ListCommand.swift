import AdminProtocol
import ArgumentParser
import ControlPlane

/// `batonctl list`, as `ipvsadm -L` (-ln, --stats, --rate, -lc, --timeout).
struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "Services and their servers, as ipvsadm -L shows them."
    )

    @ParentCommand var parent: Batonctl
    @OptionGroup var connection: Connection

    @Flag(name: .shortAndLong, help: "Addresses instead of names.")
    var numeric = false

    @Flag(help: "Connections, packets and bytes since the counters were zero.")
    var stats = false

    @Flag(help: "The same per second, over the last eight seconds.")
    var rate = false

    @Flag(name: .shortAndLong, help: "The flow table.")
    var connections = false

    @Flag(help: "The idle time-outs.")
    var timeout = false

    @Flag(help: "Numbers in full, not as 10K or 10M.")
    var exact = false

    @Option(help: "With --connections: how many to list at the most; 0: all.")
    var limit = 0

    func validate() throws {
        guard [stats, rate, connections, timeout].count(where: { $0 }) <= 1 else {
            throw ValidationError("one of --stats, --rate, --connections and --timeout")
        }
        guard limit >= 0 else { throw ValidationError("--limit: 0 or more") }
    }

    func run() throws {
        if connections {
            try ConnectionListing(connection: connection, socket: parent.socket, numeric: numeric).show(limit: limit)
            return
        }
        let bytes = try connection.ask(AdminRequest(command: "list"), fallback: parent.socket)
        let list = try connection.decode(ServiceList.self, bytes)
        if connection.json {
            printJSON(bytes)
        } else if timeout {
            showTimeouts(list)
        } else {
            show(list)
        }
    }

    // MARK: Tables

    private func show(_ list: ServiceList) {
        var table = ColumnTable()
        table.add(["Prot LocalAddress:Port"] + serviceTitles)
        table.add(["  -> RemoteAddress:Port"] + serverTitles)
        for service in list.services {
            let name = numeric ? service.address : service.name
            table.add(["\(service.protocol)  \(name)"] + columns(service))
            for server in service.servers {
                // One port or many: direct routing leaves it as it is.
                let port = service.address.split(separator: ":").last.map { ":\($0)" } ?? ""
                let isIPv6 = server.address.contains(":")
                let address = isIPv6 ? "[\(server.address)]\(port)" : server.address + port
                table.add(["  -> \(numeric ? address : server.name)"] + columns(server))
            }
        }
        table.show()
    }

    private var serviceTitles: [String] {
        if stats { return ["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"] }
        if rate { return ["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"] }
        return ["Scheduler Flags"]
    }

    private var serverTitles: [String] {
        stats || rate ? [] : ["Forward", "Weight", "ActiveConn", "InActConn"]
    }

    private func columns(_ service: ServiceList.Service) -> [String] {
        if stats {
            let stats = service.stats
            return [stats.conns, stats.inPkts, stats.outPkts, stats.inBytes, stats.outBytes].map(number)
        }
        if rate {
            let rate = service.rate
            return [rate.cps, rate.inPps, rate.outPps, rate.inBps, rate.outBps].map(number)
        }
        return [([service.scheduler] + service.flags).joined(separator: " ")]
    }

    /// The data plane counts frames by service, not by server.
    private func columns(_ server: ServiceList.Server) -> [String] {
        if stats || rate { return ["-", "-", "-", "-", "-"] }
        return [server.forward, "\(server.weight)", "\(server.active)", "\(server.inactive)"]
    }

    /// As ipvsadm: from 100,000,000 on in thousands.
    private func number(_ value: UInt64) -> String {
        if exact || value < 100_000_000 { return "\(value)" }
        for (factor, unit) in [(UInt64(1000), "K"), (1_000_000, "M"), (1_000_000_000, "G")]
        where value / factor < 100_000_000 {
            return "\(value / factor)\(unit)"
        }
        return "\(value / 1_000_000_000_000)T"
    }

    private func showTimeouts(_ list: ServiceList) {
        for service in list.services {
            let times = service.timeouts
            let reset = times.reset ? ", both ends reset" : ""
            let numbers = [times.tcp, times.tcpfin, times.udp].map { Decimals.text($0, 0) }.joined(separator: " ")
            print(
                "\(numeric ? service.address : service.name): Timeout (tcp tcpfin udp): \(numbers), "
                    + "handshake \(Decimals.text(times.handshake, 0))\(reset)")
        }
    }
}

/// Lines of columns, each as wide as its longest text; the first is left-aligned, the titles' line is a row like others.
struct ColumnTable {
    private var rows: [[String]] = []

    mutating func add(_ cells: [String]) { rows.append(cells) }

    func show() {
        let count = rows.map(\.count).max() ?? 0
        let widths = (0..<count).map { column in
            // The last cell of a row may be as long as it likes.
            rows.map { column < $0.count - 1 ? $0[column].count : 0 }.max() ?? 0
        }
        for row in rows {
            let cells = row.enumerated().map { column, cell in
                column == row.count - 1 ? cell : cell + String(repeating: " ", count: max(widths[column] - cell.count, 0))
            }
            print(cells.joined(separator: " "))
        }
    }
}

/// `ipvsadm -lc`: the flow table, part by part.
struct ConnectionListing {
    var connection: Connection
    var socket: String
    var numeric: Bool

    /// - Parameter limit: 0: none.
    func show(limit: Int) throws {
        if !connection.json { print(line("pro", "expire", "state", "source", "virtual", "destination")) }
        var (after, shown) = (String?.none, 0)
        repeat {
            let arguments = after.map { ["after": $0] } ?? [:]
            let bytes = try connection.ask(AdminRequest(command: "connections", arguments: arguments), fallback: socket)
            let part = try connection.decode(ConnectionList.self, bytes)
            for entry in part.connections {
                if limit > 0, shown == limit { return }
                shown += 1
                try show(entry)
            }
            after = part.next
        } while after != nil
    }

    /// With --json: one object a line.
    private func show(_ entry: ConnectionList.Connection) throws {
        if connection.json {
            printJSON(try AdminJSON.encode(entry))
            return
        }
        let seconds = Int(entry.expireS)
        let expire = "\(Self.two(seconds / 60)):\(Self.two(seconds % 60))"
        let destination = (numeric ? entry.destination : entry.server ?? entry.destination) ?? "-"
        print(line(entry.protocol, expire, entry.state, entry.source, entry.virtual, destination))
    }

    private static func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }

    private func line(_ cells: String...) -> String {
        let widths = [3, 6, 11, 22, 22, 0]
        let padded = zip(cells, widths).map { cell, width in
            cell + String(repeating: " ", count: max(width - cell.count, 0))
        }
        return padded.joined(separator: " ")
    }
}
