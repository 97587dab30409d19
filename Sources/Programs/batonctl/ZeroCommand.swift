import AdminProtocol
import ArgumentParser
import ControlPlane

struct ZeroCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "zero",
        abstract: "Sets the counters of all services, or of one, to zero (ipvsadm -Z)."
    )

    @ParentCommand var parent: Batonctl
    @OptionGroup var connection: Connection

    @Argument(help: "The service's name; left out: all.")
    var name: String?

    func run() throws {
        let request = AdminRequest(command: "zero", arguments: name.map { ["service": $0] } ?? [:])
        let bytes = try connection.ask(request, fallback: parent.socket)
        let answer = try connection.decode(ZeroedCounters.self, bytes)
        if connection.json {
            printJSON(bytes)
        } else {
            print("zero: \(answer.services.joined(separator: ", "))")
        }
    }
}

/// `ipvsadm --set tcp tcpfin udp`.
struct SetCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "set",
        abstract: "Sets the idle time-outs in seconds, of all services or of one (ipvsadm --set).",
        discussion: "0 leaves one as it is. `list --timeout` shows them."
    )

    @ParentCommand var parent: Batonctl
    @OptionGroup var connection: Connection

    @Argument(help: "Of established TCP connections.")
    var tcp: Int

    @Argument(help: "Of TCP connections that were closed.")
    var tcpfin: Int

    @Argument(help: "Of UDP flows.")
    var udp: Int

    @Option(help: "The name of the service; left out: all.")
    var service: String?

    @Flag(help: "Only show what would change.")
    var dryRun = false

    func run() throws {
        var request = EditRequest("edit", "service", service ?? "*")
        for (key, value) in [("tcp", tcp), ("tcpfin", tcpfin), ("udp", udp)] where value != 0 {
            request.set("timeouts.\(key)", word: "\(value)s")
        }
        request.add(dryRun: dryRun)
        try request.send(connection, fallback: parent.socket)
    }
}
