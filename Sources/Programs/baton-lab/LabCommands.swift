import ArgumentParser
import Glibc
import LabKit

func failure(_ text: String) {
    let bytes = Array("baton-lab: \(text)\n".utf8)
    _ = write(2, bytes, bytes.count)
}

struct Up: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Build a lab and leave it up.")

    @OptionGroup var lab: LabName
    @Option(help: "How many web servers.")
    var backends = 3
    @Option(help: "The web server: nginx, apache, lighttpd or caddy.")
    var server = "nginx"
    @Option(help: "The replay policy of the service: none, stream or http.")
    var replay = "stream"
    @Option(help: "The directory of baton-director, baton-agent and batonctl. (default: that of baton-lab)")
    var programs: String?
    @Option(help: "The size of /large.bin, such as 200MB or 1GB.")
    var size = ByteCount(200_000_000)
    @Option(help: "How many successors back a back-end up.")
    var backups = 1
    @Flag(help: "Only the network and the web servers, without Baton's daemons.")
    var withoutDaemons = false

    func validate() throws {
        guard WebServerKind(rawValue: server) != nil else {
            throw ValidationError("--server \(server): nginx, apache, lighttpd or caddy")
        }
        guard ["none", "stream", "http"].contains(replay) else {
            throw ValidationError("--replay \(replay): none, stream or http")
        }
    }

    func run() throws {
        var options = LabOptions()
        options.backends = backends
        options.server = WebServerKind(rawValue: server) ?? .nginx
        options.replay = replay
        options.programs = programs
        options.fileSize = size.bytes
        options.backups = backups
        options.daemons = !withoutDaemons
        let console = Console()
        let built = try Lab(name: lab.name, options: options) { console.line($0) }
        // Refused before anything is made: what is there belongs to somebody else, and stays.
        guard !built.isPresent else {
            throw LabError.state("a lab named \"\(lab.name)\" is up already; run `baton-lab down --lab \(lab.name)`")
        }
        do {
            try built.up()
        } catch {
            try? built.down()
            throw error
        }
        console.line(
            "lab \"\(lab.name)\" is up; try: baton-lab exec client --lab \(lab.name) -- curl -I http://\(built.target)/"
        )
    }
}

struct Down: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Take a lab away, with all that belongs to it.")

    @OptionGroup var lab: LabName

    func run() throws { try Lab.down(name: lab.name) }
}

struct Exec: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Run a command in a node; its exit status is ours.")

    @OptionGroup var lab: LabName
    @Argument(help: "The node: client, router, director, web1, ...")
    var node: String
    @Argument(parsing: .postTerminator, help: "The command, after --.")
    var command: [String]

    func run() throws { try Lab.existing(name: lab.name).replaceProcess(in: node, command: command) }
}

struct Kill: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a node fail.",
        discussion: """
            link: its cable is cut. power: every process of it is killed, and its cable cut. app: kill -9 of the web \
            server. freeze: SIGSTOP of everything in it.
            """)

    @OptionGroup var lab: LabName
    @Argument(help: "The node.")
    var node: String
    @Option(help: "How it fails: link, power, app or freeze.")
    var how = KillMode.link

    func run() throws { try Lab.existing(name: lab.name).kill(node, how: how) }
}

struct Revive: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Bring a node back: cable in, thawed, and started again what does not run.")

    @OptionGroup var lab: LabName
    @Argument(help: "The node.")
    var node: String

    func run() throws { try Lab.existing(name: lab.name).revive(node) }
}

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show a lab's nodes and processes.")

    @OptionGroup var lab: LabName
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let status = try Lab.existing(name: lab.name).status()
        if json { return print(try JSONValue.text(status)) }
        print(
            "lab \(status.lab): \(status.ready ? "ready" : "not ready"), \(status.virtualAddress), \(status.directory)")
        for node in status.nodes {
            let processes = node.processes.map { "\($0.role) \($0.running ? String($0.process) : "not running")" }
            let notes = (node.cable == "cut" ? ["cable cut"] : []) + (node.frozen ? ["frozen"] : [])
            let name = node.name + String(repeating: " ", count: max(1, 10 - node.name.count))
            print("  \(name)\(node.address)  \((processes + notes).joined(separator: ", "))")
        }
    }
}
