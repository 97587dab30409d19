import AdminProtocol
import ArgumentParser
import ControlPlane

struct RouteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "route",
        abstract: "Where a flow would go, by running the director's own data plane; nothing is changed.",
        discussion: "The exit status is 0 when it would go to a back-end, else 1."
    )

    @ParentCommand var parent: Batonctl
    @OptionGroup var connection: Connection

    @Argument(help: "The client, as ADDRESS:PORT or [ADDRESS]:PORT.")
    var client: String

    @Argument(help: "The service, as ADDRESS:PORT or [ADDRESS]:PORT.")
    var service: String

    @Flag(name: [.customShort("u"), .long], help: "Ask about a datagram of UDP.")
    var udp = false

    func run() throws {
        let transport = udp ? "udp" : "tcp"
        let request = AdminRequest(
            command: "route", arguments: ["client": client, "service": service, "protocol": transport])
        let bytes = try connection.ask(request, fallback: parent.socket)
        let answer = try connection.decode(RouteAnswer.self, bytes)
        if connection.json { printJSON(bytes) } else { show(answer) }
        if answer.flow == "none" { throw ExitCode.failure }
    }

    private func show(_ answer: RouteAnswer) {
        if let service = answer.service {
            print("service \(service), policy \(answer.policy ?? "?"), forwarding \(answer.forwarding ?? "?")")
        }
        let kind = answer.flow == "existing" ? "flow in the table (\(answer.state ?? "?"))" : "new flow"
        if answer.flow == "none" {
            print("goes nowhere")
        } else if let slot = answer.slot {
            let takenOver = answer.owner != answer.backend ? ", made for \(answer.backend ?? "?")" : ""
            print(
                "\(kind): slot \(slot), owner \(answer.owner ?? "nobody") (\(answer.ownerMac ?? "?"))\(takenOver)"
                    + (answer.persistent ? ", by persistence" : ""))
        }
        for way in answer.ways {
            let place = way.mac.map { " \($0)" } ?? ""
            let slot = way.slot != answer.slot ? way.slot.map { " of slot \($0)" } ?? "" : ""
            print("  \(way.frame): \(way.to)\(slot)\(place)")
        }
        if let reason = answer.reason { print(reason) }
    }
}
