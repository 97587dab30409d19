import ArgumentParser

/// What names a service to ipvsadm.
struct ServiceAddress: ParsableArguments {
    @Option(
        name: [.customShort("t"), .customLong("tcp-service")],
        help: ArgumentHelp("The virtual address and port of a TCP service; port 0: all ports.", valueName: "address:port"))
    var tcp: String?

    @Option(
        name: [.customShort("u"), .customLong("udp-service")],
        help: ArgumentHelp("The virtual address and port of a UDP service.", valueName: "address:port"))
    var udp: String?

    var address: String? { tcp ?? udp }
    /// What names the service to the director: TCP and UDP may have one address.
    var target: String? { tcp ?? udp.map { $0 + "/udp" } }
    var protocolName: String { udp == nil ? "tcp" : "udp" }
}

/// The options of ipvsadm that describe a service.
struct ServiceOptions: ParsableArguments {
    @OptionGroup var place: ServiceAddress

    @Option(name: .shortAndLong, help: "The dispatch policy, such as wlc.")
    var scheduler: String?

    @Option(
        name: [.customShort("b"), .customLong("sched-flags")],
        help: "Of sh and mh: sh-port, sh-fallback, mh-port, mh-fallback, with commas between.")
    var schedulerFlags: String?

    @Option(
        name: .shortAndLong, defaultAsFlag: 300,
        help: ArgumentHelp("A client keeps its server for so many seconds; 300 when none are given, 0: it does not.", valueName: "seconds"))
    var persistent: Int?

    @Option(name: [.customShort("M"), .long], help: "With --persistent: what of a client's address counts.")
    var netmask: String?

    @Option(help: "duplicate, multicast, selective or owner.")
    var forwarding: String?

    @Option(help: "What a backup may do with the connections of a dead server: none, stream or http.")
    var replay: String?

    func validate() throws {
        guard place.tcp == nil || place.udp == nil else { throw ValidationError("a service is one of TCP or one of UDP") }
        if let persistent, persistent < 0 { throw ValidationError("--persistent: seconds, or 0 for none") }
    }

    func describe(_ request: inout EditRequest, settingAddress: Bool) throws {
        let all = place.address.flatMap(Vocabulary.addressOfAllPorts)
        if settingAddress { request.set("address", text: all ?? place.address) }
        if settingAddress, all != nil { request.set("ports", word: "all") }
        if settingAddress, place.udp != nil { request.set("protocol", word: "udp") }
        request.set("policy", text: scheduler)
        for flag in try schedulerFlags.map(Vocabulary.schedulerFlags) ?? [] {
            request.set("policy.\(flag)", word: "true")
        }
        if persistent == 0 { request.unset("persistence") }
        request.set("persistence.timeout", word: persistent.flatMap { $0 > 0 ? "\($0)s" : nil })
        if let netmask { request.set("persistence.netmask", word: "\(try Vocabulary.netmaskBits(netmask))") }
        request.set("forwarding", text: forwarding)
        request.set("replay", text: replay)
    }
}

struct ServiceAddCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Adds a service while the director runs (ipvsadm -A).")

    @ParentCommand var parent: ServiceCommand
    @OptionGroup var connection: Connection
    @OptionGroup var service: ServiceOptions
    @OptionGroup var edit: EditOptions

    @Argument(help: "The service's name; left out: one that is made of its address.")
    var name: String?

    func run() throws {
        guard let address = service.place.address else { throw ValidationError("name its address with -t or -u") }
        let name = name ?? Vocabulary.name(of: address, protocol: service.place.protocolName)
        var request = EditRequest("add", "service", name)
        try service.describe(&request, settingAddress: true)
        try request.add(edit)
        try request.send(connection, fallback: parent.parent.socket)
    }
}

struct ServiceEditCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "edit", abstract: "Changes a service while the director runs (ipvsadm -E).",
        discussion: "What is not named stays as it is. With a name, -t or -u is another address for it.")

    @ParentCommand var parent: ServiceCommand
    @OptionGroup var connection: Connection
    @OptionGroup var service: ServiceOptions
    @OptionGroup var edit: EditOptions

    @Argument(help: "The service's name; left out: it is the one at the address.")
    var name: String?

    func run() throws {
        guard let target = name ?? service.place.target else {
            throw ValidationError("name the service, or its address with -t or -u")
        }
        var request = EditRequest("edit", "service", target)
        try service.describe(&request, settingAddress: name != nil)
        try request.add(edit)
        try request.send(connection, fallback: parent.parent.socket)
    }
}

struct ServiceDeleteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "del", abstract: "Takes a service away while the director runs (ipvsadm -D).",
        discussion: "Its connections are reset by their next frame.")

    @ParentCommand var parent: ServiceCommand
    @OptionGroup var connection: Connection

    @OptionGroup var place: ServiceAddress

    @Flag(help: "Only show what would change.")
    var dryRun = false

    @Argument(help: "The service's name.")
    var name: String?

    func run() throws {
        guard let target = name ?? place.target else {
            throw ValidationError("name the service, or its address with -t or -u")
        }
        var request = EditRequest("del", "service", target)
        request.add(dryRun: dryRun)
        try request.send(connection, fallback: parent.parent.socket)
    }
}
