import ArgumentParser

/// `batonctl server ...`: real servers, which serve all services.
struct ServerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "server",
        abstract: "Adds, changes and takes away real servers while the director runs.",
        discussion: "A server serves every service whose application it has; there are no servers of one service alone.",
        subcommands: [ServerAddCommand.self, ServerEditCommand.self, ServerDeleteCommand.self]
    )

    @ParentCommand var parent: Batonctl
}

/// Where ipvsadm's words say that a real server is.
struct RealServer: ParsableArguments {
    @Option(
        name: [.customShort("r"), .customLong("real-server")],
        help: "Its own address on the director's LAN; a port behind it is that of the service, as always with -g.")
    var realServer: String?

    @Option(
        name: [.customShort("t"), .customLong("tcp-service")],
        help: "Taken for the sake of habit: a server serves every service whose application it has.")
    var tcp: String?

    @Option(name: [.customShort("u"), .customLong("udp-service")], help: "Likewise.")
    var udp: String?

    var address: String? { realServer.map(Vocabulary.withoutPort) }
}

/// The options of ipvsadm that describe a real server.
struct ServerOptions: ParsableArguments {
    @OptionGroup var place: RealServer

    @Option(
        name: [.customShort("x"), .customLong("u-threshold")],
        help: "With so many connections of a service it gets no new ones of it; 0: no threshold.")
    var upperThreshold: Int?

    @Option(name: [.customShort("y"), .customLong("l-threshold")], help: "Below it new ones come again.")
    var lowerThreshold: Int?

    @Option(name: .shortAndLong, help: "Its share of new flows, 0 to 65535; with 0 it gets none and keeps what it has.")
    var weight: Int?

    @Flag(
        name: [.customShort("g"), .customLong("gatewaying")],
        help: "Direct routing: the one way that there is; taken for the sake of habit.")
    var gatewaying = false

    func describe(_ request: inout EditRequest, settingAddress: Bool) {
        if settingAddress { request.set("address", text: place.address) }
        request.set("weight", word: weight.map(String.init))
        request.set("upper_threshold", word: upperThreshold.map(String.init))
        request.set("lower_threshold", word: lowerThreshold.map(String.init))
    }
}

struct ServerAddCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Adds a real server (ipvsadm -a); it serves as soon as its agent has come.")

    @ParentCommand var parent: ServerCommand
    @OptionGroup var connection: Connection
    @OptionGroup var server: ServerOptions
    @OptionGroup var edit: EditOptions

    @Argument(help: "The name that its agent gives.")
    var name: String

    func run() throws {
        guard server.place.address != nil else { throw ValidationError("name its address with -r") }
        var request = EditRequest("add", "server", name)
        server.describe(&request, settingAddress: true)
        try request.add(edit)
        try request.send(connection, fallback: parent.parent.socket)
    }
}

struct ServerEditCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "edit", abstract: "Changes a real server (ipvsadm -e).",
        discussion: "What is not named stays as it is. With a name, -r is another address for it.")

    @ParentCommand var parent: ServerCommand
    @OptionGroup var connection: Connection
    @OptionGroup var server: ServerOptions
    @OptionGroup var edit: EditOptions

    @Argument(help: "Its name; left out: it is the one at the address.")
    var name: String?

    func run() throws {
        guard let target = name ?? server.place.address else { throw ValidationError("name it, or its address with -r") }
        var request = EditRequest("edit", "server", target)
        server.describe(&request, settingAddress: name != nil)
        try request.add(edit)
        try request.send(connection, fallback: parent.parent.socket)
    }
}

struct ServerDeleteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "del", abstract: "Takes a real server away (ipvsadm -d): no new flows, and no way back for its agent.",
        discussion: "The connections that it has stay with it until they end, or until it does; drain it before to be "
            + "rid of them.")

    @ParentCommand var parent: ServerCommand
    @OptionGroup var connection: Connection

    @OptionGroup var place: RealServer

    @Flag(help: "Only show what would change.")
    var dryRun = false

    @Argument(help: "Its name.")
    var name: String?

    func run() throws {
        guard let target = name ?? place.address else { throw ValidationError("name it, or its address with -r") }
        var request = EditRequest("del", "server", target)
        request.add(dryRun: dryRun)
        try request.send(connection, fallback: parent.parent.socket)
    }
}
