import AdminProtocol
import ArgumentParser
import ControlPlane

struct FlowsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flows",
        abstract: "The flows that the director knows."
    )

    @ParentCommand var parent: Batonctl
    @OptionGroup var connection: Connection

    @Option(help: "How many to list at the most.")
    var limit = 1000

    func run() throws {
        let bytes = try connection.ask(AdminRequest(command: "flows", arguments: ["limit": "\(limit)"]), fallback: parent.socket)
        if connection.json {
            printJSON(bytes)
            return
        }
        let list = try connection.decode(FlowList.self, bytes)
        var table = TextTable("CLIENT", "SERVICE", "SLOT", "OWNER", "STATE", "IDLE")
        for flow in list.flows {
            table.add(
                flow.client, flow.service, "\(flow.slot)", flow.owner ?? "-", flow.state,
                "\(Decimals.text(flow.idleS, 0)) s"
            )
        }
        table.show()
        print("\(list.flows.count) of \(list.total) flows")
    }
}
