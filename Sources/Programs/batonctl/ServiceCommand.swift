import AdminProtocol
import ArgumentParser
import ControlPlane

/// `batonctl service ...`: what an operator changes of a service while it runs.
struct ServiceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "service",
        abstract: "Adds, changes and takes away services while the director runs.",
        subcommands: [
            ServiceAddCommand.self, ServiceEditCommand.self, ServiceDeleteCommand.self, ServiceForwardingCommand.self,
        ]
    )

    @ParentCommand var parent: Batonctl
}

struct ServiceForwardingCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forwarding",
        abstract: "Changes how a service's frames reach owner and backups, from the next frame on.",
        discussion: "Until the director is restarted, or reloads its file; `batonctl save --write` puts it there."
    )

    @ParentCommand var parent: ServiceCommand
    @OptionGroup var connection: Connection

    @Argument(help: "The service's name.")
    var name: String

    @Argument(help: "duplicate, multicast, selective or owner.")
    var method: String

    func run() throws {
        let request = AdminRequest(command: "service-forwarding", arguments: ["name": name, "method": method])
        let bytes = try connection.ask(request, fallback: parent.parent.socket)
        let answer = try connection.decode(ServiceForwarding.self, bytes)
        if connection.json {
            printJSON(bytes)
        } else if answer.forwarding == answer.former {
            print("\(answer.service) is forwarded by \(answer.forwarding) already")
        } else {
            print("\(answer.service) is forwarded by \(answer.forwarding) now; it was \(answer.former)")
        }
    }
}
