import AdminProtocol
import ArgumentParser
import ControlPlane

@main
struct Batonctl: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "batonctl",
        abstract: "Asks a Baton daemon what it knows, changes its configuration, and drains back-ends.",
        discussion: "See batonctl(8).",
        subcommands: [
            StatusCommand.self, FlowsCommand.self, ServiceCommand.self, ServerCommand.self, DrainCommand.self,
            UndrainCommand.self, ListCommand.self, ZeroCommand.self, SetCommand.self, ReloadCommand.self,
            SaveCommand.self, RestoreCommand.self, RouteCommand.self, DoctorCommand.self,
        ]
    )

    @Option(help: "The daemon's socket.")
    var socket = "/run/baton/director.sock"
}

/// Where the daemon is, and how to print.
struct Connection: ParsableArguments {
    @Option(help: "The daemon's socket (default: /run/baton/director.sock).")
    var socket: String?

    @Flag(help: "Print JSON.")
    var json = false

    /// Asks, and gives the answer's bytes.
    ///
    /// - Parameter fallback: the socket that was named before the verb.
    func ask(_ request: AdminRequest, fallback: String) throws -> [UInt8] {
        try AdminClient(path: socket ?? fallback).request(request)
    }

    func decode<Answer: Decodable>(_ type: Answer.Type, _ bytes: [UInt8]) throws -> Answer {
        if let failure = try? AdminJSON.decode(AdminFailure.self, from: bytes) { throw ValidationError(failure.error) }
        return try AdminJSON.decode(type, from: bytes)
    }
}

/// Prints bytes that are a line of JSON.
func printJSON(_ bytes: [UInt8]) {
    print(String(decoding: bytes, as: UTF8.self))
}
